package events

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func openUsage(t *testing.T, nc *nats.Conn, cfg UsageConfig) *Usage {
	t.Helper()
	u, err := OpenUsage(t.Context(), nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func outgoing(from, to int) []Outgoing {
	var batch []Outgoing
	for i := from; i < to; i++ {
		batch = append(batch, Outgoing{Subject: Subject("demo", "key", "m"), MsgID: fmt.Sprint("id", i), Payload: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	return batch
}

// publish stores a batch; what a busy server did not acknowledge in time is sent again,
// as the journal does.
func publish(t *testing.T, u *Usage, batch []Outgoing) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		var again []Outgoing
		for i, err := range u.PublishBatch(t.Context(), batch) {
			switch {
			case errors.Is(err, jetstream.ErrAsyncPublishTimeout) && time.Now().Before(end):
				again = append(again, batch[i])
			case err != nil:
				t.Fatalf("event %d: %v", i, err)
			}
		}
		if batch = again; len(batch) == 0 {
			return
		}
	}
}

func stored(t *testing.T, u *Usage) uint64 {
	t.Helper()
	info, err := u.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

func TestPublishBatchOnce(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u := openUsage(t, nc, UsageConfig{})
	publish(t, u, nil)
	publish(t, u, outgoing(0, 300))
	publish(t, u, outgoing(200, 400)) // 100 of them again
	if n := stored(t, u); n != 400 {
		t.Errorf("%d events are stored, want 400", n)
	}
	msg, err := u.stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if msg.Header.Get("Content-Type") != ContentType || msg.Header.Get("Nats-Msg-Id") != "id0" || msg.Subject != "tollgate.usage.v1.demo.key.m" {
		t.Errorf("stored as %s with %v", msg.Subject, msg.Header)
	}
	for i, err := range u.PublishBatch(t.Context(), []Outgoing{
		{Subject: "elsewhere", MsgID: "x"},
		{Subject: "tollgate.usage.v1.a.b.c", MsgID: "y", Payload: []byte("{}")},
	}) {
		if (err != nil) != (i == 0) {
			t.Errorf("event %d: %v", i, err)
		}
	}
}

// A full stream refuses new events and keeps the old ones.
func TestFullStreamRefuses(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u := openUsage(t, nc, UsageConfig{MaxBytes: 5_000})
	errs := u.PublishBatch(t.Context(), outgoing(0, 100))
	ok := 0
	for _, err := range errs {
		if err == nil {
			ok++
		}
	}
	if ok == 0 || ok == 100 || errs[0] != nil || uint64(ok) != stored(t, u) {
		t.Fatalf("%d of 100 accepted, %d stored", ok, stored(t, u))
	}
	u = openUsage(t, nc, UsageConfig{MaxBytes: 1 << 20})
	cfg := u.stream.CachedInfo().Config
	if cfg.MaxBytes != 5_000 {
		t.Errorf("opening the stream changed its limit to %d", cfg.MaxBytes)
	}
	cfg.MaxBytes = 1 << 20 // as its operator may
	if _, err := u.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	publish(t, u, outgoing(0, 100))
	if n := stored(t, u); n != 100 {
		t.Errorf("with more room %d are stored, want 100", n)
	}
}

// Acknowledgements get lost, the batch is published again, nothing is there twice.
func TestPublishBatchLostAcks(t *testing.T) {
	r := newRemote(t)
	nc := r.connect()
	u := openUsage(t, nc, UsageConfig{})
	r.proxy.swallow(false, true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for i, err := range u.PublishBatch(ctx, outgoing(0, 300)) {
		if err == nil {
			t.Fatalf("event %d is said to be stored", i)
		}
	}
	r.proxy.heal()
	eventually(t, "stored after all", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, err := range u.PublishBatch(ctx, outgoing(0, 300)) {
			if err != nil {
				return false
			}
		}
		return true
	})
	if n := stored(t, u); n != 300 {
		t.Errorf("%d events are stored, want 300", n)
	}
}

func TestRead(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u := openUsage(t, nc, UsageConfig{})
	read := func(after uint64, since time.Time, limit int, wait time.Duration) ([]Stored, uint64) {
		t.Helper()
		items, next, err := u.Read(t.Context(), after, since, limit, wait)
		if err != nil {
			t.Fatal(err)
		}
		return items, next
	}
	if items, next := read(0, time.Time{}, 10, 0); len(items) != 0 || next != 0 {
		t.Errorf("of an empty stream: %v, next %d", items, next)
	}
	publish(t, u, outgoing(0, 25))
	var after uint64
	n := 0
	for _, want := range []int{10, 10, 5, 0} {
		items, next := read(after, time.Time{}, 10, 0)
		if len(items) != want {
			t.Fatalf("%d events after %d, want %d", len(items), after, want)
		}
		for _, it := range items {
			if string(it.Payload) != fmt.Sprintf(`{"n":%d}`, n) || it.Seq != uint64(n+1) {
				t.Errorf("event %d is %s at %d", n, it.Payload, it.Seq)
			}
			n++
		}
		after = next
	}
	if after != 25 {
		t.Errorf("next is %d", after)
	}
	if items, _ := read(20, time.Now().Add(time.Hour), 10, 0); len(items) != 5 {
		t.Errorf("after counts, not since: %d events", len(items))
	}
	if items, _ := read(0, time.Now().Add(-time.Hour), 100, 0); len(items) != 25 {
		t.Errorf("since an hour ago: %d events", len(items))
	}
	if items, _ := read(0, time.Now().Add(time.Hour), 100, 0); len(items) != 0 {
		t.Errorf("since the future: %d events", len(items))
	}
	if _, _, err := u.Read(t.Context(), 26, time.Time{}, 1, 0); !errors.Is(err, ErrCursor) {
		t.Errorf("beyond the end: %v", err)
	}
	if c := must(u.stream.Info(t.Context())).State.Consumers; c != 0 {
		t.Errorf("%d consumers are left", c)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Read waits for the first event and comes back with it at once.
func TestReadWaits(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u := openUsage(t, nc, UsageConfig{})
	publish(t, u, outgoing(0, 3))

	began := time.Now()
	items, next, err := u.Read(t.Context(), 3, time.Time{}, 10, 50*time.Millisecond)
	if err != nil || len(items) != 0 || next != 3 {
		t.Errorf("nothing came: %v, next %d, %v", items, next, err)
	}
	// The server, which counts too, may be done a moment earlier.
	if d := time.Since(began); d < 40*time.Millisecond || d > 5*time.Second {
		t.Errorf("it waited %s", d)
	}

	began = time.Now()
	later := time.AfterFunc(100*time.Millisecond, func() { u.PublishBatch(context.Background(), outgoing(3, 4)) })
	defer later.Stop()
	items, next, err = u.Read(t.Context(), 3, time.Time{}, 10, 20*time.Second)
	if err != nil || len(items) != 1 || next != 4 {
		t.Errorf("one came: %v, next %d, %v", items, next, err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("it waited %s", d)
	}

	ctx, cancel := context.WithCancel(t.Context())
	away := time.AfterFunc(50*time.Millisecond, cancel)
	defer away.Stop()
	if _, _, err := u.Read(ctx, 4, time.Time{}, 10, 20*time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller went away: %v", err)
	}
}

func TestReadUnavailable(t *testing.T) {
	r := newRemote(t)
	u := openUsage(t, r.connect(), UsageConfig{})
	if err := u.js.DeleteStream(t.Context(), UsageStream); err != nil {
		t.Fatal(err)
	}
	if _, _, err := u.Read(t.Context(), 0, time.Time{}, 1, 0); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Read: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if errs := u.PublishBatch(ctx, outgoing(0, 1)); errs[0] == nil {
		t.Error("an event was stored in no stream")
	}
}
