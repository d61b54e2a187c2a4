package events

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/authz"
)

// storedUsage are admissions 0…n-1, of three models: of each one thing is stored.
func storedUsage(t *testing.T, u *Usage, n int) []*authz.Admission {
	t.Helper()
	var batch []Outgoing
	put := func(e Event, subject string) {
		batch = append(batch, Outgoing{Subject: subject, MsgID: MsgID(e.Source, e.ID), Payload: e.AppendJSON(nil)})
	}
	var all []*authz.Admission
	for i := range n {
		a := admission(fmt.Sprint("a", i), "")
		a.Start, a.Model = time.Now(), fmt.Sprint("m", i%3)
		all = append(all, a)
		source := Source("test")
		if i%4 == 0 {
			continue // nothing of it
		}
		e := FromUsage(source, told(a))
		if i%4 > 1 {
			e = FromUsage(source, unknown(a))
		}
		put(e, Subject(a.Workspace, a.Key, a.Model))
		if i%4 == 3 {
			e := Adjustment(source, told(a))
			put(e, AdjustedSubject(a.Workspace, a.Key, a.Model))
		}
	}
	publish(t, u, batch)
	return all
}

func soughtAll(all []*authz.Admission) []Sought {
	var sought []Sought
	for _, a := range all {
		sought = append(sought, Sought{MsgID: MsgID(Source("test"), a.ID), Subject: Subject(a.Workspace, a.Key, a.Model), Start: a.Start})
	}
	return sought
}

// A look finds exactly what is stored, whether it reads everything or only some
// subjects.
func TestLook(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u, err := OpenUsage(t.Context(), nc, UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	empty, _, err := NewSharedUsage(u).Look(t.Context(), soughtAll([]*authz.Admission{admission("1", "")}), time.Time{})
	if err != nil || empty[0] != (Found{}) {
		t.Errorf("in an empty stream: %+v, %v", empty, err)
	}
	all := storedUsage(t, u, 2400)
	for name, most := range map[string]uint64{"all": lookAll, "some": 100} {
		t.Run(name, func(t *testing.T) {
			s := NewSharedUsage(u)
			s.all = most
			sought := soughtAll(all[:1600])
			begin := time.Now()
			found, at, err := s.Look(t.Context(), sought, begin)
			if err != nil {
				t.Fatal(err)
			}
			if at.Before(begin) || at.After(time.Now()) {
				t.Errorf("as it was at %v", at)
			}
			for i, f := range found {
				usage := f.Of(all[i])
				want := [...]authz.Measurement{"", authz.Reported, authz.None, authz.None}[i%4]
				if (usage != nil) != (i%4 > 0) || usage != nil && usage.Measurement != want || f.Adjusted != (i%4 == 3) {
					t.Fatalf("admission %d: %+v, adjusted %v", i, usage, f.Adjusted)
				}
			}
		})
	}
}

// What was seen answers later looks, but none that asks for what came after.
func TestLookRemembers(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u, err := OpenUsage(t.Context(), nc, UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	all := storedUsage(t, u, 8)
	s := NewSharedUsage(u)
	s.all = 4 // of some subjects
	look := func(a *authz.Admission, after time.Time) (Found, time.Time) {
		t.Helper()
		found, at, err := s.Look(t.Context(), soughtAll([]*authz.Admission{a}), after)
		if err != nil {
			t.Fatal(err)
		}
		return found[0], at
	}
	_, first := look(all[0], time.Time{})
	if _, at := look(all[3], time.Time{}); !at.Equal(first) {
		t.Error("the same subject was read again")
	}
	if f, at := look(all[1], time.Time{}); at.Equal(first) || f.Usage == nil {
		t.Error("another subject was not read")
	}
	earlier := *all[1]
	earlier.Start = earlier.Start.Add(-time.Minute)
	_, before := look(all[1], time.Time{})
	if _, at := look(&earlier, time.Time{}); at.Equal(before) {
		t.Error("what came earlier was not read")
	}
	f, _ := look(all[4], time.Time{})
	if f.Usage != nil {
		t.Fatalf("%+v", f)
	}
	e := FromUsage(Source("test"), told(all[4]))
	publish(t, u, []Outgoing{{Subject: Subject("demo", "k", all[4].Model), MsgID: MsgID(e.Source, e.ID), Payload: e.AppendJSON(nil)}})
	if f, _ = look(all[4], time.Time{}); f.Usage != nil {
		t.Error("it was read again though that was not asked for")
	}
	if f, _ = look(all[4], time.Now()); f.Usage == nil {
		t.Error("what came since was not seen")
	}
}

// A look that could not read everything is an error, never an answer.
func TestLookWithoutNATS(t *testing.T) {
	r := newRemote(t)
	u, err := OpenUsage(t.Context(), r.connect(), UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	all := storedUsage(t, u, 40)
	s := NewSharedUsage(u)
	r.proxy.swallow(false, true)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := s.Look(ctx, soughtAll(all), time.Time{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without an answer: %v", err)
	}
	r.proxy.heal()
	eventually(t, "a look works again", func() bool {
		found, _, err := s.Look(t.Context(), soughtAll(all), time.Now())
		return err == nil && found[1].Usage != nil
	})
	// Somebody removes the newest message by hand: there is no end to read up to.
	info, err := u.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := u.stream.DeleteMsg(t.Context(), info.State.LastSeq); err != nil {
		t.Fatal(err)
	}
	for _, most := range []uint64{lookAll, 4} {
		s.all = most
		if found, _, err := s.Look(t.Context(), soughtAll(all), time.Now()); err != nil || found[1].Usage == nil {
			t.Errorf("without the newest message: %v", err)
		}
	}
}

// lossy is a consumer that delivers some messages, by its own numbers and those of
// the stream, and says how many are pending behind each.
type lossy struct {
	jetstream.Consumer
	numbers [][2]uint64
	pending uint64
}

type lossyBatch chan jetstream.Msg

type lossyMsg struct {
	jetstream.Msg
	meta jetstream.MsgMetadata
}

func (m lossyMsg) Metadata() (*jetstream.MsgMetadata, error) { return &m.meta, nil }
func (m lossyMsg) Headers() nats.Header {
	return nats.Header{nats.MsgIdHdr: {fmt.Sprint(m.meta.Sequence.Stream)}}
}

func (b lossyBatch) Messages() <-chan jetstream.Msg { return b }
func (b lossyBatch) Error() error {
	if cap(b) == 0 {
		return context.DeadlineExceeded
	}
	return nil
}

func (c *lossy) CachedInfo() *jetstream.ConsumerInfo {
	return &jetstream.ConsumerInfo{NumPending: c.pending}
}

func (c *lossy) Fetch(n int, _ ...jetstream.FetchOpt) (jetstream.MessageBatch, error) {
	n = min(n, len(c.numbers))
	b := make(lossyBatch, n)
	for _, number := range c.numbers[:n] {
		m := lossyMsg{meta: jetstream.MsgMetadata{NumPending: uint64(len(c.numbers))}}
		m.meta.Sequence.Consumer, m.meta.Sequence.Stream = number[0], number[1]
		b <- m
	}
	c.numbers = c.numbers[n:]
	close(b)
	return b, nil
}

// A look ends at the end that the leader named, without a gap, or not at all: the
// server that it reads from may lag behind, and messages get lost with connections.
func TestLookReadsToTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		c    lossy
		good bool
	}{
		"whole":            {lossy{numbers: [][2]uint64{{1, 5}, {2, 6}, {3, 9}}, pending: 3}, true},
		"more came since":  {lossy{numbers: [][2]uint64{{1, 5}, {2, 6}, {3, 10}}, pending: 2}, true},
		"lags, catches up": {lossy{numbers: [][2]uint64{{1, 5}, {2, 9}}}, true},
		"lags":             {lossy{numbers: [][2]uint64{{1, 5}, {2, 6}}, pending: 2}, false},
		"lags all along":   {lossy{}, false},
		"first lost":       {lossy{numbers: [][2]uint64{{2, 6}, {3, 9}}, pending: 3}, false},
		"one lost":         {lossy{numbers: [][2]uint64{{1, 5}, {3, 9}}, pending: 3}, false},
	} {
		s := &seen{numbers: map[string]uint64{}}
		if err := s.read(t.Context(), &c.c, 9); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if c.good && s.numbers["5"] != 5 {
			t.Errorf("%s: saw %v", name, s.numbers)
		}
	}
}
