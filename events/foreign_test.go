package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"tollgate/authz"
	"tollgate/authz/money"
)

// standing is what a test says of this replica.
type standing struct{ fresh bool }

func (s *standing) Fresh(time.Duration) bool { return s.fresh }

// shelf is a Stream in memory. It refuses what is published without a look that
// had to be looked for, and lets somebody else publish between a look and its end.
type shelf struct {
	t      *testing.T
	mu     sync.Mutex
	stored map[string]Event     // by message id
	at     map[string]time.Time // when it was; nil: it recognises everything for ever
	looks  int
	slow   time.Duration // how long a look takes
	during func()        // called in the next look, after it has seen what there is
	away   bool          // nothing arrives
	lose   bool          // nobody learns of what is stored
}

func (s *shelf) put(e Event) { s.stored[MsgID(e.Source, e.ID)] = e }

func (s *shelf) set(away, lose bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away, s.lose = away, lose
}

func (s *shelf) PublishBatch(_ context.Context, batch []Outgoing) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(batch))
	for i, out := range batch {
		if s.away {
			errs[i] = nats.ErrTimeout
			continue
		}
		if s.lose {
			errs[i] = nats.ErrTimeout
		}
		e := parsed(s.t, out.Payload)
		if out.MsgID != MsgID(e.Source, e.ID) {
			s.t.Errorf("%s has the event %s", out.MsgID, e.ID)
		}
		if _, there := s.stored[out.MsgID]; there && out.Contested {
			errs[i] = errContested
		} else if !there {
			s.put(e)
			if s.at != nil {
				s.at[out.MsgID] = time.Now()
			}
		} else if s.at != nil && time.Since(s.at[out.MsgID]) > duplicateWindow {
			s.t.Errorf("%s would be stored twice", out.MsgID)
		}
	}
	return errs
}

func (s *shelf) Look(_ context.Context, sought []Sought, _ time.Time) ([]Found, time.Time, error) {
	at := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, at, nats.ErrTimeout
	}
	s.looks++
	found := make([]Found, len(sought))
	for i, a := range sought {
		if e, ok := s.stored[a.MsgID]; ok {
			found[i].Usage = &e.Data
		}
		_, found[i].Adjusted = s.stored[a.MsgID+lateSuffix]
	}
	if s.during != nil {
		s.during()
		s.during = nil
	}
	time.Sleep(s.slow)
	return found, at, nil
}

const goneAfter = 2 * time.Minute

// sharedLedger is a ledger that shares admissions, of a replica that is fresh.
func sharedLedger(t *testing.T, dir string) (*Ledger, *shelf, *standing) {
	t.Helper()
	l, _ := openLedger(t, dir)
	s, st := &shelf{t: t, stored: map[string]Event{}}, &standing{fresh: true}
	l.Share(Sharing{Standing: st, Stream: s, Gone: goneAfter})
	l.Watch(time.Now())
	return l, s, st
}

// bring publishes all that waits, as Run would, and fails if something stays.
func bring(t *testing.T, l *Ledger) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Run(ctx, nil) // shared: it has its own stream
	}()
	if err := l.journal.Flush(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
}

func told(a *authz.Admission) *authz.Usage {
	return &authz.Usage{Admission: a, Outcome: authz.Completed, Measurement: authz.Reported, Tokens: authz.Tokens{Input: 7, Output: 3}}
}

func unknown(a *authz.Admission) *authz.Usage {
	return &authz.Usage{Admission: a, Outcome: authz.Unknown, Measurement: authz.None}
}

func mustClose(t *testing.T, l *Ledger, u *authz.Usage) {
	t.Helper()
	if ok, err := l.Close(u); err != nil || !ok {
		t.Fatalf("closing %s: %v, %v", u.Admission.ID, ok, err)
	}
}

// The stream itself says when somebody else was faster; who repeats its own is told
// the same, and finds out.
func TestContestedInNATS(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u, err := OpenUsage(t.Context(), nc, UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	out := outgoing(0, 1)
	publish(t, u, out)
	publish(t, u, out) // of ours alone it counts as stored
	out[0].Contested = true
	if err := u.PublishBatch(t.Context(), out)[0]; !errors.Is(err, errContested) {
		t.Errorf("somebody else's there: %v", err)
	}
	out = outgoing(1, 2)
	out[0].Contested = true
	publish(t, u, out)
}

// What nobody else can have closed is published without a look; after a doubt of
// any kind everything that was there before is looked for.
func TestWhoMayHaveClosedItIsLookedFor(t *testing.T) {
	for name, c := range map[string]struct {
		doubt func(l *Ledger, s *standing)
		looks int
	}{
		"never in doubt": {func(l *Ledger, _ *standing) {
			for range 20 {
				time.Sleep(goneAfter / 8)
				l.Watch(time.Now())
			}
		}, 0},
		"stood still": {func(*Ledger, *standing) { time.Sleep(goneAfter/4 + time.Second) }, 1},
		"was cut off, for a moment": {func(l *Ledger, s *standing) {
			s.fresh = false
			l.Watch(time.Now())
			s.fresh = true
		}, 1},
		"is cut off": {func(_ *Ledger, s *standing) { s.fresh = false }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, stream, st := sharedLedger(t, t.TempDir())
				before, waits := admission("1", "r"), admission("2", "r")
				admit(t, l, before)
				admit(t, l, waits)
				mustClose(t, l, told(waits))
				c.doubt(l, st)
				mustClose(t, l, told(before))
				bring(t, l)
				if len(stream.stored) != 2 || stream.looks != c.looks {
					t.Errorf("%d events after %d looks, want 2 after %d", len(stream.stored), stream.looks, c.looks)
				}
				l.Watch(time.Now())
				st.fresh = true
				after := admission("3", "r")
				admit(t, l, after)
				mustClose(t, l, told(after))
				bring(t, l)
				if stream.looks != c.looks {
					t.Error("what was admitted after it is looked for too")
				}
				if n := len(l.shared.sure); n != 0 {
					t.Errorf("%d events are remembered for ever", n)
				}
				_ = l.journal.Close() // in the bubble
			})
		})
	}
}

// The stream recognises what is repeated for a while only. A replica whose event may
// have been stored before that, by itself or by the process before it, looks first,
// also one that is alone.
func TestOldTryIsLookedFor(t *testing.T) {
	for name, c := range map[string]struct {
		alone, restart bool
		idle, away     time.Duration
		looks          bool
	}{
		"a moment later":               {away: duplicateWindow/4 - 20*time.Second},
		"long after":                   {away: duplicateWindow + time.Minute, looks: true},
		"long after, alone":            {alone: true, away: duplicateWindow + time.Minute, looks: true},
		"by the process before":        {restart: true, away: duplicateWindow + time.Minute, looks: true},
		"by the process before, alone": {alone: true, restart: true, away: duplicateWindow + time.Minute, looks: true},
		"alone, idle for long before":  {alone: true, idle: time.Hour, away: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, stream := t.TempDir(), &shelf{t: t, stored: map[string]Event{}, at: map[string]time.Time{}}
				process := func() (l *Ledger, end func()) {
					l, j := openLedger(t, dir)
					s := Sharing{Stream: stream, Gone: goneAfter}
					if !c.alone {
						s.Standing = &standing{fresh: true}
					}
					l.Share(s)
					ctx, cancel := context.WithCancel(t.Context())
					var tasks sync.WaitGroup
					tasks.Go(func() { _ = l.Run(ctx, nil) })
					tasks.Go(func() {
						for ; !c.alone && ctx.Err() == nil; time.Sleep(time.Second) {
							l.Watch(time.Now())
						}
					})
					return l, func() {
						cancel()
						tasks.Wait()
						_ = j.Close()
					}
				}
				l, end := process()
				time.Sleep(time.Second + c.idle)
				a := admission("1", "r")
				admit(t, l, a)
				stream.set(false, true)
				mustClose(t, l, told(a))
				synctest.Wait()
				stream.set(true, false)
				if c.restart {
					end()
				}
				time.Sleep(c.away)
				if stream.looks > 0 && !c.looks {
					t.Errorf("it looked %d times", stream.looks)
				}
				stream.set(false, false)
				if c.restart {
					l, end = process()
				}
				if err := l.journal.Flush(t.Context()); err != nil {
					t.Error(err)
				}
				if len(stream.stored) != 1 || stream.looks > 0 != c.looks {
					t.Errorf("%d looks, %d events", stream.looks, len(stream.stored))
				}
				end()
			})
		})
	}
}

// Whatever the stream has of an admission: what comes out has one usage event, one
// adjustment at most, and the truth if anybody knew it.
func TestContestedEvents(t *testing.T) {
	a := admission("1", "r")
	source := Source("test")
	known, none := FromUsage(source, told(a)), FromUsage(source, unknown(a))
	late := Adjustment(source, told(a))
	for name, c := range map[string]struct {
		there  []Event
		ours   *authz.Usage
		during *Event // somebody else's, published just after the look
		slow   time.Duration
		want   []Event
	}{
		"nothing there":                    {nil, told(a), nil, 0, []Event{known}},
		"nothing there, and nothing known": {nil, unknown(a), nil, 0, []Event{none}},
		"the same there":                   {[]Event{known}, told(a), nil, 0, []Event{known}},
		"the truth there":                  {[]Event{known}, unknown(a), nil, 0, []Event{known}},
		"unknown there":                    {[]Event{none}, told(a), nil, 0, []Event{none, late}},
		"unknown there and here":           {[]Event{none}, unknown(a), nil, 0, []Event{none}},
		"unknown there and adjusted":       {[]Event{none, late}, told(a), nil, 0, []Event{none, late}},
		"somebody is faster, and unknown":  {nil, told(a), &none, 0, []Event{none, late}},
		"somebody is faster, and knows":    {nil, unknown(a), &known, 0, []Event{known}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, stream, _ := sharedLedger(t, t.TempDir())
				for _, e := range c.there {
					stream.put(e)
				}
				if c.during != nil {
					stream.during = func() { stream.put(*c.during) }
				}
				f, err := l.Hold(a, authz.Observation{})
				if err != nil {
					t.Fatal(err)
				}
				if err := l.CloseForeign(f, c.ours); err != nil {
					t.Fatal(err)
				}
				bring(t, l)
				want := map[string]Event{}
				for _, e := range c.want {
					want[MsgID(e.Source, e.ID)] = e
				}
				if !reflect.DeepEqual(stream.stored, want) {
					t.Errorf("stored %+v\nwant %+v", stream.stored, want)
				}
				_ = l.journal.Close()
			})
		})
	}
}

// A look that took long says nothing any more: somebody may have published since,
// for longer than the stream would recognise it.
func TestOldLookIsNotGoneBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stream, _ := sharedLedger(t, t.TempDir())
		a := admission("1", "r")
		f, err := l.Hold(a, authz.Observation{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.CloseForeign(f, told(a)); err != nil {
			t.Fatal(err)
		}
		stream.slow = duplicateWindow/2 + time.Second
		stream.during = func() { stream.slow = duplicateWindow/2 + time.Second }
		ctx, cancel := context.WithTimeout(t.Context(), stream.slow+time.Millisecond)
		defer cancel()
		_ = l.Run(ctx, nil)
		if len(stream.stored) != 0 {
			t.Error("published by a look of more than half a window ago")
		}
		stream.slow = 0
		bring(t, l)
		if len(stream.stored) != 1 || stream.looks < 2 {
			t.Errorf("%d events after %d looks", len(stream.stored), stream.looks)
		}
		_ = l.journal.Close()
	})
}

// An adjustment waits for the event that it corrects, which may yet turn out to
// need none; but not for one that never comes.
func TestAdjustmentWaitsForItsEvent(t *testing.T) {
	a, source := admission("1", "r"), Source("test")
	late := Adjustment(source, told(a))
	known, none := FromUsage(source, told(a)).Data, FromUsage(source, unknown(a)).Data
	now := a.Start.Add(time.Hour)
	for _, c := range []struct {
		found  Found
		now    time.Time
		coming bool
		want   verdict
	}{
		{Found{}, now, false, publishLater},
		{Found{}, a.Start.Add(baseTime), false, publishUsage},
		{Found{}, a.Start.Add(baseTime), true, publishLater},
		{Found{Usage: &none}, now, false, publishUsage},
		{Found{Usage: &none}, now, true, publishUsage},
		{Found{Usage: &none, Adjusted: true}, now, false, publishNothing},
		{Found{Usage: &known}, now, false, publishNothing},
	} {
		if got := judge(c.now, &late, &c.found, c.coming); got != c.want {
			t.Errorf("%+v at %v: %v, want %v", c.found, c.now, got, c.want)
		}
	}
}

// A replica that was taken for gone finds what others closed, once, and lets it go
// without an event; until it can, it says so.
func TestReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l, j := openLedger(t, dir)
		here, there := admission("1", "r"), admission("2", "r")
		admit(t, l, here)
		admit(t, l, there)
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		l, stream, st := sharedLedger(t, dir)
		stream.put(FromUsage(Source("test"), told(there)))
		var found []*authz.Usage
		elsewhere := func(u *authz.Usage) error {
			found = append(found, u)
			if open, err := l.Release(u); err != nil || !open {
				t.Errorf("released: %v, %v", open, err)
			}
			if open, err := l.Release(u); err != nil || open {
				t.Errorf("released twice: %v, %v", open, err)
			}
			return nil
		}
		st.fresh = false
		if err := l.Reconcile(t.Context(), elsewhere); !errors.Is(err, errDoubt) || stream.looks != 0 {
			t.Errorf("while it is cut off: %v", err)
		}
		st.fresh = true
		for range 3 {
			if err := l.Reconcile(t.Context(), elsewhere); err != nil {
				t.Error(err)
			}
		}
		if len(found) != 1 || found[0].Admission.ID != "2" || found[0].Measurement != authz.Reported || found[0].Tokens.Output != 3 || stream.looks != 1 {
			t.Errorf("after %d looks: %+v", stream.looks, found)
		}
		if open := l.Open(time.Time{}); len(open) != 1 || open[0].ID != "1" {
			t.Errorf("open: %+v", open)
		}
		u := unknown(here)
		mustClose(t, l, u)
		if !u.Superseded {
			t.Error("its request has another admission that was settled, elsewhere")
		}
		bring(t, l)
		if len(stream.stored) != 2 || l.journal.Stats().Open != 0 {
			t.Errorf("stored %+v", stream.stored)
		}
		_ = l.journal.Close()
	})
}

// What is kept for others survives a kill, as it was, until it is dropped.
func TestForeignIsKept(t *testing.T) {
	dir := t.TempDir()
	l, j := openLedger(t, dir)
	seen := authz.Observation{Status: 200, Upstream: "u", Reported: true, Tokens: authz.Tokens{Input: 7}}
	a, b, c := admission("1", "r"), admission("2", "r"), admission("3", "r")
	held, err := l.Hold(a, seen)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Copy(b, "i1"); err != nil {
		t.Fatal(err)
	}
	dropped, err := l.Hold(c, seen)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Drop(dropped); err != nil {
			t.Error(err)
		}
	}
	if open := l.Open(time.Time{}); len(open) != 0 {
		t.Errorf("others' are open here: %+v", open)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Drop(held); err == nil {
		t.Error("dropped from a closed journal")
	}
	l, _ = openLedger(t, dir)
	got := l.Foreign()
	if len(got) != 2 || !reflect.DeepEqual(got[0].Admission, a) || !reflect.DeepEqual(*got[0].Seen, seen) ||
		!reflect.DeepEqual(got[1].Admission, b) || got[1].Seen != nil || got[1].Incarnation != "i1" {
		t.Errorf("after a restart: %+v", got)
	}
}

// The stored forms are frozen; see docs/design/formats.md.
func TestFrozenForeign(t *testing.T) {
	seen := authz.Observation{Status: 200, Flags: "-", Upstream: "10.0.0.1:80", Duration: time.Second, Tokens: authz.Tokens{Input: 7, Output: 3}, Reported: true}
	// The admission behind each is of version 1, and has a version of its own.
	a := admission("1", "r")
	a.Multiplier = money.New(1, 0)
	for path, want := range map[string]*Foreign{
		"testdata/foreign-held.v1.bin": {Admission: a, Seen: &seen},
		"testdata/foreign-copy.v1.bin": {Admission: a, Incarnation: "i1"},
	} {
		if *update {
			if err := os.WriteFile(path, want.encode(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeForeign(data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s reads as %+v, %v", path, got, err)
		}
		now := want.encode()
		head := len(now) - len(a.AppendBinary(nil))
		if !bytes.HasPrefix(data, now[:head]) {
			t.Errorf("%s is written differently now", path)
		}
	}
}

func FuzzDecodeForeign(f *testing.F) {
	f.Add((&Foreign{Admission: admission("1", "r"), Seen: &authz.Observation{Status: 200}}).encode())
	f.Add((&Foreign{Admission: admission("1", "r"), Incarnation: "i"}).encode())
	f.Add([]byte{heldMark, 2})
	f.Add([]byte{copyMark, foreignVersion, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeForeign(data)
		if err != nil {
			return
		}
		if again, err := decodeForeign(got.encode()); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%+v was read as %+v, %v", got, again, err)
		}
	})
}

func parsed(t *testing.T, payload []byte) (e Event) {
	t.Helper()
	if err := json.Unmarshal(payload, &e); err != nil {
		t.Fatal(err)
	}
	return e
}
