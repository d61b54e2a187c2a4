package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stream is a stream that can be away and can refuse.
type stream struct {
	mu     sync.Mutex
	away   bool
	refuse func(Outgoing) bool
	tries  []time.Time
	got    []string // message ids that were acknowledged
	batch  int      // the largest
}

var errAway = errors.New("the stream is away")

func (s *stream) publish(_ context.Context, batch []Outgoing) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries = append(s.tries, time.Now())
	s.batch = max(s.batch, len(batch))
	errs := make([]error, len(batch))
	for i, out := range batch {
		if s.away || s.refuse != nil && s.refuse(out) {
			errs[i] = errAway
			continue
		}
		s.got = append(s.got, out.MsgID)
	}
	return errs
}

func settleMany(t *testing.T, j *Journal, from, to int) (ids []string) {
	t.Helper()
	for i := from; i < to; i++ {
		ev := event(fmt.Sprint(i))
		mustSettle(t, j, mustAdmit(t, j, "x"), ev)
		ids = append(ids, ev.MsgID)
	}
	return ids
}

func TestRunInOrderAndBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, _ := mustOpen(t, t.TempDir(), small())
		ids := settleMany(t, j, 0, 600)
		s := &stream{}
		go j.Run(t.Context(), s.publish)
		if err := j.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.got, ids) || s.batch != maxBatch {
			t.Errorf("%d events, batches of %d", len(s.got), s.batch)
		}
		if st := j.Stats(); st.Waiting != 0 || st.Published != 600 || st.Failed != 0 {
			t.Errorf("stats: %+v", st)
		}
		if err := j.Run(t.Context(), s.publish); !errors.Is(err, errRunning) {
			t.Errorf("a second Run: %v", err)
		}
		j.Close()
	})
}

// While the stream is away tries get rarer, nothing is lost, and when it is back
// all arrives, once.
func TestRunWhileTheStreamIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, _ := mustOpen(t, t.TempDir(), small())
		s := &stream{away: true}
		go j.Run(t.Context(), s.publish)
		ids := settleMany(t, j, 0, 300)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := j.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Flush: %v", err)
		}
		s.mu.Lock()
		n := len(s.tries)
		if n < 10 || n > 40 {
			t.Errorf("%d tries in a minute", n)
		}
		if last := s.tries[n-1].Sub(s.tries[n-2]); last < maxRetry/2 || last > 2*maxRetry {
			t.Errorf("last tries %v apart", last)
		}
		s.away = false
		s.mu.Unlock()
		start := time.Now()
		if err := j.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 2*maxRetry {
			t.Errorf("all there only after %v", d)
		}
		slices.Sort(s.got)
		slices.Sort(ids)
		if !slices.Equal(s.got, ids) {
			t.Errorf("%d events of %d", len(s.got), len(ids))
		}
		j.Close()
	})
}

// One event that the stream never takes holds up no other, and stays.
func TestRunWithAnEventNobodyTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j, _ := mustOpen(t, dir, small())
		s := &stream{refuse: func(out Outgoing) bool { return out.MsgID == "msg-5" }}
		go j.Run(t.Context(), s.publish)
		settleMany(t, j, 0, 10)
		time.Sleep(time.Minute)
		settleMany(t, j, 10, 20)
		time.Sleep(2 * maxRetry)
		s.mu.Lock()
		if len(s.got) != 19 || j.Stats().Waiting != 1 {
			t.Errorf("%d events, %d wait", len(s.got), j.Stats().Waiting)
		}
		s.mu.Unlock()
		j.Close()
		j, _ = mustOpen(t, dir, small())
		if got := drain(t, j); len(got) != 1 || got[0].MsgID != "msg-5" || got[0].Seq != 6 {
			t.Errorf("after a restart: %v", got)
		}
		j.Close()
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, _ := mustOpen(t, t.TempDir(), small())
		for _, s := range []*stream{{}, {away: true}} {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- j.Run(ctx, s.publish) }()
			settleMany(t, j, 0, 3)
			synctest.Wait()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
		// What it had in hand is queued again.
		s := &stream{}
		go j.Run(t.Context(), s.publish)
		if err := j.Flush(t.Context()); err != nil || len(s.got) != 3 {
			t.Errorf("%v, %d events", err, len(s.got))
		}
		j.Close()
	})
}

// A publisher that forgets results makes nothing lost.
func TestMissingResultsAreFailures(t *testing.T) {
	j, _ := mustOpen(t, t.TempDir(), small())
	settleMany(t, j, 0, 3)
	j.hand(t.Context(), j.queue.pop(), func(context.Context, []Outgoing) []error { return make([]error, 1) })
	if s := j.Stats(); s.Waiting != 2 || s.Failed != 2 {
		t.Errorf("stats: %+v", s)
	}
	if got := drain(t, j); len(got) != 2 {
		t.Errorf("%d events", len(got))
	}
}
