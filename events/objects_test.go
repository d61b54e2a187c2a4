package events

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tollgate/authz"
)

func openObjects(t *testing.T, nc *nats.Conn) *Objects {
	t.Helper()
	s, err := OpenObjects(t.Context(), nc, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	objectsStart = time.UnixMicro(1764000000000000).UTC()
	aTask        = authz.Object{Dialect: "minimax", Kind: "task", ID: "1765"}
	ours         = authz.Tenant{Workspace: "demo", Generation: "g1"}
	theirs       = authz.Tenant{Workspace: "other"}
)

func bindingOf(t authz.Tenant, from time.Time) authz.Binding {
	return authz.Binding{Tenant: t, Model: "video-01", Key: "k1", User: "u1", From: from, Until: from.Add(time.Hour)}
}

func mustBind(t *testing.T, s *Objects, b authz.Binding, want bool) {
	t.Helper()
	if got, err := s.Bind(t.Context(), aTask, b); err != nil || got != want {
		t.Fatalf("binding it to %v at %v: %t, %v; want %t", b.Tenant, b.From, got, err, want)
	}
}

func whose(t *testing.T, s *Objects) authz.Binding {
	t.Helper()
	b, err := s.Binding(t.Context(), aTask)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhoeverIsFirstHasAnObject(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	s := openObjects(t, nc)
	if b := whose(t, s); b != (authz.Binding{}) {
		t.Errorf("before: %+v", b)
	}
	first := bindingOf(ours, objectsStart)
	mustBind(t, s, first, true)
	mustBind(t, s, bindingOf(theirs, objectsStart.Add(time.Minute)), false)
	mustBind(t, s, bindingOf(authz.Tenant{Workspace: "demo", Generation: "g2"}, objectsStart.Add(time.Minute)), false)
	if b := whose(t, s); b != first {
		t.Errorf("it is %+v, want %+v", b, first)
	}

	// Told of again by the same workspace, much later too; and the first creation.
	mustBind(t, s, bindingOf(ours, objectsStart.Add(29*time.Minute)), true)
	if b := whose(t, s); b != first {
		t.Errorf("it is %+v, want %+v", b, first)
	}
	again := bindingOf(ours, objectsStart.Add(31*time.Minute))
	mustBind(t, s, again, true)
	mustBind(t, s, first, true)
	if b := whose(t, s); b != again {
		t.Errorf("it is %+v, want %+v", b, again)
	}

	// What began before it was made, and others, don't remove it.
	removed := objectsStart.Add(50 * time.Minute)
	for _, r := range []struct {
		t  authz.Tenant
		at time.Time
	}{{ours, objectsStart.Add(5 * time.Minute)}, {theirs, removed}} {
		if err := s.Remove(t.Context(), aTask, r.t, r.at); err != nil {
			t.Fatal(err)
		}
		if b := whose(t, s); b != again {
			t.Errorf("%v removed it at %v: %+v", r.t, r.at, b)
		}
	}
	for range 2 {
		if err := s.Remove(t.Context(), aTask, ours, removed); err != nil {
			t.Fatal(err)
		}
		if b := whose(t, s); !b.Until.Equal(removed) || b.Of(ours, removed) {
			t.Errorf("removed: %+v", b)
		}
		mustBind(t, s, again, true) // a repetition
	}

	// Its id rests before it is anybody else's.
	mustBind(t, s, bindingOf(theirs, removed.Add(authz.ObjectRest-time.Second)), false)
	mustBind(t, s, bindingOf(theirs, removed.Add(authz.ObjectRest)), true)
	if b := whose(t, s); b.Tenant != theirs {
		t.Errorf("it is %+v", b)
	}
}

// Of many who say at the same time that it is theirs, one is right.
func TestObjectHasOneOwner(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	s := openObjects(t, nc)
	var winners atomic.Int64
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			b := bindingOf(authz.Tenant{Workspace: fmt.Sprint("w", n)}, objectsStart)
			if ok, err := s.Bind(t.Context(), aTask, b); err != nil {
				t.Error(err)
			} else if ok {
				winners.Add(1)
			}
		})
	}
	all.Wait()
	if winners.Load() != 1 {
		t.Errorf("%d have it", winners.Load())
	}
}

// Records go when nobody asks for them any more, and leave nothing behind.
func TestObjectsAreForgotten(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	s := openObjects(t, nc)
	mustBind(t, s, bindingOf(ours, time.Now().UTC()), true)
	stream, err := s.bucket.js.Stream(t.Context(), objectsStream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), s.bucket.subject(objectName(aTask)))
	if err != nil {
		t.Fatal(err)
	}
	ttl, err := time.ParseDuration(m.Header.Get("Nats-TTL"))
	if err != nil || ttl < 24*time.Hour || ttl > 26*time.Hour {
		t.Errorf("it is kept for %q, %v", m.Header.Get("Nats-TTL"), err)
	}
	if cfg := stream.CachedInfo().Config; cfg.AllowRollup || cfg.SubjectDeleteMarkerTTL != 0 || !cfg.DenyDelete || cfg.AllowDirect {
		t.Errorf("the stream's configuration: %+v", cfg)
	}
	for until, want := range map[time.Duration]time.Duration{
		-time.Hour: 0, 0: 0, 1500 * time.Millisecond: time.Second, time.Hour: time.Hour,
	} {
		if got := keptFor(objectsStart, objectsStart.Add(until)) - 24*time.Hour - authz.ObjectRest; got != want {
			t.Errorf("until %v: kept for %v more, want %v", until, got, want)
		}
	}
}

var aMind = authz.Resource{Tenant: ours, Name: "minds"}

// However many replicas ask at once, there are as many places as the cap says.
func TestResourcePlacesAreShared(t *testing.T) {
	server, _ := embedded(t, natsdConfig)
	const replicas, each, most = 3, 20, 7
	until := objectsStart.Add(time.Hour)
	var places atomic.Int64
	var all sync.WaitGroup
	for r := range replicas {
		nc, err := server.Connect(fmt.Sprint("replica ", r))
		if err != nil {
			t.Fatal(err)
		}
		s := openObjects(t, nc)
		for n := range each {
			all.Go(func() {
				if ok, err := s.Reserve(t.Context(), objectsStart, aMind, most, fmt.Sprint(r, "/", n), until); err != nil {
					t.Error(err)
				} else if ok {
					places.Add(1)
				}
			})
		}
	}
	all.Wait()
	if places.Load() != most {
		t.Errorf("%d places were given out, want %d", places.Load(), most)
	}
}

func TestResourcesOfGenerationsAreApart(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	s, ctx := openObjects(t, nc), t.Context()
	if err := s.settle(ctx, aMind, "1", 1); err != nil {
		t.Fatal(err)
	}
	if err := s.settle(ctx, aMind, "1", 1); err != nil {
		t.Fatal(err)
	}
	for generation, want := range map[string]int64{"": 0, "g1": 1, "g2": 0} {
		r := authz.Resource{Tenant: authz.Tenant{Workspace: "demo", Generation: generation}, Name: "minds"}
		if tally, err := s.Tally(ctx, r); err != nil || tally.Count != want {
			t.Errorf("generation %q: %+v, %v; want %d", generation, tally, err, want)
		}
	}
	if err := s.Correct(ctx, aMind, 5); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Reserve(ctx, objectsStart, aMind, 5, "2", objectsStart.Add(time.Hour)); err != nil || ok {
		t.Errorf("after the correction: %t, %v", ok, err)
	}
	if err := s.Correct(ctx, aMind, 4); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Reserve(ctx, objectsStart, aMind, 5, "2", objectsStart.Add(time.Hour)); err != nil || !ok {
		t.Errorf("after the next one: %t, %v", ok, err)
	}
	if err := s.Free(ctx, aMind, "2"); err != nil {
		t.Fatal(err)
	}
	if tally, err := s.Tally(ctx, aMind); err != nil || len(tally.Held) != 0 || tally.Count != 4 {
		t.Errorf("%+v, %v", tally, err)
	}
}

// What is stored stays readable.
func TestObjectsAreFrozen(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	s, ctx := openObjects(t, nc), t.Context()
	b := bindingOf(ours, objectsStart)
	object, err := encodeObject(aTask, &b)
	if err != nil {
		t.Fatal(err)
	}
	tally := authz.Tally{Count: 2, Held: map[string]time.Time{"0199a1b2-0000-7000-8000-000000000003": objectsStart}, Done: []string{"0199a1b2-0000-7000-8000-000000000001", "o.ff@1764000000000000"}}
	count, err := encodeTally(&tally)
	if err != nil {
		t.Fatal(err)
	}
	for file, now := range map[string][]byte{"testdata/object.v1.json": object, "testdata/resource.v1.json": count} {
		frozen, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("%v; what is written now: %s", err, now)
		}
		if string(frozen) != string(now)+"\n" {
			t.Errorf("%s is written as\n%s\nnow", file, now)
		}
		name := objectName(aTask)
		if file == "testdata/resource.v1.json" {
			name = resourceName(aMind)
		}
		if _, err := s.bucket.put(ctx, name, frozen, 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := whose(t, s); got != b {
		t.Errorf("%+v, want %+v", got, b)
	}
	if got, err := s.Tally(ctx, aMind); err != nil || !reflect.DeepEqual(got, tally) {
		t.Errorf("%+v, %v", got, err)
	}
}

// What this version can't read is not taken for nothing, nor written over.
func TestObjectsOfAnotherVersion(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	s, ctx := openObjects(t, nc), t.Context()
	for _, name := range []string{objectName(aTask), resourceName(aMind)} {
		if _, err := s.bucket.put(ctx, name, []byte(`{"v":2}`), 0); err != nil {
			t.Fatal(err)
		}
	}
	_, bound := s.Bind(ctx, aTask, bindingOf(ours, objectsStart))
	_, reserved := s.Reserve(ctx, objectsStart, aMind, 5, "1", objectsStart.Add(time.Hour))
	_, read := s.Binding(ctx, aTask)
	for what, err := range map[string]error{"bind": bound, "reserve": reserved, "read": read, "settle": s.settle(ctx, aMind, "1", 1)} {
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, errUnreadable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Binding(ctx, aTask); !errors.Is(err, ErrUnavailable) || errors.Is(err, errUnreadable) {
		t.Errorf("the store can't be asked: %v", err)
	}
}
