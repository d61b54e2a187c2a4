package authz

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/limit"
	"tollgate/authz/money"
	"tollgate/authz/reason"
)

func TestMeasure(t *testing.T) {
	a := &Admission{ID: "a", Model: "m", InputEstimate: 10, OutputEstimate: 100}
	said := Tokens{Input: 7, Output: 3, CacheRead: 2}
	for _, c := range []struct {
		name string
		seen Observation
		want Usage
	}{
		{"answered", Observation{Status: 200, Flags: "-", Reported: true, Tokens: said},
			Usage{Outcome: Completed, Measurement: Reported, Tokens: said, Status: 200}},
		{"a known zero stays zero", Observation{Status: 200, Reported: true, Bytes: 400, Complete: true},
			Usage{Outcome: Completed, Measurement: Reported, Status: 200}},
		{"a stream without usage", Observation{Status: 200, Events: 12, Complete: true},
			Usage{Outcome: Completed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 12}, Status: 200}},
		{"an answer without usage", Observation{Status: 200, Bytes: 80, Complete: true},
			Usage{Outcome: Completed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 20}, Status: 200}},
		{"never more than was reserved", Observation{Status: 200, Bytes: 1 << 30, Complete: true},
			Usage{Outcome: Completed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 100}, Status: 200}},
		{"hung up in the middle", Observation{Status: 200, Flags: "DC", Events: 4},
			Usage{Outcome: ClientClosed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 4}, Status: 200}},
		{"hung up after it was told what went in", Observation{Status: 200, Flags: "DC", Events: 4, Partly: true, Tokens: Tokens{Input: 46, CacheRead: 30, CacheCreation: 5, Output: 1}},
			Usage{Outcome: ClientClosed, Measurement: Estimated, Tokens: Tokens{Input: 46, CacheRead: 30, CacheCreation: 5, Output: 4}, Status: 200}},
		{"hung up after more was told than passed", Observation{Status: 200, Flags: "DC", Events: 4, Partly: true, Tokens: Tokens{Input: 46, Output: 90, Reasoning: 70}},
			Usage{Outcome: ClientClosed, Measurement: Estimated, Tokens: Tokens{Input: 46, Output: 90, Reasoning: 70}, Status: 200}},
		{"hung up after it was told that nothing went in so far", Observation{Status: 200, Flags: "DC", Events: 4, Partly: true, Tokens: Tokens{Output: 6}},
			Usage{Outcome: ClientClosed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 6}, Status: 200}},
		{"upstream ends a stream that it told of only at the start", Observation{Status: 200, Events: 4, Complete: true, Partly: true, Tokens: Tokens{Input: 46, Output: 1}},
			Usage{Outcome: Completed, Measurement: Estimated, Tokens: Tokens{Input: 46, Output: 4}, Status: 200}},
		{"hung up before the answer", Observation{Flags: "DC"},
			Usage{Outcome: ClientClosed, Measurement: Estimated, Tokens: Tokens{Input: 10}}},
		{"hung up after the usage was stated", Observation{Status: 200, Flags: "DC", Reported: true, Events: 5, Tokens: said},
			Usage{Outcome: Completed, Measurement: Reported, Tokens: said, Status: 200}},
		{"hung up in the middle of an answer in one piece", Observation{Status: 200, Flags: "DC", Bytes: 40},
			Usage{Outcome: ClientClosed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 10}, Status: 200}},
		{"hung up while an error was told", Observation{Status: 500, Flags: "DC", Bytes: 40},
			Usage{Outcome: UpstreamError, Measurement: Estimated, Status: 500}},
		{"broke HTTP in the middle", Observation{Status: 200, Flags: "DPE", Events: 4},
			Usage{Outcome: ClientClosed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 4}, Status: 200}},
		{"upstream breaks off after it stated the usage", Observation{Status: 200, Flags: "UPE", Reported: true, Tokens: said},
			Usage{Outcome: UpstreamError, Measurement: Reported, Tokens: said, Status: 200}},
		{"upstream breaks off an answer in one piece", Observation{Status: 200, Flags: "UPE", Bytes: 40},
			Usage{Outcome: UpstreamError, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 10}, Status: 200}},
		{"upstream breaks off before the answer", Observation{Status: 503, Flags: "UC", Bytes: 136, Complete: true},
			Usage{Outcome: UpstreamError, Measurement: Estimated, Status: 503}},
		{"too long in the middle", Observation{Status: 200, Details: durationOver, Events: 4},
			Usage{Outcome: UpstreamError, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 4}, Status: 200}},
		{"too long before the answer", Observation{Status: 504, Details: durationOver, Bytes: 114, Complete: true},
			Usage{Outcome: UpstreamError, Measurement: Estimated, Tokens: Tokens{Input: 10}, Status: 504}},
		{"the proxy ends in the middle", Observation{Status: 200, Flags: "DC", Details: proxyEnded + "(why)", Events: 4},
			Usage{Outcome: UpstreamError, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 4}, Status: 200}},
		{"upstream down", Observation{Status: 503, Flags: "UF,URX", Upstream: "u:1", Complete: true, Bytes: 91},
			Usage{Outcome: NotSent, Measurement: Estimated, Status: 503}},
		{"upstream was chosen and is down", Observation{Status: 503, Flags: "UF", Upstream: "u:1"},
			Usage{Outcome: NotSent, Measurement: Estimated, Status: 503}},
		{"hung up before an upstream was chosen", Observation{Flags: "DC"},
			Usage{Outcome: NotSent, Measurement: Estimated}},
		{"taken back", Observation{}, Usage{Outcome: NotSent, Measurement: Estimated}},
		{"no healthy host", Observation{Status: 503, Flags: "UH"},
			Usage{Outcome: NotSent, Measurement: Estimated, Status: 503}},
		{"upstream says 500", Observation{Status: 500, Flags: "-", Bytes: 60, Complete: true},
			Usage{Outcome: UpstreamError, Measurement: Estimated, Status: 500}},
		{"upstream says 500 and what it used", Observation{Status: 500, Reported: true, Tokens: said},
			Usage{Outcome: UpstreamError, Measurement: Reported, Tokens: said, Status: 500}},
		{"upstream breaks off", Observation{Status: 200, Flags: "UC", Events: 5},
			Usage{Outcome: UpstreamError, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 5}, Status: 200}},
		{"upstream refuses", Observation{Status: 400, Bytes: 60, Complete: true},
			Usage{Outcome: Completed, Measurement: Estimated, Status: 400}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Admission = a
			if c.want.Outcome != NotSent {
				c.seen.Upstream, c.want.Upstream = "u:1", "u:1"
			}
			if got := Measure(a, c.seen, new(Estimator)); !reflect.DeepEqual(*got, c.want) {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
		})
	}
}

// ledger is a Ledger in memory that refuses what must never happen.
type ledger struct {
	t      testing.TB
	open   map[string]bool
	closed []*Usage
	late   []*Usage
	err    error
}

func newLedger(t testing.TB) *ledger { return &ledger{t: t, open: map[string]bool{}} }

func (l *ledger) Admit(a *Admission, written []byte) error {
	if l.err != nil {
		return l.err
	}
	if _, seen := l.open[a.ID]; seen {
		l.t.Errorf("admission %s was written down twice", a.ID)
	}
	if _, err := ParseAdmission(written); err != nil {
		l.t.Errorf("what was written down can't be read: %v", err)
	}
	l.open[a.ID] = true
	return nil
}

func (l *ledger) Close(u *Usage) (bool, error) {
	if l.err != nil {
		return false, l.err
	}
	if !l.open[u.Admission.ID] {
		return false, nil
	}
	l.open[u.Admission.ID] = false
	l.closed = append(l.closed, u)
	return true, nil
}

func (l *ledger) Adjust(u *Usage) error {
	if l.err != nil {
		return l.err
	}
	l.late = append(l.late, u)
	return nil
}

// A settlement of an admission that was closed as unknown is an adjustment, once,
// however often it is delivered; one that the ledger could not take comes again.
func TestLateTruth(t *testing.T) {
	now := time.Now()
	l := newLedger(t)
	dropped := 0
	s := &Settler{
		Replica: "r1", Sealer: sealer(t, 1, 1), Ledger: l, Limits: limit.NewLocal(now), Estimator: new(Estimator),
		Dropped: func(string) { dropped++ },
	}
	a := &Admission{
		ID: "a", Replica: "r1", Key: "k", Model: "m", Reserved: limit.Grant{At: now, Tokens: 60},
		InputEstimate: 60, Rates: []Rate{{Unit: "input", Price: money.New(1, 0)}}, Multiplier: money.New(5, 1), Billing: catalog.Billing{ChargeUnsettled: true},
	}
	written := a.AppendBinary(nil)
	if err := l.Admit(a, written); err != nil {
		t.Fatal(err)
	}
	if err := s.Abandon(now, a); err != nil {
		t.Fatal(err)
	}
	if len(l.closed) != 1 || l.closed[0].Outcome != Unknown || l.closed[0].Measurement != None {
		t.Fatalf("abandoned: %+v", l.closed)
	}
	truth := Observation{Status: 200, Upstream: "u", Reported: true, Tokens: Tokens{Input: 7, Output: 3}}
	l.err = errors.New("disk full")
	if err := s.Settle(t.Context(), now, s.Sealer.Seal(written), truth); !errors.Is(err, ErrRetry) {
		t.Fatalf("while nothing can be written: %v", err)
	}
	l.err = nil
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.Settle(t.Context(), now, s.Sealer.Seal(written), truth); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(l.closed) != 1 || len(l.late) != 1 || l.late[0].Tokens != truth.Tokens || l.late[0].Outcome != Completed {
		t.Errorf("%d events, adjustments %+v", len(l.closed), l.late)
	}
	charged := Charge{List: money.New(60, 6), Cost: money.New(30, 6)}
	if l.closed[0].Charge() != charged || l.late[0].Before != charged || l.late[0].Cost.String() != "0.0000035" {
		t.Errorf("charged %+v, then %+v, which turned out to be %s", l.closed[0].Charge(), l.late[0].Before, l.late[0].Cost)
	}
}

// The memory of abandoned admissions is bounded: the oldest go.
func TestAbandonedIsBounded(t *testing.T) {
	var s abandoned
	id := func(n int) string { return fmt.Sprint(n) }
	for n := range MaxAbandoned + 10 {
		s.add(id(n), Charge{List: money.New(int64(n), 0)})
		if n%3 == 0 {
			s.remove(id(n)) // which must not make a newer one go in its place
		}
	}
	if len(s.order) != MaxAbandoned || len(s.known) > MaxAbandoned {
		t.Errorf("%d places, %d known", len(s.order), len(s.known))
	}
	for n, want := range map[int]bool{1: false, 11: true, 12: false, MaxAbandoned + 9: true} {
		charged, ok := s.remove(id(n))
		if ok != want || ok && charged.List.Cmp(money.New(int64(n), 0)) != 0 {
			t.Errorf("%d: %v, with %v", n, ok, charged)
		}
	}
	if _, ok := s.remove(id(11)); ok {
		t.Error("one is known twice")
	}
}

func TestSettlementCountsOnce(t *testing.T) {
	now := time.Now()
	limits := limit.NewLocal(now)
	l := newLedger(t)
	var dropped []string
	s := &Settler{
		Replica: "r1", Sealer: sealer(t, 1, 1), Ledger: l, Limits: limits, Estimator: new(Estimator),
		Dropped: func(why string) { dropped = append(dropped, why) },
	}
	var v limit.Verdict
	demands := []limit.Demand{{Scope: limit.Key, Tenant: "k", Tokens: 100, Concurrent: 1}}
	limits.Reserve(now, demands, 60, &v)
	a := &Admission{ID: "a", Replica: "r1", Key: "k", Model: "m", Reserved: limit.Grant{At: now, Tokens: 60, Counted: v.Counted}}
	written := a.AppendBinary(nil)
	if err := l.Admit(a, written); err != nil {
		t.Fatal(err)
	}
	token := s.Sealer.Seal(written)

	l.err = errors.New("disk full")
	if err := s.Settle(t.Context(), now, token, Observation{Status: 200, Reported: true}); !errors.Is(err, ErrRetry) {
		t.Fatalf("while nothing can be written: %v", err)
	}
	l.err = nil
	for range 3 {
		if err := s.Settle(t.Context(), now, token, Observation{Status: 200, Reported: true, Tokens: Tokens{Input: 20, Output: 5}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.closed) != 1 || len(dropped) != 2 {
		t.Errorf("%d events and %d dropped of three settlements", len(l.closed), len(dropped))
	}
	limits.Peek(now, demands, 75, &v)
	if v.Reason != 0 || v.Tokens.Remaining != 75 {
		t.Errorf("after 25 of 100 were used: %+v", v)
	}

	if err := s.Settle(t.Context(), now, "nonsense", Observation{}); err != nil {
		t.Errorf("a token that isn't one must not be brought again: %v", err)
	}
	foreign := *a
	foreign.ID, foreign.Replica = "b", "r2"
	if err := s.Settle(t.Context(), now, s.Sealer.Seal(foreign.AppendBinary(nil)), Observation{}); err != nil {
		t.Error(err)
	}
	if len(dropped) != 4 || dropped[2] != "token" || dropped[3] != "foreign" {
		t.Errorf("dropped %v", dropped)
	}
}

// Another replica's admission goes to who brings it there, and back to Envoy where
// that one can't take it; it closes nothing here.
func TestForeignSettlements(t *testing.T) {
	now := time.Now()
	l := newLedger(t)
	type told struct {
		a *Admission
		o Observation
	}
	var taken []told
	var refuse error
	s := &Settler{
		Replica: "r1", Sealer: sealer(t, 1, 1), Ledger: l, Limits: limit.NewLocal(now), Estimator: new(Estimator),
		Dropped: func(why string) { t.Errorf("dropped: %s", why) },
		Foreign: func(a *Admission, o Observation) error {
			if refuse == nil {
				taken = append(taken, told{a, o})
			}
			return refuse
		},
	}
	a := &Admission{ID: "a", Replica: "r2", Key: "k", Model: "m"}
	token, seen := s.Sealer.Seal(a.AppendBinary(nil)), Observation{Status: 200, Events: 3}
	refuse = errors.New("disk full")
	if err := s.Settle(t.Context(), now, token, seen); !errors.Is(err, ErrRetry) || !errors.Is(err, refuse) {
		t.Errorf("while it can't be taken: %v", err)
	}
	refuse = nil
	if err := s.Settle(t.Context(), now, token, seen); err != nil {
		t.Error(err)
	}
	if len(taken) != 1 || taken[0].a.ID != "a" || taken[0].a.Replica != "r2" || !reflect.DeepEqual(taken[0].o, seen) || len(l.closed) != 0 {
		t.Errorf("taken %+v, closed %d", taken, len(l.closed))
	}
}

// What another replica has closed gives its slot back once; the truth about it is
// an adjustment only where that replica did not know it.
func TestClosedElsewhere(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		measurement Measurement
		late        int
	}{{Reported, 0}, {None, 1}} {
		l := newLedger(t)
		s := &Settler{Replica: "r1", Sealer: sealer(t, 1, 1), Ledger: l, Limits: limit.NewLocal(now), Estimator: new(Estimator)}
		demands := []limit.Demand{{Scope: limit.Key, Tenant: "k", Concurrent: 2}}
		var v limit.Verdict
		s.Limits.Reserve(now, demands, 0, &v)
		s.Limits.Reserve(now, demands, 0, &v) // somebody else's
		a := &Admission{ID: "a", Replica: "r1", Key: "k", Model: "m", Reserved: limit.Grant{At: now, Counted: v.Counted}}
		open, failure := true, errors.New("disk full")
		release := func(u *Usage) (bool, error) {
			was := open
			open = false
			if u.Admission != a {
				t.Errorf("released %+v", u)
			}
			return was, failure
		}
		u := &Usage{Admission: a, Outcome: Completed, Measurement: c.measurement}
		if err := s.Elsewhere(now, u, release); !errors.Is(err, ErrRetry) {
			t.Errorf("while it can't be released: %v", err)
		}
		open, failure = true, nil
		for range 2 {
			if err := s.Elsewhere(now, u, release); err != nil {
				t.Error(err)
			}
		}
		for n := range 2 {
			if s.Limits.Reserve(now, demands, 0, &v); (v.Reason == reason.None) != (n == 0) {
				t.Errorf("of two slots one was given back; request %d: %v", n, v.Reason)
			}
		}
		for range 2 {
			if err := s.Settle(t.Context(), now, s.Sealer.Seal(a.AppendBinary(nil)), Observation{Status: 200, Reported: true, Upstream: "u"}); err != nil {
				t.Error(err)
			}
		}
		if len(l.closed) != 0 || len(l.late) != c.late {
			t.Errorf("after it was closed with %s elsewhere: %d events, %d adjustments", c.measurement, len(l.closed), len(l.late))
		}
	}
}

func TestEstimatorLearns(t *testing.T) {
	var e Estimator
	for range 200 {
		e.Learn("m", 1000, Tokens{Input: 400, Output: 50}, 10)
		e.LearnAnswer("m", "w", 500)
		e.LearnAnswer("m", "short", 1)
	}
	if got := e.Prompt("m", 1000); got < 395 || got > 401 {
		t.Errorf("a prompt that has 400 tokens is estimated at %d", got)
	}
	if got := e.Answer("m", "w"); got < 499 || got > 501 {
		t.Errorf("answers of 500 tokens are estimated at %d", got)
	}
	if got := e.Answer("m", "short"); got != leastAnswerTokens {
		t.Errorf("answers of one token are estimated at %d", got)
	}
	if got := e.Answer("m", "other"); got != firstAnswerTokens {
		t.Errorf("another workspace's answers decide: %d", got)
	}
	if got := e.Streamed("m", 17); got != 100 {
		t.Errorf("of ten events, the last one without text, that carry 50 tokens are learned; 17 are estimated at %d", got)
	}
	if got := e.Prompt("other", 1000); got != 250 {
		t.Errorf("a model that nothing is known of: %d", got)
	}
}

// Hang-ups are estimated within 10 % in all, where chunks carry 1 to 8 tokens and
// answers are short, and by what was learned before a restart too.
func TestEstimateOfHangUps(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	// stream is an answer's pieces, and the event that ends it.
	stream := func() (pieces []int64, tokens int64) {
		for left := int64(8 + r.IntN(56)); left > 0; {
			n := min(1+r.Int64N(8), left)
			pieces, tokens, left = append(pieces, n), tokens+n, left-n
		}
		return append(pieces, 0), tokens
	}
	var e Estimator
	for range 300 {
		pieces, tokens := stream()
		e.Learn("m", 100, Tokens{Input: 20, Output: tokens}, int64(len(pieces)))
	}
	var after Estimator
	after.Recall(e.Learned())
	for name, e := range map[string]*Estimator{"before": &e, "after a restart": &after} {
		var passed, estimated int64
		for range 2000 {
			pieces, _ := stream()
			cut := r.IntN(len(pieces) + 1)
			for _, n := range pieces[:cut] {
				passed += n
			}
			estimated += e.Streamed("m", int64(cut))
		}
		off := float64(estimated-passed) / float64(passed)
		t.Logf("%s: %d tokens passed, %d estimated: %+.1f %%", name, passed, estimated, 100*off)
		if math.Abs(off) > 0.1 {
			t.Errorf("%s: the estimate is off by %+.1f %%", name, 100*off)
		}
	}
	if e.Prompt("m", 1000) != after.Prompt("m", 1000) {
		t.Error("a restart changed what is known of prompts or answers")
	}
	after.Recall([]Learned{{Model: "m", TokensPerByte: math.NaN(), StreamTokens: math.Inf(1), StreamEvents: 1}})
	if got := after.Streamed("m", 10); got < 40 || got > 50 {
		t.Errorf("figures that can't be right were taken: ten events are %d tokens", got)
	}
}

func TestRestartGivesNoQuotaBack(t *testing.T) {
	a, _ := newAuthorizer(t)
	s := &Settler{Limits: a.Limits}
	for i := range 5 {
		s.Recount(start, a.Tables(), start.Add(-time.Duration(i)*time.Second), "demo", "id-of-good", "", "small/one", 10)
	}
	s.Recount(start, a.Tables(), start.Add(-time.Hour), "demo", "id-of-good2", "", "small/one", 10)
	s.Recount(start, a.Tables(), start, "no-such", "id-of-good2", "", "small/one", 10)
	var d Decision
	a.Check(t.Context(), start, post("good", chat("meta-llama/Llama")), &d)
	if d.Reason != reason.RateLimitExceeded {
		t.Errorf("the sixth of five, over a restart: %v", d.Reason)
	}
	a.Check(t.Context(), start, post("good2", `{"model":"small/one","max_tokens":51,"messages":[]}`), &d)
	if d.Reason != reason.TokenLimitExceeded {
		t.Errorf("51 tokens of 100 of which 50 are used, over a restart: %v", d.Reason)
	}
	if a.Check(t.Context(), start, post("good2", `{"model":"small/one","max_tokens":50,"messages":[]}`), &d); d.Admission == nil {
		t.Errorf("50 tokens of 100 of which 50 are used: %s", d.Response.Body)
	}
}
