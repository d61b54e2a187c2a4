package events

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/authz"
	"tollgate/events/journal"
)

// crammed is a stream that can be read, and takes nothing while it is set to be away.
type crammed struct{ *shelf }

var errNoRoom = errors.New("the stream is full")

func (f crammed) PublishBatch(ctx context.Context, batch []Outgoing) []error {
	f.mu.Lock()
	away := f.away
	f.mu.Unlock()
	if !away {
		return f.shelf.PublishBatch(ctx, batch)
	}
	errs := make([]error, len(batch))
	for i := range errs {
		errs[i] = unsent{errNoRoom}
	}
	return errs
}

func (f crammed) Look(_ context.Context, sought []Sought, _ time.Time) ([]Found, time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := make([]Found, len(sought))
	for i, a := range sought {
		if e, ok := f.stored[a.MsgID]; ok {
			found[i].Usage = &e.Data
		}
		_, found[i].Adjusted = f.stored[a.MsgID+lateSuffix]
	}
	return found, time.Now(), nil
}

// A settlement that was brought twice waits in the journal as an event and as an
// adjustment of it. However long the stream takes neither, only the event counts;
// also where they come to it in different batches, or after a restart.
func TestAdjustmentOfWhatWaitsHere(t *testing.T) {
	for name, c := range map[string]struct {
		between int // events that are settled between the two
		restart bool
	}{
		"in a batch":         {},
		"in another batch":   {between: 300},
		"after a restart":    {restart: true},
		"both, of a process": {between: 300, restart: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, stream := t.TempDir(), crammed{&shelf{t: t, stored: map[string]Event{}, away: true}}
				process := func() *Ledger {
					l, _ := openLedger(t, dir)
					l.Share(Sharing{Stream: stream, Gone: goneAfter})
					return l
				}
				l := process()
				now := time.Now()
				settle := func(id string) *authz.Usage {
					a := admission(id, id)
					a.Start, a.Deadline = now, now.Add(time.Hour)
					admit(t, l, a)
					mustClose(t, l, told(a))
					return told(a)
				}
				brought := settle("1")
				for i := range c.between {
					settle(fmt.Sprint("x", i))
				}
				if err := l.Adjust(brought); err != nil {
					t.Fatal(err)
				}
				if c.restart {
					_ = l.journal.Close()
					l = process()
				}
				time.Sleep(baseTime + time.Hour)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = l.Run(ctx, nil)
				}()
				time.Sleep(duplicateWindow / 2) // it tries, and their order changes
				stream.set(false, false)
				if err := l.journal.Flush(ctx); err != nil {
					t.Error(err)
				}
				cancel()
				<-done
				if len(stream.stored) != 1+c.between {
					t.Errorf("%d events of %d settlements", len(stream.stored), 1+c.between)
				}
				_ = l.journal.Close()
			})
		})
	}
}

// The journal is read for an old adjustment only where a look found no event of it,
// and none that is at hand: it may be a gigabyte.
func TestJournalIsReadWhereNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := crammed{&shelf{t: t, stored: map[string]Event{}}}
		l, _ := openLedger(t, t.TempDir())
		l.Share(Sharing{Stream: stream, Gone: goneAfter})
		reads := 0
		l.shared.waiting = func(func(journal.Event)) error { reads++; return nil }
		a := admission("1", "1")
		a.Start = time.Now()
		a.Deadline = a.Start.Add(time.Hour)
		usage, late := FromUsage(l.source, told(a)), Adjustment(l.source, told(a))
		batch := func(of ...Event) (batch []Outgoing) {
			for _, e := range of {
				out := l.outgoing(&e, "")
				batch = append(batch, Outgoing{Subject: out.Subject, MsgID: out.MsgID, Payload: out.Payload})
			}
			return batch
		}
		for _, c := range []struct {
			what   string
			before time.Duration
			batch  []Outgoing
		}{
			{"not old", 0, batch(late)},
			{"beside its event", baseTime, batch(late, usage)},
			{"after its event", 0, batch(late)},
		} {
			time.Sleep(c.before)
			l.shared.publish(t.Context(), c.batch)
			if reads != 0 {
				t.Errorf("%s: read %d times", c.what, reads)
			}
		}
		clear(stream.stored)
		l.shared.publish(t.Context(), batch(late))
		if reads != 1 || len(stream.stored) != 1 {
			t.Errorf("where its event is nowhere: read %d times, %d events", reads, len(stream.stored))
		}
	})
}
