package totals

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/authz"
	"tollgate/authz/money"
	"tollgate/events"
)

// model is totals by the definition: the sum over the distinct ids.
type model struct {
	floor  time.Time
	events map[string]*event
}

func (m *model) rows(q Query) []Row {
	sums := map[Row]*Counts{}
	if q.GroupBy == 0 {
		sums[Row{}] = &Counts{}
	}
	for _, e := range m.events {
		at := e.at.Truncate(time.Minute)
		from, to := q.From, q.To
		if at.Before(m.floor) {
			at = at.Truncate(time.Hour)
			from = from.Truncate(time.Hour)
			to = to.Add(time.Hour - 1).Truncate(time.Hour)
		}
		from, to = from.Truncate(time.Minute), to.Add(time.Minute-1).Truncate(time.Minute)
		if !q.From.IsZero() && at.Before(from) || !q.To.IsZero() && !at.Before(to) ||
			q.Workspace != "" && q.Workspace != e.workspace || q.Key != "" && q.Key != e.key ||
			q.Only != nil && !q.Only(e.key, e.model) ||
			q.User != "" && q.User != e.user || q.Model != "" && q.Model != e.model {
			continue
		}
		var r Row
		if q.GroupBy&(ByWorkspace|ByKey) != 0 {
			r.Workspace = e.workspace
		}
		if q.GroupBy&ByKey != 0 {
			r.Key = e.key
		}
		if q.GroupBy&ByUser != 0 {
			r.User = e.user
		}
		if q.GroupBy&ByModel != 0 {
			r.Model = e.model
		}
		switch {
		case q.GroupBy&ByMinute != 0:
			r.Start = at
		case q.GroupBy&ByHour != 0:
			r.Start = at.Truncate(time.Hour)
		case q.GroupBy&ByDay != 0:
			r.Start = at.Truncate(24 * time.Hour)
		}
		if sums[r] == nil {
			sums[r] = &Counts{}
		}
		sums[r].add(&e.counts)
	}
	rows := []Row{}
	for r, c := range sums {
		if q.GroupBy != 0 && c.equal(&Counts{}) {
			continue
		}
		r.Counts = *c
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Workspace, b.Workspace), cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.User, b.User), cmp.Compare(a.Model, b.Model))
	})
	return rows
}

// drawQuery draws any query about those in drawEvent.
func drawQuery(t *rapid.T, now time.Time) Query {
	q := Query{GroupBy: Group(rapid.IntRange(0, int(ByMinute)*2-1).Draw(t, "group"))}
	if rapid.Bool().Draw(t, "of a workspace") {
		q.Workspace = rapid.SampledFrom([]string{"w0", "w1", "none"}).Draw(t, "workspace")
		if rapid.Bool().Draw(t, "of a key") {
			q.Key = rapid.SampledFrom([]string{"k0", "k1", "none"}).Draw(t, "key")
		}
	}
	if rapid.Bool().Draw(t, "of a user") {
		q.User = "u1"
	}
	if rapid.Bool().Draw(t, "of a model") {
		q.Model = "m1"
	}
	if rapid.Bool().Draw(t, "only some") {
		q.Only = func(key, model string) bool { return key == "k1" || model == "m0" }
	}
	ago := func(name string) time.Time {
		return now.Add(-time.Duration(rapid.Int64Range(-int64(2*time.Hour), int64(80*time.Hour)).Draw(t, name)))
	}
	if rapid.Bool().Draw(t, "from") {
		q.From = ago("from ago")
	}
	if rapid.Bool().Draw(t, "to") {
		if q.To = ago("to ago"); !q.From.Before(q.To) {
			q.From = time.Time{}
		}
	}
	return q
}

func drawEvent(t *rapid.T, n int, now time.Time) *events.Event {
	at := now.Add(-time.Duration(rapid.Int64Range(0, int64(70*time.Hour)).Draw(t, "ago")))
	if rapid.Bool().Draw(t, "recent") {
		at = now.Add(-time.Duration(rapid.Int64Range(0, int64(5*time.Minute)).Draw(t, "just ago")))
	}
	pick := func(name, of string) string { return fmt.Sprint(of, rapid.IntRange(0, 1).Draw(t, name)) }
	e := usage(fmt.Sprint("id", n), pick("workspace", "w"), pick("key", "k"), pick("model", "m"), at.Truncate(time.Microsecond))
	e.Data.User = rapid.SampledFrom([]string{"", "u1"}).Draw(t, "user")
	e.Data.Measurement = rapid.SampledFrom([]authz.Measurement{authz.Reported, authz.Estimated, authz.None}).Draw(t, "measurement")
	e.Data.InputTokens = rapid.Int64Range(0, 1000).Draw(t, "in")
	e.Data.CacheReadInputTokens = rapid.Int64Range(0, 10).Draw(t, "cached")
	// In the last digit of a sum every part shows; some don't fit into a word.
	cost := rapid.OneOf(rapid.Int64Range(-1000, 1000), rapid.Int64())
	e.Data.Cost = money.New(cost.Draw(t, "cost"), rapid.IntRange(0, 24).Draw(t, "decimals"))
	e.Data.ListCost = money.New(cost.Draw(t, "list cost"), rapid.IntRange(0, 24).Draw(t, "decimals of the list cost"))
	return e
}

// message is an event as some replica published it.
type message struct {
	event *events.Event
	at    events.Position
}

// TestTotalsAreTheSum: for any events of any replicas in any order, with
// repetitions, numbers left out, events without a position, housekeeping at any
// time and a restart from any snapshot, what is answered is the sum over the
// distinct ids.
func TestTotalsAreTheSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := noon
		s, want := newState(), &model{events: map[string]*event{}}
		var all []message     // as the stream has them
		var snapshot []byte   // the last one
		var snapshotAt int    // how many of all it has
		seqs := [3]uint64{}   // of the replicas
		epochs := [3]uint64{} // of the replicas
		fold := func(m message) {
			e, err := parseEvent(m.event.AppendJSON(nil))
			if err != nil {
				t.Fatal(err)
			}
			_, again := want.events[m.event.ID]
			if s.Fold(&e, m.at) == again {
				t.Fatalf("%s at %v: was there before: %v", m.event.ID, m.at, again)
			}
			want.events[m.event.ID] = &e
		}
		store := func(m message) {
			all = append(all, m)
			fold(m)
		}
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"new": func(t *rapid.T) {
				n++
				r := rapid.IntRange(0, 2).Draw(t, "replica")
				m := message{event: drawEvent(t, n, now)}
				if rapid.IntRange(0, 9).Draw(t, "with a position") > 0 {
					seqs[r] += rapid.Uint64Range(1, 3).Draw(t, "step")
					m.at = events.Position{Replica: fmt.Sprint("r", r), Epoch: epochs[r] + 1, Seq: seqs[r]}
				}
				store(m)
			},
			"late truth": func(t *rapid.T) {
				if len(all) == 0 {
					t.Skip()
				}
				of := rapid.SampledFrom(all).Draw(t, "of").event
				if of.Data.Measurement != authz.None || of.Type != events.TypeUsage {
					t.Skip()
				}
				// Each replica may tell it, of its own accord.
				r := rapid.IntRange(0, 2).Draw(t, "replica")
				seqs[r]++
				at := events.Position{Replica: fmt.Sprint("r", r), Epoch: epochs[r] + 1, Seq: seqs[r]}
				store(message{late(of, authz.Reported), at})
			},
			"again": func(t *rapid.T) {
				if len(all) > 0 {
					store(rapid.SampledFrom(all).Draw(t, "which"))
				}
			},
			"out of order": func(t *rapid.T) {
				n += 2
				r := rapid.IntRange(0, 2).Draw(t, "replica")
				at := events.Position{Replica: fmt.Sprint("r", r), Epoch: epochs[r] + 1, Seq: seqs[r] + 2}
				store(message{drawEvent(t, n, now), at})
				at.Seq--
				store(message{drawEvent(t, n-1, now), at})
				seqs[r] += 2
			},
			"replica restarts": func(t *rapid.T) {
				r := rapid.IntRange(0, 2).Draw(t, "replica")
				epochs[r]++
				seqs[r] = 0
			},
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Hour)).Draw(t, "by")))
				s.trim(now)
				want.floor = now.Add(-KeepMinutes).Truncate(time.Hour)
			},
			"snapshot": func(t *rapid.T) {
				var b bytes.Buffer
				if err := s.writeSnapshot(&b, place{seq: uint64(len(all))}); err != nil {
					t.Fatal(err)
				}
				snapshot, snapshotAt = b.Bytes(), len(all)
			},
			"restart": func(t *rapid.T) {
				restored := newState()
				if len(snapshot) > 0 {
					var at place
					var err error
					if restored, at, err = readSnapshot(snapshot); err != nil || at.seq != uint64(snapshotAt) {
						t.Fatalf("%v, at %v", err, at)
					}
				}
				s = restored
				want.events = map[string]*event{}
				for _, m := range all[:snapshotAt] {
					want.events[m.event.ID] = parsedOrFatal(t, m.event)
				}
				for _, m := range all[snapshotAt:] {
					fold(m)
				}
				s.trim(now)
				want.floor = time.Unix(int64(s.floor)*60, 0)
			},
			"": func(t *rapid.T) {
				q := drawQuery(t, now)
				a, err := s.Totals(q)
				if err != nil {
					t.Fatal(err)
				}
				got := slices.DeleteFunc(a.Rows, func(r Row) bool { return q.GroupBy != 0 && r.equal(&Counts{}) })
				if want := want.rows(q); !slices.EqualFunc(got, want, equalRows) {
					t.Fatalf("%+v:\n got %+v\nwant %+v", q, got, want)
				}
			},
		})
	})
}

func parsedOrFatal(t *rapid.T, e *events.Event) *event {
	p, err := parseEvent(e.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

func equalRows(a, b Row) bool {
	same := a.Start.Equal(b.Start)
	same = same && a.equal(&b.Counts)
	a.Start, b.Start, a.Counts, b.Counts = time.Time{}, time.Time{}, Counts{}, Counts{}
	return same && a == b
}

func TestOfKey(t *testing.T) {
	s := newState()
	if got := s.OfKey("w", "k"); got.Requests != 0 || !got.LastUsed.IsZero() || len(got.ByModel) != 0 {
		t.Errorf("of nobody: %+v", got)
	}
	first, second := usage("1", "w", "k", "a", noon), usage("2", "w", "k", "b", noon.Add(time.Hour))
	second.Data.Measurement = authz.Estimated
	third := unknown(usage("3", "w", "k", "b", noon.Add(-time.Hour)))
	for i, e := range []*events.Event{first, second, third, late(third, authz.Estimated), usage("4", "w", "other", "a", noon), usage("5", "v", "k", "a", noon)} {
		if !s.Fold(parsed(t, e), events.Position{Replica: "r", Epoch: 1, Seq: uint64(i + 1)}) {
			t.Errorf("event %d is not new", i)
		}
	}
	s.trim(noon.Add(100 * time.Hour))
	got := s.OfKey("w", "k")
	want := Counts{Requests: 3, InputTokens: 27, OutputTokens: 13, EstimatedRequests: 2, EstimatedInputTokens: 17, EstimatedOutputTokens: 8}
	if got.Counts != want {
		t.Errorf("got %+v, want %+v", got.Counts, want)
	}
	if !got.FirstUsed.Equal(noon.Add(-time.Hour)) || !got.LastUsed.Equal(noon.Add(time.Hour)) {
		t.Errorf("used from %s to %s", got.FirstUsed, got.LastUsed)
	}
	if len(got.ByModel) != 2 || got.ByModel["a"].Requests != 1 || got.ByModel["b"].Requests != 2 {
		t.Errorf("by model: %+v", got.ByModel)
	}
}

func TestQueryBounds(t *testing.T) {
	s := newState()
	s.trim(noon)
	for i, at := range []time.Time{noon.Add(-72*time.Hour + 30*time.Minute), noon.Add(-30 * time.Minute)} {
		s.Fold(parsed(t, usage(fmt.Sprint(i), "w", "k", "m", at)), events.Position{})
	}
	// A week ago at half past: rounded to the hour, and told so.
	from := noon.Add(-72*time.Hour + 40*time.Minute)
	a, err := s.Totals(Query{From: from, To: noon.Add(-29*time.Minute - time.Second)})
	if err != nil || a.Rows[0].Requests != 2 || !a.From.Equal(noon.Add(-72*time.Hour)) || !a.To.Equal(noon.Add(-29*time.Minute)) {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = s.Totals(Query{To: noon.Add(-71*time.Hour - 40*time.Minute)})
	if err != nil || a.Rows[0].Requests != 1 || !a.From.IsZero() || !a.To.Equal(noon.Add(-71*time.Hour)) {
		t.Errorf("%+v, %v", a, err)
	}
	for _, q := range []Query{{Key: "k"}, {From: noon, To: noon}, {From: noon, To: noon.Add(-1)}} {
		if _, err := s.Totals(q); err == nil {
			t.Errorf("%+v is answered", q)
		}
	}
	if rows := answer(t, s, Query{Workspace: "nobody", GroupBy: ByModel}); len(rows) != 0 {
		t.Errorf("of nobody: %+v", rows)
	}
	for i := range MaxRows + 1 {
		e := event{id: fmt.Sprint("x", i), workspace: "w", key: fmt.Sprint(i), at: noon, counts: Counts{Requests: 1}}
		s.Fold(&e, events.Position{Replica: "r", Epoch: 1, Seq: uint64(i + 1)})
	}
	if _, err := s.Totals(Query{GroupBy: ByKey}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large answer: %v", err)
	}
	if rows := answer(t, s, Query{Workspace: "w"}); rows[0].Requests != MaxRows+3 {
		t.Errorf("%d requests", rows[0].Requests)
	}
}

// What is older than KeepMinutes is told and kept by the hour, whether it was put
// together already or comes only then.
func TestMinutesBecomeHours(t *testing.T) {
	s := newState()
	s.trim(noon)
	seq := uint64(0)
	fold := func(at time.Time) {
		seq++
		s.Fold(parsed(t, usage(fmt.Sprint(seq), "w", "k", "m", at)), events.Position{Replica: "r", Epoch: 1, Seq: seq})
	}
	begin := noon.Add(-KeepMinutes)
	for i := range 10 {
		fold(begin.Add(time.Duration(i) * 5 * time.Minute))
	}
	if rows := answer(t, s, Query{GroupBy: ByMinute}); len(rows) != 10 || !rows[1].Start.Equal(begin.Add(5*time.Minute)) {
		t.Errorf("by the minute: %+v", rows)
	}
	s.trim(noon.Add(5 * time.Minute))
	packed := len(s.series[0].packed)
	s.trim(noon.Add(2 * time.Hour)) // stays packed by the minute until it is worth while
	if rows := answer(t, s, Query{GroupBy: ByMinute}); len(rows) != 1 || !rows[0].Start.Equal(begin) || rows[0].Requests != 10 {
		t.Errorf("two hours later: %+v", rows)
	}
	if now := len(s.series[0].packed); now != packed {
		t.Errorf("packed anew: %d bytes became %d", packed, now)
	}
	s.trim(noon.Add(12 * time.Hour))
	if now := len(s.series[0].packed); now > packed/3 {
		t.Errorf("ten minutes took %d bytes, one hour takes %d", packed, now)
	}
	for i := range 10 {
		fold(begin.Add(time.Duration(i) * 5 * time.Minute))
	}
	if n := len(s.series[0].hot); n != 1 {
		t.Errorf("an hour that comes late takes %d entries", n)
	}
}

// An event without a position is recognised by its id among the newest such; one
// with a position also if its first copy had none, as before an upgrade.
func TestIDs(t *testing.T) {
	s := newState()
	fold := func(i int, p events.Position) bool {
		return s.Fold(&event{id: fmt.Sprint(i), workspace: "w", key: "k", at: noon, counts: Counts{Requests: 1}}, p)
	}
	for i := range maxIDs + 1 {
		if !fold(i, events.Position{}) {
			t.Fatalf("%d is not new", i)
		}
	}
	for i := 1; i <= maxIDs; i += 1000 {
		if fold(i, events.Position{}) {
			t.Errorf("%d is new again", i)
		}
	}
	if !fold(0, events.Position{}) {
		t.Error("the oldest is still known: what bounds the ids?")
	}
	at := events.Position{Replica: "r", Epoch: 1, Seq: 9}
	if fold(5000, at) {
		t.Error("published anew with a position, it is new")
	}
	for i := range maxIDs {
		fold(1_000_000+i, events.Position{})
	}
	if fold(5000, at) {
		t.Error("when the id is forgotten, the position is too")
	}
	if len(s.seen.ids) != maxIDs || len(s.seen.ring) != maxIDs {
		t.Errorf("%d ids are kept", len(s.seen.ids))
	}
}

// Epochs are bounded; those that were used last stay.
func TestEpochsBounded(t *testing.T) {
	s := newSeen()
	for i := range uint64(maxEpochs + 100) {
		if !s.epoch(epoch{"r", i}).add(1) {
			t.Fatalf("epoch %d is not new", i)
		}
		s.epoch(epoch{"often", 0}).add(i + 1)
	}
	if len(s.epochs) > maxEpochs {
		t.Errorf("%d epochs are kept", len(s.epochs))
	}
	if s.epoch(epoch{"often", 0}).add(1) || s.epoch(epoch{"r", maxEpochs}).add(1) {
		t.Error("an epoch in use was forgotten")
	}
}

func TestParseEventRefuses(t *testing.T) {
	good := usage("1", "w", "k", "m", noon)
	for what, change := range map[string]func(*events.Event){
		"another type": func(e *events.Event) { e.Type = "tollgate.usage.v2" },
		"no id":        func(e *events.Event) { e.ID = "" },
		"no workspace": func(e *events.Event) { e.Data.Workspace = "" },
		"no time":      func(e *events.Event) { e.Time = time.Time{} },
	} {
		e := *good
		change(&e)
		if _, err := parseEvent(e.AppendJSON(nil)); err == nil {
			t.Errorf("%s: it is counted", what)
		}
	}
}

// Every form of event that was ever written is counted.
func TestFrozenEventsCount(t *testing.T) {
	files, err := filepath.Glob("../testdata/*-v1*.json")
	if err != nil {
		t.Fatal(err)
	}
	s := newState()
	var usages, adjusted int64
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		switch name := filepath.Base(file); {
		case strings.HasPrefix(name, "usage-"):
			usages++
		case strings.HasPrefix(name, "adjusted-"):
			adjusted++
		default:
			continue
		}
		e, err := parseEvent(b)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		// Some of the samples have one id.
		if !s.Fold(&e, events.Position{Replica: "r", Epoch: 1, Seq: uint64(usages + adjusted)}) {
			t.Errorf("%s is not new", file)
		}
	}
	if rows := answer(t, s, Query{}); usages < 4 || adjusted != 2 || rows[0].Requests != usages {
		t.Errorf("%d requests of %d events", rows[0].Requests, usages)
	}
	if rows := answer(t, s, Query{GroupBy: ByKey}); rows[0].Key != "" || rows[0].Requests != 1 {
		t.Errorf("without a key: %+v", rows[0])
	}
}

// Any bytes are an event that can be counted, or an error.
func FuzzParseEvent(f *testing.F) {
	f.Add(usage("1", "w", "k", "m", noon).AppendJSON(nil))
	f.Add(late(usage("1", "w", "k", "m", noon), authz.Estimated).AppendJSON(nil))
	f.Add([]byte(`{"n":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEvent(b)
		if err != nil {
			return
		}
		s := newState()
		if !s.Fold(&e, events.Position{}) || s.Fold(&e, events.Position{}) {
			t.Error("it doesn't count once")
		}
		s.trim(noon.Add(1000 * time.Hour))
		if rows := answer(t, s, Query{}); rows[0].Counts != e.counts {
			t.Errorf("%+v became %+v", e.counts, rows[0].Counts)
		}
	})
}
