package totals

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/authz"
	"tollgate/events"
	"tollgate/events/journal"
	"tollgate/events/natsd"
)

// embedded starts the server that Tollgate itself uses, on a directory.
func embedded(t *testing.T, dir string) (*nats.Conn, func()) {
	t.Helper()
	s, err := natsd.Start(natsd.Config{Dir: dir, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() { _ = s.Close(context.Background()) }
	t.Cleanup(stop)
	nc, err := s.Connect(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	return nc, stop
}

func openUsage(t *testing.T, nc *nats.Conn) *events.Usage {
	t.Helper()
	u, err := events.OpenUsage(t.Context(), nc, events.UsageConfig{Replica: "one"})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// settle lets admissions through a journal and brings their events into the
// stream.
func settle(t *testing.T, dir string, u *events.Usage, from, to int) {
	t.Helper()
	j, open, err := journal.Open(dir, journal.Config{SegmentBytes: 256 << 10, MaxBytes: 16 << 20, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	l := events.OpenLedger(j, open, events.Source("test"), quiet)
	for i := from; i < to; i++ {
		a := &authz.Admission{ID: fmt.Sprint("id", i), Workspace: "demo", Key: "k", Model: "m", Dialect: "openai",
			Start: time.Now(), Deadline: time.Now().Add(time.Hour)}
		if err := l.Admit(a, a.AppendBinary(nil)); err != nil {
			t.Fatal(err)
		}
		usage := &authz.Usage{Admission: a, Outcome: authz.Completed, Measurement: authz.Reported, Tokens: authz.Tokens{Input: 10, Output: 5}}
		if ok, err := l.Close(usage); err != nil || !ok {
			t.Fatalf("%v, %v", ok, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.Run(ctx, u)
	}()
	if err := j.Flush(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
}

// On a real stream, from a real journal: what is stored again beyond the stream's
// window for repetitions counts once, also over restarts of replica and server.
func TestRealStream(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "totals", "snapshot")
	nc, stopNATS := embedded(t, filepath.Join(dir, "nats"))
	u := openUsage(t, nc)
	f := open(t, u, path)
	stop := run(t, f)
	refreshed := func(want int64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Refresh(ctx); err != nil || requests(t, f) != want {
			t.Errorf("%v, %d requests, want %d", err, requests(t, f), want)
		}
	}
	refreshed(0)
	settle(t, filepath.Join(dir, "journal"), u, 0, 700)
	refreshed(700)
	if k := f.OfKey("demo", "k"); k.InputTokens != 7000 || time.Since(k.LastUsed) > time.Minute {
		t.Errorf("%+v", k)
	}
	storeAgain(t, nc, 700)
	refreshed(700)
	if n := f.Stats(); n.Repeated != 700 || n.Unreadable != 0 || n.Epochs != 1 {
		t.Errorf("%+v", n)
	}
	stop()
	stopNATS()

	nc, stopNATS = embedded(t, filepath.Join(dir, "nats"))
	u = openUsage(t, nc)
	f = open(t, u, path)
	if n := requests(t, f); n != 700 {
		t.Errorf("from the snapshot: %d", n)
	}
	stop = run(t, f)
	settle(t, filepath.Join(dir, "journal"), u, 700, 800)
	refreshed(800)
	if n := f.Stats(); n.Repeated != 0 || n.Epochs != 2 {
		t.Errorf("%+v", n)
	}
	stop()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), events.UsageStream)
	if err != nil || stream.CachedInfo().State.Consumers != 0 {
		t.Errorf("%v, %d consumers are left", err, stream.CachedInfo().State.Consumers)
	}
	stopNATS()
}

// storeAgain stores the first n messages once more, headers and all, under ids
// that the stream doesn't know, as it is after its window.
func storeAgain(t *testing.T, nc *nats.Conn, n uint64) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), events.UsageStream)
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= n; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := events.ParsePosition(m.Header.Get(events.PositionHeader)); !ok {
			t.Fatalf("message %d has no position: %v", seq, m.Header)
		}
		m.Header.Set("Nats-Msg-Id", "again-"+m.Header.Get("Nats-Msg-Id"))
		if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}); err != nil {
			t.Fatal(err)
		}
	}
}

// The server goes away and comes back; the stream is made anew: reading goes on.
func TestRealStreamAway(t *testing.T) {
	nc, _ := embedded(t, t.TempDir())
	u := openUsage(t, nc)
	f := open(t, u, filepath.Join(t.TempDir(), "snapshot"))
	stop := run(t, f)
	defer stop()
	settle(t, t.TempDir(), u, 0, 50)
	eventually(t, "the events are counted", func() bool { return requests(t, f) == 50 && f.AsOf().Current })
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), events.UsageStream); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is noticed", func() bool { return !f.AsOf().Current })
	u2 := openUsage(t, nc)
	settle(t, t.TempDir(), u2, 50, 80)
	eventually(t, "the new stream's events are counted", func() bool { return requests(t, f) == 80 && f.AsOf().Current })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
