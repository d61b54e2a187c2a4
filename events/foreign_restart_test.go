package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tollgate/events/journal"
)

var errNotTold = errors.New("the acknowledgement was lost")

// untold publishes, and tells nothing of events whose number is odd.
type untold struct{ Stream }

func (s untold) PublishBatch(ctx context.Context, batch []Outgoing) []error {
	errs := s.Stream.PublishBatch(ctx, batch)
	for i := range batch {
		if id := batch[i].MsgID; (id[len(id)-1]-'0')%2 == 1 {
			errs[i] = errNotTold
		}
	}
	return errs
}

// What a process that is alone has stored without learning of it, the next one finds
// in a real stream that does not recognise it any more. Without Share those are
// stored a second time.
func TestRestartAfterTheWindow(t *testing.T) {
	const window = time.Second
	_, nc := embedded(t, natsdConfig)
	u, err := OpenUsage(t.Context(), nc, UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := u.stream.CachedInfo().Config
	cfg.Duplicates = window
	if _, err := u.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	process := func(stream Stream) (l *Ledger, j *journal.Journal, end func()) {
		l, j = openLedger(t, dir)
		l.Share(Sharing{Stream: stream, Gone: goneAfter, Window: window})
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = l.Run(ctx, nil) })
		return l, j, func() {
			cancel()
			run.Wait()
			_ = j.Close()
		}
	}

	const events, open = 40, 5 // open: not settled by the first process
	l, _, end := process(untold{NewSharedUsage(u)})
	for i := range events {
		a := admission(fmt.Sprint(i), fmt.Sprint("r", i))
		a.Start, a.Deadline = time.Now(), time.Now().Add(time.Hour)
		admit(t, l, a)
		if i >= open {
			mustClose(t, l, told(a))
		}
	}
	size := func() uint64 {
		info, err := u.stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.LastSeq
	}
	eventually(t, "the first process has stored its events", func() bool { return size() == events-open })
	stored := time.Now()
	end()
	eventually(t, "the window is over", func() bool { return time.Since(stored) > 2*window })

	l, j, end := process(NewSharedUsage(u))
	for _, a := range l.Open(time.Time{}) {
		mustClose(t, l, unknown(a))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := j.Flush(ctx); err != nil {
		t.Error(err)
	}
	end()
	times := map[string]int{}
	last := size()
	for seq := uint64(1); seq <= last; seq++ {
		var m *jetstream.RawStreamMsg
		if m, err = u.stream.GetMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
		var e Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatal(err)
		}
		times[e.ID]++
	}
	if len(times) != events || last != events {
		t.Errorf("%d events of %d admissions, want one of each of %d", last, len(times), events)
	}
}
