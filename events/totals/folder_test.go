package totals

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/authz/money"
	"tollgate/events"
)

// stream is a stream in memory. It asserts what Follow's caller has to keep to.
type stream struct {
	mu       sync.Mutex
	created  time.Time
	messages []events.Followed
	changed  chan struct{}
	broken   error // what sessions end with
	sessions int
	read     int // messages handed over
}

func newStream() *stream { return &stream{created: time.Now(), changed: make(chan struct{})} }

func (s *stream) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// store appends a message and returns its place.
func (s *stream) store(e *events.Event, at events.Position) (seq uint64) {
	s.do(func() {
		seq = 1
		if n := len(s.messages); n > 0 {
			seq = s.messages[n-1].Seq + 1
		}
		s.messages = append(s.messages, events.Followed{Seq: seq, Stored: time.Now(), Position: at, Payload: e.AppendJSON(nil)})
	})
	return seq
}

func (s *stream) Extent(context.Context) (events.Extent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return events.Extent{}, s.broken
	}
	if n := len(s.messages); n > 0 {
		return events.Extent{Created: s.created, First: s.messages[0].Seq, Last: s.messages[n-1].Seq}, nil
	}
	return events.Extent{Created: s.created, First: 1}, nil
}

// at is the index of the first message from a place on.
func (s *stream) at(from uint64) int {
	return sort.Search(len(s.messages), func(i int) bool { return s.messages[i].Seq >= from })
}

// next is the first message from a place on; false: there is none yet.
func (s *stream) next(from uint64) (events.Followed, bool, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.at(from)
	if i == len(s.messages) {
		return events.Followed{}, false, s.changed, s.broken
	}
	s.read++
	m := s.messages[i]
	m.Pending = uint64(len(s.messages) - i - 1)
	return m, true, nil, s.broken
}

func (s *stream) Follow(ctx context.Context, from uint64, begun func(uint64), each func(events.Followed) error) error {
	s.mu.Lock()
	s.sessions++
	session, pending := s.sessions, uint64(len(s.messages)-s.at(from))
	s.mu.Unlock()
	begun(pending)
	for {
		m, ok, changed, err := s.next(from)
		switch {
		case err != nil:
			return err
		case !ok:
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if s.sessions != session {
			panic("two sessions at once")
		}
		if err := each(m); err != nil {
			return err
		}
		from = m.Seq + 1
	}
}

func open(t *testing.T, s Stream, path string) *Folder {
	t.Helper()
	f, err := Open(Config{Stream: s, Path: path, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// run runs a folder; the result ends it and waits.
func run(t *testing.T, f *Folder) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}
}

func requests(t *testing.T, f *Folder) int64 {
	t.Helper()
	a, _, err := f.Totals(Query{})
	if err != nil {
		t.Fatal(err)
	}
	return a.Rows[0].Requests
}

func position(seq int) events.Position {
	return events.Position{Replica: "r", Epoch: 1, Seq: uint64(seq)}
}

// A restart goes on where the snapshot ended, and answers from it before it has
// read anything.
func TestRestartReadsOnlyWhatCameAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newStream(), filepath.Join(t.TempDir(), "snapshot")
		for i := range 100 {
			s.store(usage(fmt.Sprint(i), "w", "k", "m", time.Now()), position(i+1))
		}
		f := open(t, s, path)
		stop := run(t, f)
		if err := f.Refresh(t.Context()); err != nil || requests(t, f) != 100 {
			t.Fatalf("%v, %d requests", err, requests(t, f))
		}
		if at := f.AsOf(); at.Seq != 100 || at.Pending != 0 || !at.Current || !at.Stored.Equal(s.messages[99].Stored) {
			t.Errorf("as of %+v", at)
		}
		stop()
		if f.AsOf().Current {
			t.Error("current though nothing is read any more")
		}

		last := s.store(usage("100", "w", "k", "m", time.Now()), position(101))
		f = open(t, s, path)
		if k := f.OfKey("w", "k"); k.Requests != 100 || k.LastUsed.IsZero() {
			t.Errorf("right after the restart: %+v", k)
		}
		s.read = 0
		stop = run(t, f)
		if err := f.Wait(t.Context(), last); err != nil || requests(t, f) != 101 {
			t.Errorf("%v, %d requests", err, requests(t, f))
		}
		if s.read != 2 { // the last one and the new one
			t.Errorf("%d were read", s.read)
		}
		stop()
	})
}

// After a kill, what the last snapshot lacks is read again.
func TestKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, path := newStream(), filepath.Join(t.TempDir(), "snapshot")
		f := open(t, s, path)
		stop := run(t, f)
		s.store(usage("1", "w", "k", "m", time.Now()), position(1))
		time.Sleep(snapshotEvery + time.Second)
		s.store(usage("2", "w", "k", "m", time.Now()), position(2))
		synctest.Wait()
		b, err := os.ReadFile(path) // what a kill would leave
		if err != nil {
			t.Fatal(err)
		}
		stop()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f = open(t, s, path)
		if n := requests(t, f); n != 1 {
			t.Errorf("the snapshot has %d requests", n)
		}
		stop = run(t, f)
		if err := f.Refresh(t.Context()); err != nil || requests(t, f) != 2 {
			t.Errorf("%v, %d requests", err, requests(t, f))
		}
		stop()
	})
}

// A stream that is made anew, restored from an older copy, or restored and
// written beyond our place, is read from its start; nothing counts twice.
func TestStreamReplaced(t *testing.T) {
	for what, replace := range map[string]func(*stream){
		"made anew with the same events": func(s *stream) { s.created = s.created.Add(time.Hour) },
		"restored to less":               func(s *stream) { s.messages = s.messages[:5] },
		"restored and written on": func(s *stream) {
			s.messages = s.messages[:5]
			for i := range 20 {
				s.messages = append(s.messages, another(i, uint64(6+i)))
			}
		},
		"made anew, the event at our place deleted": func(s *stream) {
			s.created, s.messages = s.created.Add(time.Hour), nil
			for i := range 20 {
				s.messages = append(s.messages, another(i, uint64(i+1)))
			}
			s.messages = slices.Delete(s.messages, 9, 10)
			s.messages = append(s.messages, another(9, 21))
		},
		"emptied": func(s *stream) { s.created, s.messages = s.created.Add(time.Hour), nil },
		"shortened at its start": func(s *stream) {
			s.messages = s.messages[8:]
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStream()
				for i := range 10 {
					s.store(usage(fmt.Sprint(i), "w", "k", "m", time.Now()), position(i+1))
				}
				f := open(t, s, filepath.Join(t.TempDir(), "snapshot"))
				stop := run(t, f)
				defer func() { stop() }()
				if err := f.Refresh(t.Context()); err != nil || requests(t, f) != 10 {
					t.Fatalf("%v, %d requests", err, requests(t, f))
				}
				s.do(func() { s.broken = errors.New("away") })
				time.Sleep(time.Minute)
				distinct := int64(10)
				if strings.HasPrefix(what, "made anew, ") || what == "restored and written on" {
					distinct += 20
				}
				s.do(func() {
					replace(s)
					s.broken = nil
				})
				time.Sleep(time.Minute)
				if err := f.Refresh(t.Context()); err != nil || requests(t, f) != distinct || !f.AsOf().Current {
					t.Errorf("%v, %d requests, want %d, as of %+v", err, requests(t, f), distinct, f.AsOf())
				}
				s.store(usage("more", "w", "k", "m", time.Now()), position(11))
				time.Sleep(time.Minute)
				if err := f.Refresh(t.Context()); err != nil || requests(t, f) != distinct+1 {
					t.Errorf("one more: %v, %d requests, want %d", err, requests(t, f), distinct+1)
				}
			})
		})
	}
}

// another is an event of another replica, stored now at a place.
func another(i int, seq uint64) events.Followed {
	e := usage(fmt.Sprint("new", i), "w", "k", "m", time.Now())
	at := events.Position{Replica: "another", Epoch: 1, Seq: uint64(i + 1)}
	return events.Followed{Seq: seq, Stored: time.Now(), Position: at, Payload: e.AppendJSON(nil)}
}

func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(t, newStream(), filepath.Join(t.TempDir(), "snapshot"))
		stop := run(t, f)
		defer stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := f.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait: %v", err)
		}
		if len(f.waiters) != 0 {
			t.Error("who gave up is still waited for")
		}
		if err := f.Refresh(t.Context()); err != nil {
			t.Errorf("of an empty stream: %v", err)
		}
	})
}

// A snapshot that can't be written is told of, and written later.
func TestSnapshotFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir := newStream(), t.TempDir()
		path := filepath.Join(dir, "snapshot")
		if err := os.Mkdir(path+".writing", 0o700); err != nil {
			t.Fatal(err)
		}
		f := open(t, s, path)
		stop := run(t, f)
		s.store(usage("1", "w", "k", "m", time.Now()), position(1))
		time.Sleep(snapshotEvery + time.Second)
		if n := f.Stats().FailedSnapshots; n != 1 {
			t.Errorf("%d failed", n)
		}
		if err := os.RemoveAll(path + ".writing"); err != nil {
			t.Fatal(err)
		}
		stop()
		if n := requests(t, open(t, s, path)); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestUnreadableIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream()
		f := open(t, s, filepath.Join(t.TempDir(), "snapshot"))
		stop := run(t, f)
		defer stop()
		s.store(&events.Event{Type: "tollgate.usage.v9"}, position(1))
		s.store(usage("1", "w", "k", "m", time.Now()), position(2))
		s.store(usage("1", "w", "k", "m", time.Now()), position(2))
		synctest.Wait()
		if st := f.Stats(); st.Unreadable != 1 || st.Repeated != 1 || st.Keys != 1 || st.Series != 1 || st.Epochs != 1 || requests(t, f) != 1 {
			t.Errorf("%+v, %d requests", st, requests(t, f))
		}
	})
}

// TestFolderIsTheSum: several replicas publish with repetitions while the folder
// is stopped, killed, has its snapshots torn, and its stream breaks off. In the
// end parts and whole are the sum over the distinct ids.
func TestFolderIsTheSum(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			s, path := newStream(), filepath.Join(t.TempDir(), "snapshot")
			f := open(t, s, path)
			stop := run(t, f)
			distinct := map[string]*event{}
			var all []message
			for i := range 400 {
				var m message
				if len(all) > 0 && r.IntN(4) == 0 {
					m = all[r.IntN(len(all))]
				} else {
					replica := r.IntN(3)
					m.event = usage(fmt.Sprint(i), fmt.Sprint("w", r.IntN(2)), fmt.Sprint("k", r.IntN(5)), fmt.Sprint("m", r.IntN(3)), time.Now().Add(-time.Duration(r.Int64N(int64(3*time.Hour)))).Truncate(time.Microsecond))
					if r.IntN(20) > 0 {
						m.at = events.Position{Replica: fmt.Sprint("r", replica), Epoch: uint64(1 + i/150), Seq: uint64(1 + i + r.IntN(2)*10_000)}
					}
					m.event.Data.Cost, m.event.Data.ListCost = money.New(r.Int64N(1e9), r.IntN(20)), money.New(r.Int64(), r.IntN(20))
					all = append(all, m)
				}
				s.store(m.event, m.at)
				distinct[m.event.ID] = parsed(t, m.event)
				switch r.IntN(40) {
				case 0:
					stop()
					f = open(t, s, path)
					stop = run(t, f)
				case 1: // killed: the snapshot is an older one, or torn
					kept, err := os.ReadFile(path)
					stop()
					if err == nil {
						if r.IntN(2) == 0 {
							kept = kept[:r.IntN(len(kept))]
						}
						if err := os.WriteFile(path, kept, 0o600); err != nil {
							t.Fatal(err)
						}
					}
					f = open(t, s, path)
					stop = run(t, f)
				case 2:
					time.Sleep(time.Duration(r.Int64N(int64(5 * time.Minute))))
				case 3:
					s.do(func() { s.broken = errors.New("away") })
					time.Sleep(time.Second)
					s.do(func() { s.broken = nil })
				}
			}
			time.Sleep(time.Minute)
			if err := f.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := &model{events: distinct, floor: time.Unix(int64(f.state.floor)*60, 0)}
			for group := range 2 * ByMinute {
				q := Query{GroupBy: group}
				a, asOf, err := f.Totals(q)
				if want := want.rows(q); err != nil || !asOf.Current || !slices.EqualFunc(a.Rows, want, equalRows) {
					t.Fatalf("seed %d, by %b: %v\n got %+v\nwant %+v", seed, group, err, a.Rows, want)
				}
				var sum Counts
				for _, row := range a.Rows {
					sum.add(&row.Counts)
				}
				var list, cost money.Amount
				for _, e := range distinct {
					list, cost = list.Add(e.counts.ListCost), cost.Add(e.counts.Cost)
				}
				if sum.ListCost.Cmp(list) != 0 || sum.Cost.Cmp(cost) != 0 {
					t.Fatalf("seed %d, by %b: %s of %s, want %s of %s", seed, group, sum.Cost, sum.ListCost, cost, list)
				}
				if whole := want.rows(Query{})[0].Counts; !sum.equal(&whole) || sum.Requests != int64(len(distinct)) {
					t.Fatalf("seed %d, by %b: %+v, of %d requests; want %+v", seed, group, sum, len(distinct), whole)
				}
			}
			stop()
		})
	}
}

// Queries and counting go on at once.
func TestQueriesWhileCounting(t *testing.T) {
	s := newStream()
	f := open(t, s, filepath.Join(t.TempDir(), "snapshot"))
	stop := run(t, f)
	var asking sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				a, _, err := f.Totals(Query{Workspace: "w", GroupBy: ByKey | ByMinute})
				if err != nil {
					t.Error(err)
				}
				var n int64
				for _, r := range a.Rows {
					n += r.InputTokens
					if r.InputTokens != 10*r.Requests || r.OutputTokens != 5*r.Requests {
						t.Errorf("half an event: %+v", r)
					}
				}
				f.OfKey("w", "k3")
			}
		})
	}
	for i := range 1000 {
		s.store(usage(fmt.Sprint(i), "w", fmt.Sprint("k", i%50), "m", time.Now().Add(-time.Duration(i)*time.Minute)), position(i+1))
		if i%400 == 0 {
			f.trim(time.Now())
			f.snapshot()
		}
	}
	if err := f.Refresh(t.Context()); err != nil || requests(t, f) != 1000 {
		t.Errorf("%v, %d requests", err, requests(t, f))
	}
	close(done)
	asking.Wait()
	stop()
	if got := slices.Collect(maps.Keys(f.OfKey("w", "k3").ByModel)); !slices.Equal(got, []string{"m"}) {
		t.Errorf("models %v", got)
	}
}
