package totals

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/authz/money"
	"tollgate/events"
)

// peers are other replicas in memory.
type peers struct {
	folders []*Folder
	err     error
	asked   int
}

func (p *peers) Snapshot(_ context.Context, moreThan int64) (best []byte, err error) {
	p.asked++
	for _, f := range p.folders {
		if counted, current := f.Offer(); current && counted > moreThan {
			moreThan = counted
			if best, err = f.Snapshot(); err != nil {
				return nil, err
			}
		}
	}
	return best, p.err
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

// On a real NATS, with a snapshot of several pieces: the best of two others is taken.
func TestGapOverNATS(t *testing.T) {
	dir := t.TempDir()
	nc, _ := embedded(t, filepath.Join(dir, "nats"))
	u := openUsage(t, nc)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if b, err := NATSPeers(nc, "new").Snapshot(ctx, 0); b != nil || err != nil {
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
		`{"v":1,"replica":"r2","counted":8}`:                   offer{peersVersion, "r2", 8},
		`{"v":1,"id":"a","offset":524288}`:                     pieceRequest{peersVersion, "a", pieceBytes},
		`{"v":1,"id":"a","size":524291,"data":"VEdUT1RBTFM="}`: piece{peersVersion, "a", pieceBytes + 3, []byte(snapshotMagic)},
	} {
		text, err := json.Marshal(form)
		if err != nil || string(text) != frozen {
			t.Errorf("%s, %v; want %s", text, err, frozen)
		}
	}
}
