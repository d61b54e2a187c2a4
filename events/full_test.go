package events

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"tollgate/authz/key"
	"tollgate/events/natsd"
)

// fullDisk is a way to take all room from a directory's files, and to give it
// back.
type fullDisk struct {
	dir        string
	fill, free func()
	// reserved is whether the server's reserve gives room, once after each fill.
	reserved bool
}

// TestFileLimit stands in for a full disk where nothing can be mounted: the kernel
// refuses every write beyond the limit, which is set below what the files have.
func TestFileLimit(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ) // such a write returns EFBIG then
	t.Cleanup(func() { signal.Reset(syscall.SIGXFSZ) })
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	set := func(limit unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { set(before) })
	testFullDisk(t, fullDisk{
		dir:  t.TempDir(),
		fill: func() { set(unix.Rlimit{Cur: 64 << 10, Max: before.Max}) },
		free: func() { set(before) },
	})
}

// testFullDisk fills the disk under a server, looks at what still can be done, and
// what can again when there is room.
func testFullDisk(t *testing.T, disk fullDisk) {
	s, nc := embedded(t, natsd.Config{Dir: disk.dir, Listen: "127.0.0.1:0"})
	k := openKeys(t, nc)
	var sink table
	run(t, k, &sink)
	u := openUsage(t, nc, UsageConfig{Hold: s.Health})
	cfg, err := OpenConfig(t.Context(), nc, 0)
	if err != nil {
		t.Fatal(err)
	}
	consumers, err := OpenConsumers(t.Context(), s, cfg, u)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := consumers.Create(t.Context(), "outside", "")
	if err != nil {
		t.Fatal(err)
	}
	received := outside(t, cred)
	addr := s.Addr()

	a, b := put(t, k, record("a"), 0), put(t, k, record("b"), 0)
	for i := range 40 { // so that the file is beyond TestFileLimit's limit
		put(t, k, large(fmt.Sprint("old", i)), 0)
	}
	publish(t, u, outgoing(0, 200))
	eventually(t, "all keys are applied", sink.has("old39", 1))

	disk.fill()
	written := 42
	if disk.reserved {
		// Whoever finds the disk full is an operator, who doesn't even notice.
		put(t, k, large("full"), 0)
		a = revoke(t, k, "a", a)
		eventually(t, "the revocation is applied", sink.has("a", a))
		written++
	} else {
		written += breakStore(t, s, k, "the store ")
	}
	eventually(t, "it is on its reserve", func() bool { return strings.Contains(fmt.Sprint(s.Health()), "only its reserve") })
	if errs := u.PublishBatch(t.Context(), outgoing(200, 201)); errs[0] == nil {
		t.Error("an event took of the reserve")
	}
	disk.fill()
	written += breakStore(t, s, k, "can't be written")
	if rec, err := k.Get(t.Context(), "demo", "b"); err != nil || rec.Revision != b {
		t.Errorf("reading a key: %v", err)
	}

	disk.free()
	eventually(t, "it is healthy", func() bool { return s.Health() == nil })
	a, b = revoke(t, k, "a", a), revoke(t, k, "b", b)
	eventually(t, "the revocations are applied", func() bool { return sink.has("a", a)() && sink.has("b", b)() })
	publish(t, u, outgoing(150, 400)) // what waited, some of it for the second time
	if n := stored(t, u); n != 400 {
		t.Errorf("%d events are stored, want 400", n)
	}
	eventually(t, "who listens outside has all events", func() bool { return received.Load() == 400 })
	if s.Addr() != addr {
		t.Errorf("the address was %s and is %s", addr, s.Addr())
	}
	second, err := consumers.Create(t.Context(), "second", "")
	if err != nil {
		t.Fatal(err)
	}
	if events, err := fetch(t, second, 1000); err != nil || len(events) != 400 {
		t.Errorf("a new consumer gets %d events, %v", len(events), err)
	}
	if sink.resets != 0 {
		t.Errorf("the feed started over %d times", sink.resets)
	}
	// One more is there where a put was refused that was written all the same.
	if all, err := k.List(t.Context(), "demo"); err != nil || len(all) < written || len(all) > written+1 {
		t.Errorf("%d keys are left of %d, %v", len(all), written, err)
	}
}

// large is a record of some kilobytes.
func large(id string) *key.Record {
	rec := record(id)
	rec.Labels = map[string]string{}
	for i := range 16 {
		rec.Labels[fmt.Sprint(i)] = strings.Repeat("v", 256)
	}
	return rec
}

// breakStore writes keys until one could not be written and Health says so. It
// returns how many were.
func breakStore(t *testing.T, s *natsd.Server, k *Keys, health string) (written int) {
	t.Helper()
	eventually(t, "the store breaks", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := k.Put(ctx, large(fmt.Sprint("new", written)), 0)
		if err == nil || errors.Is(err, key.ErrConflict) {
			written++
		} else if !errors.Is(err, key.ErrUnavailable) {
			t.Fatal(err)
		}
		return err != nil && strings.Contains(fmt.Sprint(s.Health()), health)
	})
	return written
}

func revoke(t *testing.T, k *Keys, id string, expect uint64) uint64 {
	t.Helper()
	rec := record(id)
	rec.Status = key.Revoked
	return put(t, k, rec, expect)
}

// outside reads events as a program of its own does, through whatever happens to
// the server, and counts them.
func outside(t *testing.T, cred Credential) *atomic.Int64 {
	t.Helper()
	nc, err := nats.Connect(cred.URL, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.Consumer(t.Context(), cred.Stream, cred.Durable)
	if err != nil {
		t.Fatal(err)
	}
	n := new(atomic.Int64)
	seen := map[uint64]bool{} // Consume calls one at a time
	sub, err := c.Consume(func(msg jetstream.Msg) {
		meta, err := msg.Metadata()
		if err != nil {
			t.Error(err)
			return
		}
		if !seen[meta.Sequence.Stream] { // redelivered, where the acknowledgement was lost
			seen[meta.Sequence.Stream] = true
			n.Add(1)
		}
		_ = msg.Ack() // lost where the server restarts
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sub.Stop)
	return n
}
