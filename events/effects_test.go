package events

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tollgate/authz"
)

// effectEvent is an event with effects as it waits in the journal.
func effectEvent(id string, change func(*UsageData)) Outgoing {
	e := FromUsage(Source("test"), &authz.Usage{Admission: admission(id, ""), Outcome: authz.Completed, Measurement: authz.Reported, Status: 200})
	e.Data.Dialect = "minimax"
	change(&e.Data)
	return Outgoing{Subject: Subject("demo", "k", "m"), MsgID: MsgID(e.Source, e.ID), Payload: e.AppendJSON(nil)}
}

func makesMind(id, mind string) Outgoing {
	return effectEvent(id, func(d *UsageData) {
		d.Created = &ObjectData{Kind: "mind", ID: mind, Until: d.Start.Add(time.Hour), Generation: "g1"}
		d.Resource = &ResourceData{Name: "minds", Delta: 1, Generation: "g1"}
	})
}

func failsToMakeMind(id string) Outgoing {
	return effectEvent(id, func(d *UsageData) { d.Resource = &ResourceData{Name: "minds", Generation: "g1"} })
}

func removesMind(id, mind string) Outgoing {
	return effectEvent(id, func(d *UsageData) {
		d.Removed = &ObjectData{Kind: "mind", ID: mind, Generation: "g1"}
		d.Resource = &ResourceData{Name: "minds", Delta: -1, Generation: "g1"}
	})
}

// accept is a stream that takes everything.
func accept(_ context.Context, batch []Outgoing) []error { return make([]error, len(batch)) }

func mindCount(t *testing.T, s *Objects) authz.Tally {
	t.Helper()
	tally, err := s.Tally(t.Context(), aMind)
	if err != nil {
		t.Fatal(err)
	}
	return tally
}

func mindOf(t *testing.T, s *Objects, id string) authz.Binding {
	t.Helper()
	b, err := s.Binding(t.Context(), authz.Object{Dialect: "minimax", Kind: "mind", ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func bringAll(t *testing.T, e *effects, batch ...Outgoing) {
	t.Helper()
	for i, err := range e.publishAfter(t.Context(), batch, accept) {
		if err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
}

func TestEffectsHappenOnce(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	e := &effects{openObjects(t, nc), quiet}
	s := e.store
	if ok, err := s.Reserve(t.Context(), objectsStart, aMind, 2, "1", objectsStart.Add(time.Hour)); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if ok, err := s.Reserve(t.Context(), objectsStart, aMind, 2, "2", objectsStart.Add(time.Hour)); err != nil || !ok {
		t.Fatal(ok, err)
	}
	bringAll(t, e, makesMind("1", "a"), failsToMakeMind("2"), makesMind("1", "a"))
	bringAll(t, e, makesMind("1", "a"), failsToMakeMind("2"))
	if tally := mindCount(t, s); tally.Count != 1 || len(tally.Held) != 0 {
		t.Errorf("one was made: %+v", tally)
	}
	if b := mindOf(t, s, "a"); b.Tenant != ours || b.Key != "k" || b.Model != "m" || !b.Until.Equal(objectsStart.Add(time.Hour)) {
		t.Errorf("whose it is: %+v", b)
	}

	// Two requests remove it, each told twice, and the creation is told again.
	bringAll(t, e, removesMind("3", "a"), removesMind("4", "a"))
	bringAll(t, e, removesMind("3", "a"), removesMind("4", "a"), makesMind("1", "a"))
	if tally := mindCount(t, s); tally.Count != 0 {
		t.Errorf("it was removed: %+v", tally)
	}
	// Made a second time, after a removal began of which is told only now.
	again := parsed(t, makesMind("5", "a").Payload)
	again.Time = again.Time.Add(time.Minute)
	again.Data.Created.Until = again.Time.Add(time.Hour)
	bringAll(t, e, Outgoing{Payload: again.AppendJSON(nil)}, removesMind("6", "a"))
	b := mindOf(t, s, "a")
	if tally := mindCount(t, s); tally.Count != 1 || !b.Of(ours, again.Time) {
		t.Errorf("it was made again: %+v, %+v", tally, b)
	}
	bringAll(t, e, removesMind("6", "never-made"))
	if tally := mindCount(t, s); tally.Count != 1 {
		t.Errorf("what was never made was removed: %+v", tally)
	}
}

// An event is not published before what it changes has happened; and what can't be
// changed now keeps others from nothing.
func TestEffectsComeFirst(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	e := &effects{openObjects(t, nc), quiet}
	broken := authz.Object{Dialect: "minimax", Kind: "mind", ID: "of-a-newer-version"}
	if _, err := e.store.bucket.put(t.Context(), objectName(broken), []byte(`{"v":2}`), 0); err != nil {
		t.Fatal(err)
	}
	batch := []Outgoing{effectEvent("0", func(*UsageData) {}), makesMind("1", broken.ID)}
	for n := 2; n < 60; n++ {
		batch = append(batch, makesMind(fmt.Sprint(n), fmt.Sprint("mind ", n)))
	}
	published := 0
	errs := e.publishAfter(t.Context(), batch, func(_ context.Context, ready []Outgoing) []error {
		for _, out := range ready {
			d := parsed(t, out.Payload).Data
			if d.Created != nil && mindOf(t, e.store, d.Created.ID).Tenant != ours {
				t.Errorf("%s is published before it is bound", d.RequestID)
			}
		}
		published += len(ready)
		errs := make([]error, len(ready))
		errs[len(ready)-1] = errContested
		return errs
	})
	if published != 59 || !errors.Is(errs[1], errUnreadable) || !errors.Is(errs[59], errContested) || errs[0] != nil || errs[58] != nil {
		t.Errorf("%d were published, %v", published, errs)
	}
	if tally := mindCount(t, e.store); tally.Count != 58 {
		t.Errorf("%d were counted, want 58", tally.Count)
	}
}

// deaf is a stream that acknowledges nothing, as one is before a kill.
type deaf struct {
	once  sync.Once
	asked chan struct{}
}

func (d *deaf) PublishBatch(_ context.Context, batch []Outgoing) []error {
	d.once.Do(func() { close(d.asked) })
	errs := make([]error, len(batch))
	for i := range errs {
		errs[i] = nats.ErrTimeout
	}
	return errs
}

// keep is a stream that keeps the ids of what it is given.
type keep struct {
	mu  sync.Mutex
	ids map[string]int
}

func (k *keep) PublishBatch(_ context.Context, batch []Outgoing) []error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, out := range batch {
		k.ids[out.MsgID]++
	}
	return make([]error, len(batch))
}

// A replica is killed after what an event changes has happened and before it is
// published: the next process publishes it, and nothing happens twice.
func TestKilledBetweenEffectAndEvent(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	s, dir := openObjects(t, nc), t.TempDir()
	l, j := openLedger(t, dir)
	l.Affect(s, quiet)
	for n := range 5 {
		out := makesMind(fmt.Sprint(n), fmt.Sprint("mind ", n))
		e := parsed(t, out.Payload)
		if err := l.publishLate(l.outgoing(&e, out.Subject)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, done := &deaf{asked: make(chan struct{})}, make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx, stream) }()
	<-stream.asked
	if tally := mindCount(t, s); tally.Count == 0 {
		t.Error("nothing had happened when the stream was asked")
	}
	// What a kill leaves: the files as they are now.
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	l, j = openLedger(t, left)
	l.Affect(s, quiet)
	ctx, cancel = context.WithCancel(t.Context())
	kept, done := &keep{ids: map[string]int{}}, make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx, kept) }()
	if err := j.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	if len(kept.ids) != 5 {
		t.Errorf("published: %v", kept.ids)
	}
	if tally := mindCount(t, s); tally.Count != 5 {
		t.Errorf("%d were counted, want 5", tally.Count)
	}
}

// While NATS is away, events with effects wait with the others.
func TestEffectsWaitForNATS(t *testing.T) {
	r := newRemote(t)
	s := openObjects(t, r.connect())
	e := &effects{s, quiet}
	r.proxy.swallow(true, true)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	batch := []Outgoing{makesMind("1", "a"), effectEvent("2", func(*UsageData) {}), makesMind("3", "b")}
	errs := e.publishAfter(ctx, batch, accept)
	if errs[0] == nil || errs[1] != nil || errs[2] == nil {
		t.Errorf("while it is away: %v", errs)
	}
	r.proxy.heal()
	eventually(t, "the events go out", func() bool { return errors.Join(e.publishAfter(t.Context(), batch, accept)...) == nil })
	if tally := mindCount(t, s); tally.Count != 2 {
		t.Errorf("%+v", tally)
	}
}

func TestHasEffects(t *testing.T) {
	for _, plain := range []Outgoing{
		effectEvent("1", func(*UsageData) {}),
		effectEvent("1", func(d *UsageData) { d.Labels = map[string]string{"created": "{", "resource": `"created":{`} }),
		effectEvent("1", func(d *UsageData) { d.Model = `x","created":{"kind":"mind"},"y":"` }),
	} {
		if hasEffects(plain.Payload) {
			t.Errorf("it changes something: %s", plain.Payload)
		}
	}
	for _, out := range []Outgoing{makesMind("1", "a"), failsToMakeMind("1"), removesMind("1", "a"), effectEvent("1", func(d *UsageData) { d.Removed = &ObjectData{Kind: "k", ID: "i"} })} {
		if !hasEffects(out.Payload) {
			t.Errorf("it changes nothing: %s", out.Payload)
		}
	}
}

// Whoever settles late, after the place was given back, still counts, and once.
func TestLateTruthHasItsEffect(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	s := openObjects(t, nc)
	l, stream, _ := sharedLedger(t, t.TempDir())
	l.Affect(s, quiet)
	a := admission("1", "r")
	a.Dialect, a.Path, a.Counting, a.Generation = "minds", "POST /api/v1/minds", "minds", "g1"
	if ok, err := s.Reserve(t.Context(), a.Start, aMind, 1, a.ID, a.Deadline); err != nil || !ok {
		t.Fatal(ok, err)
	}
	admit(t, l, a)
	mustClose(t, l, unknown(a))
	bring(t, l)
	if tally := mindCount(t, s); tally.Count != 0 || len(tally.Held) != 0 || len(stream.stored) != 1 {
		t.Errorf("closed as unknown: %+v, %d events", tally, len(stream.stored))
	}
	truth := told(a)
	truth.Status, truth.Object = 201, "m1"
	for range 2 {
		if err := l.Adjust(truth); err != nil {
			t.Fatal(err)
		}
		bring(t, l)
	}
	b, err := s.Binding(t.Context(), authz.Object{Dialect: "minds", Kind: "mind", ID: "m1"})
	if err != nil || b.Tenant != ours {
		t.Errorf("whose it is: %+v, %v", b, err)
	}
	if tally := mindCount(t, s); tally.Count != 1 {
		t.Errorf("the truth: %+v", tally)
	}
	if adjusted := stream.stored[MsgID(Source("test"), a.ID+lateSuffix)]; adjusted.Data.Resource == nil || adjusted.Data.Resource.Delta != 1 {
		t.Errorf("the adjustment says %+v", adjusted.Data.Resource)
	}
}
