package events

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"tollgate/authz"
)

// Whoever fills the bucket with objects keeps nobody's counts and removals from
// going on, nor their events.
func TestFullOfObjects(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	s, ctx := openObjects(t, nc), t.Context()
	e := &effects{s, quiet}
	stream, err := s.bucket.js.Stream(ctx, objectsStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = 128 << 10
	if _, err := s.bucket.js.UpdateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	refresh := func() { s.fill.asked = time.Time{} }
	bringAll(t, e, makesMind("1", "ours"))
	if err := s.Room(ctx); err != nil {
		t.Errorf("of an empty one: %v", err)
	}
	bind := func(n int) error {
		refresh()
		o := authz.Object{Dialect: "minimax", Kind: "task", ID: fmt.Sprint(n)}
		_, err := s.Bind(ctx, o, bindingOf(theirs, time.Now()))
		return err
	}
	const most = 1000
	n, refused := 0, 0
	for ; n < most && bind(n) == nil; n++ {
		if s.Room(ctx) != nil {
			refused++
		}
	}
	err = bind(n)
	if !errors.Is(err, errFull) || !errors.Is(err, ErrUnavailable) {
		t.Fatalf("after %d objects: %v", n, err)
	}
	if refused == 0 || refused > n/4 {
		t.Errorf("requests were refused for the last %d of %d objects", refused, n)
	}
	// What makes one waits, and everything else goes on.
	errs := e.publishAfter(ctx, []Outgoing{makesMind("2", "new"), failsToMakeMind("3"), removesMind("4", "ours"), effectEvent("5", func(*UsageData) {})}, accept)
	if !errors.Is(errs[0], errFull) || errors.Join(errs[1:]...) != nil {
		t.Errorf("the events: %v", errs)
	}
	if tally := mindCount(t, s); tally.Count != 0 {
		t.Errorf("it was removed: %+v", tally)
	}
	if b := mindOf(t, s, "ours"); b.Of(ours, b.Until) {
		t.Errorf("it was removed: %+v", b)
	}
	for i := range 10 {
		r := authz.Resource{Tenant: authz.Tenant{Workspace: fmt.Sprint("w", i)}, Name: "minds"}
		if ok, err := s.Reserve(ctx, objectsStart, r, 1, "1", objectsStart.Add(time.Hour)); err != nil || !ok {
			t.Errorf("a place of workspace %d: %t, %v", i, ok, err)
		}
	}
	if _, err := s.Bind(ctx, authz.Object{Dialect: "minimax", Kind: "task", ID: "0"}, bindingOf(theirs, time.Now().Add(time.Hour))); err != nil {
		t.Errorf("one that is there: %v", err)
	}

	cfg.MaxBytes = objectsBytes
	if _, err := s.bucket.js.UpdateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.Room(ctx); err == nil {
		t.Error("it was asked again, want it from memory")
	}
	refresh()
	bringAll(t, e, makesMind("2", "new"))
	if err := s.Room(ctx); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}
