package totals

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/authz/money"
	"tollgate/events"
)

// peers are other replicas in memory.
type peers struct {
	mu      sync.Mutex
	folders []*Folder // guarded by mu, as asked
	err     error
	asked   int
}

// set makes others of them, and returns how often they were asked.
func (p *peers) set(folders ...*Folder) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.folders = folders
	return p.asked
}

func (p *peers) Snapshot(_ context.Context, moreThan int64, whole bool) (best []byte, misses bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	for _, f := range p.folders {
		if counted, partial, current := f.Offer(); current && counted > moreThan && (!partial || !whole) {
			moreThan, misses = counted, partial
			if best, err = f.Snapshot(); err != nil {
				return nil, false, err
			}
		}
	}
	return best, misses, p.err
}

// costly is usage's event that cost a dollar.
func costly(id string) *events.Event {
	e := usage(id, "w", "k", "m", time.Now())
	e.Data.Cost = money.New(1, 0)
	return e
}

// A replica that begins where the stream has dropped what it did not count has the
// totals of one that counted it, also of accounts that somebody had asked about, and
// counts on from there: each event once.
func TestGapIsFilledByAnotherReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dir := newStream(), t.TempDir()
		for i := range 100 {
			s.store(costly(fmt.Sprint(i)), position(i+1))
		}
		old := open(t, s, filepath.Join(dir, "old"))
		defer run(t, old)()
		if err := old.Wait(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		// The stream later, for one reader.
		s = &stream{created: s.created, messages: s.messages[60:], changed: make(chan struct{})}

		others := &peers{folders: []*Folder{old}}
		f, err := Open(Config{Stream: s, Path: filepath.Join(dir, "new"), Peers: others, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Spent("w", "", time.Time{}); !got.IsZero() {
			t.Errorf("before anything was read %s is spent", got)
		}
		stop := run(t, f)
		last := s.store(costly("100"), position(101))
		if err := f.Wait(t.Context(), last); err != nil || requests(t, f) != 101 {
			t.Errorf("%v, %d requests of 101", err, requests(t, f))
		}
		for _, key := range []string{"", "k"} {
			if got := f.Spent("w", key, time.Time{}); got.String() != "101" {
				t.Errorf("key %q: %s is spent", key, got)
			}
		}
		stop()

		// It is its own from now on, also where the stream is replaced by a copy.
		s = &stream{created: s.created.Add(time.Hour), messages: s.messages, changed: make(chan struct{})}
		others.asked = 0
		f, err = Open(Config{Stream: s, Path: filepath.Join(dir, "new"), Peers: others, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer run(t, f)()
		if err := f.Wait(t.Context(), s.store(costly("101"), position(102))); err != nil || requests(t, f) != 102 || others.asked != 0 {
			t.Errorf("%v, %d requests of 102, asked %d times", err, requests(t, f), others.asked)
		}
	})
}

// Where nobody has more, what comes is damaged or nobody answers, a replica goes on
// with what there is, soon.
func TestGapThatNobodyFills(t *testing.T) {
	for name, others := range map[string]*peers{
		"nobody has more": {}, "who has more fails": {err: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStream()
				for i := range 10 {
					s.store(costly(fmt.Sprint(i)), position(i+1))
				}
				s.do(func() { s.messages = s.messages[6:] })
				f, err := Open(Config{Stream: s, Path: filepath.Join(t.TempDir(), "snapshot"), Peers: others, Log: quiet})
				if err != nil {
					t.Fatal(err)
				}
				defer run(t, f)()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if err := f.Wait(ctx, 10); err != nil || requests(t, f) != 4 || others.asked != gapTries {
					t.Errorf("%v, %d requests of 4, asked %d times", err, requests(t, f), others.asked)
				}
			})
		})
	}
}

// What one replica has of a stream that was replaced since is in no stream: a new
// replica has it from that one, though the new stream has dropped nothing.
func TestNewReplicaKnowsOfAStreamBefore(t *testing.T) {
	for name, stored := range map[string]int{"an event came since": 1, "none came since": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				open := func(name string, s *stream, p Peers) *Folder {
					t.Helper()
					f, err := Open(Config{Stream: s, Path: filepath.Join(dir, name), Peers: p, Log: quiet})
					if err != nil {
						t.Fatal(err)
					}
					return f
				}
				s := newStream()
				for i := range 100 {
					s.store(costly(fmt.Sprint(i)), position(i+1))
				}
				old := open("old", s, nil)
				stop := run(t, old)
				if err := old.Wait(t.Context(), 100); err != nil {
					t.Fatal(err)
				}
				stop()
				s = &stream{created: s.created.Add(time.Hour), changed: make(chan struct{})}
				for i := range stored {
					s.store(costly(fmt.Sprint(100+i)), position(101+i))
				}
				old = open("old", s, nil)
				defer run(t, old)()
				synctest.Wait()

				s = &stream{created: s.created, messages: slices.Clone(s.messages), changed: make(chan struct{})} // for one reader
				others := &peers{folders: []*Folder{old}}
				f := open("new", s, others)
				defer run(t, f)()
				synctest.Wait()
				last := s.store(costly("last"), position(200))
				if err := f.Wait(t.Context(), last); err != nil || requests(t, f) != int64(101+stored) || others.asked != 1 {
					t.Errorf("%v, %d requests of %d, asked %d times", err, requests(t, f), 101+stored, others.asked)
				}
			})
		})
	}
}

// A new replica asks once, and goes on at once where nobody has counted anything.
func TestNewReplicaOfANewStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, others := newStream(), &peers{}
		f, err := Open(Config{Stream: s, Path: filepath.Join(t.TempDir(), "snapshot"), Peers: others, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		defer run(t, f)()
		if err := f.Wait(t.Context(), s.store(costly("1"), position(1))); err != nil || others.asked != 1 || time.Since(began) != 0 {
			t.Errorf("%v, asked %d times, after %v", err, others.asked, time.Since(began))
		}
		s.do(func() { s.broken = context.DeadlineExceeded })
		synctest.Wait()
		s.do(func() { s.broken = nil })
		if err := f.Wait(t.Context(), s.store(costly("2"), position(2))); err != nil || others.asked != 1 {
			t.Errorf("%v, asked %d times", err, others.asked)
		}
	})
}

// On a real NATS, with a snapshot of several pieces: the best of two others is taken.
func TestGapOverNATS(t *testing.T) {
	dir := t.TempDir()
	nc, _ := embedded(t, filepath.Join(dir, "nats"))
	u := openUsage(t, nc)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if b, _, err := NATSPeers(nc, "new").Snapshot(ctx, 0, false); b != nil || err != nil {
		t.Fatalf("of nobody: %d bytes, %v", len(b), err)
	}
	settle(t, filepath.Join(dir, "journal"), u, 0, 50)
	start := func(name string, p Peers) *Folder {
		t.Helper()
		f, err := Open(Config{Stream: u, Path: filepath.Join(dir, name), Peers: p, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(run(t, f))
		stop, err := Serve(nc, name, f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		if err := f.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		return f
	}
	whole := start("whole", nil)
	// What takes more than one piece.
	whole.writing.Lock()
	whole.mu.Lock()
	for i := range 20_000 {
		whole.state.Fold(&event{id: fmt.Sprint("x", i), workspace: "w", key: fmt.Sprint("a key of some length ", i), model: "m", at: time.Now(), counts: Counts{Requests: 1}}, events.Position{})
	}
	whole.mu.Unlock()
	whole.writing.Unlock()
	purge(t, nc, 31)
	if f := start("partial", nil); requests(t, f) != 20 {
		t.Fatalf("%d requests of 20", requests(t, f))
	}
	f := start("new", NATSPeers(nc, "new"))
	if requests(t, f) != 20_050 {
		t.Errorf("%d requests of 20050", requests(t, f))
	}
	settle(t, filepath.Join(dir, "journal"), u, 50, 60)
	if err := f.Refresh(ctx); err != nil || requests(t, f) != 20_060 {
		t.Errorf("%v, %d requests of 20060", err, requests(t, f))
	}
}

// A piece fits into a message, also of a server that takes less than usual.
func TestPieceFits(t *testing.T) {
	for _, most := range []int64{1 << 10, 4<<10 + 1, 64 << 10, 1 << 20, 8 << 20} {
		data := make([]byte, pieceSize(most))
		text, err := json.Marshal(piece{peersVersion, uuid.NewString(), maxSnapshot, data})
		if err != nil || int64(len(text)) > most || len(data) == 0 || len(data) > pieceBytes {
			t.Errorf("of %d bytes at most: %d with %d in it, %v", most, len(text), len(data), err)
		}
	}
	if n := pieceSize(0); n != pieceBytes {
		t.Errorf("not known: %d", n)
	}
}

// What isn't a snapshot of this stream, or leaves a gap, too, changes nothing.
func TestGapAndWrongSnapshots(t *testing.T) {
	s := newStream()
	for i := range 10 {
		s.store(costly(fmt.Sprint(i)), position(i+1))
	}
	s.do(func() { s.messages = s.messages[6:] })
	counted := newState()
	counted.Fold(&event{id: "x", workspace: "w", key: "k", model: "m", at: time.Now(), counts: Counts{Requests: 1}}, events.Position{})
	for name, at := range map[string]place{
		"of another stream": {created: s.created.UnixNano() + 1, seq: 8, stored: 1},
		"too old":           {created: s.created.UnixNano(), seq: 5, stored: 1},
		"damaged":           {created: s.created.UnixNano(), seq: 8, stored: 1},
	} {
		var b bytes.Buffer
		if err := counted.writeSnapshot(&b, at); err != nil {
			t.Fatal(err)
		}
		if name == "damaged" {
			b.Bytes()[b.Len()/2] ^= 1
		}
		f, err := Open(Config{Stream: s, Path: filepath.Join(t.TempDir(), "snapshot"), Peers: told(b.Bytes()), Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.takeOver(t.Context(), s.created, 7); err == nil || requests(t, f) != 0 || f.at() != (place{}) {
			t.Errorf("%s: %v, %d requests, %v", name, err, requests(t, f), f.at())
		}
	}
}

// told is a snapshot that somebody sends.
type told []byte

func (b told) Snapshot(context.Context, int64, bool) ([]byte, bool, error) { return b, false, nil }

// purge drops what is before a place, as retention does.
func purge(t *testing.T, nc *nats.Conn, before uint64) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), events.UsageStream)
	if err == nil {
		err = stream.Purge(t.Context(), jetstream.WithPurgeSequence(before))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPeersForms: what replicas send each other is what it was when it was frozen, for
// a release before or after this one may be there.
func TestPeersForms(t *testing.T) {
	for frozen, form := range map[string]any{
		`{"v":1,"from":"r1","moreThan":7}`:                     ask{peersVersion, "r1", 7},
		`{"v":1,"replica":"r2","counted":8}`:                   offer{peersVersion, "r2", 8, false},
		`{"v":1,"replica":"r2","counted":8,"partial":true}`:    offer{peersVersion, "r2", 8, true},
		`{"v":1,"id":"a","offset":524288}`:                     pieceRequest{peersVersion, "a", pieceBytes},
		`{"v":1,"id":"a","size":524291,"data":"VEdUT1RBTFM="}`: piece{peersVersion, "a", pieceBytes + 3, []byte(snapshotMagic)},
	} {
		text, err := json.Marshal(form)
		if err != nil || string(text) != frozen {
			t.Errorf("%s, %v; want %s", text, err, frozen)
		}
	}
}
