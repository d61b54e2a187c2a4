package events

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLargeEventsAreReadInPages: many readers of large events at once get all of
// them, in pages of bounded size, of which none but the last says that it is.
func TestLargeEventsAreReadInPages(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	trail := openAudit(t, nc)
	const n, size = 48, 128 << 10 // as large as entries are, and more than a page of them
	for i := range n {
		e := auditSample()
		e.ID, e.Data.Remote = fmt.Sprint(i), strings.Repeat("x", size)
		if err := trail.Append(t.Context(), &e); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for range parallelReads + 1 {
		all.Go(func() {
			var pages []int
			for after := uint64(0); ; {
				items, next, err := trail.Read(t.Context(), AuditQuery{After: after, Limit: MaxRead})
				if err != nil {
					t.Error(err)
					return
				}
				pages = append(pages, len(items))
				if after = next; next == 0 {
					break
				}
			}
			total, most := 0, maxReadBytes/size+readBatch
			for _, got := range pages {
				if total += got; got > most {
					t.Errorf("a page has %d events, want %d at most", got, most)
				}
			}
			if total != n || len(pages) < 2 {
				t.Errorf("pages of %v, want %d events on several", pages, n)
			}
		})
	}
	all.Wait()
	if n := len(trail.reads.turns); n != 0 {
		t.Errorf("%d turns were not given back", n)
	}
}

// TestReadsTakeTurns: with all turns taken a Read waits, and one that waits for
// events takes none.
func TestReadsTakeTurns(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u := openUsage(t, nc, UsageConfig{})
	publish(t, u, outgoing(0, 3))
	var done []func()
	for range parallelReads {
		done = append(done, must(u.reads.turn(t.Context())))
	}
	came := make(chan int, 1)
	read := func(after uint64) {
		items, _, err := u.Read(t.Context(), after, time.Time{}, 10, time.Minute)
		if err != nil {
			t.Error(err)
		}
		came <- len(items)
	}
	go read(0)
	select {
	case n := <-came:
		t.Errorf("%d events were read out of turn", n)
	case <-time.After(100 * time.Millisecond):
	}
	done[0]()
	done[0]() // once is enough
	if n := <-came; n != 3 {
		t.Errorf("%d events", n)
	}
	go read(3)
	eventually(t, "a reader that waits has no turn", func() bool {
		return must(u.stream.Info(t.Context())).State.Consumers == 1 && len(u.reads.turns) == parallelReads-1
	})
	publish(t, u, outgoing(3, 4))
	if n := <-came; n != 1 {
		t.Errorf("%d events", n)
	}
}
