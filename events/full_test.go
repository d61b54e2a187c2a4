package events

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	"tollgate/events/natstest/freeaddr"
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
	dir := alone(t, nil) // because the limit is for all that the process writes
	if dir == "" {
		return
	}
	signal.Ignore(syscall.SIGXFSZ) // such a write returns EFBIG then
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	set := func(limit unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	testFullDisk(t, fullDisk{
		dir:  dir,
		fill: func() { set(unix.Rlimit{Cur: 64 << 10, Max: before.Max}) },
		free: func() { set(before) },
	})
}

// aloneEnv is the directory of a test that runs in a process of its own.
const aloneEnv = "TOLLGATE_TEST_ALONE"

// alone runs the test again, in a process of its own with the attributes given,
// and tells its outcome; there it returns an empty directory, here "".
func alone(t *testing.T, attr *syscall.SysProcAttr) (dir string) {
	t.Helper()
	if dir := os.Getenv(aloneEnv); dir != "" {
		return dir
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), aloneEnv+"="+t.TempDir())
	child.SysProcAttr = attr
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("%s", out)
	case err != nil && attr != nil && !errors.As(err, &exit):
		t.Skipf("such a process is not possible here: %v", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	return ""
}

// testFullDisk fills the disk under a server, looks at what still can be done, and
// what can again when there is room.
func testFullDisk(t *testing.T, disk fullDisk) {
	s, nc := embedded(t, natsd.Config{Dir: disk.dir, Listen: freeaddr.Take(t)})
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
		written += breakStore(t, s, k, "")
	}
	eventually(t, "it has its reserve only", func() bool { return strings.Contains(fmt.Sprint(s.Health()), "changes of keys only") })
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
	if all := listed(t, k, "demo"); len(all) < written || len(all) > written+1 {
		t.Errorf("%d keys are left of %d", len(all), written)
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

// breakStore writes keys until one could not be written and Health says that, and
// contains health. It returns how many were written.
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
		is := s.Health()
		return err != nil && is != nil && strings.Contains(is.Error(), health)
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
