package events

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/authz/key"
)

// picky is a Documents that takes only what it is told to.
type picky struct {
	took    chan string
	refuses atomic.Bool
}

func (p *picky) Document(name string, value []byte, revision uint64) error {
	if p.refuses.Load() {
		return fmt.Errorf("%s is not to be understood", value)
	}
	p.took <- fmt.Sprintf("%s=%s@%d", name, value, revision)
	return nil
}

func (p *picky) next(t *testing.T) string {
	t.Helper()
	select {
	case s := <-p.took:
		return s
	case <-time.After(time.Minute):
		t.Fatal("no document came")
		return ""
	}
}

func TestDocuments(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	ctx := t.Context()
	write := func(name, value string, expect uint64) uint64 {
		t.Helper()
		rev, err := k.PutDocument(ctx, name, []byte(value), expect)
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
	rev := write("catalog", "one", 0)
	other := write("other", "x", 0)
	rev = write("catalog", "two", rev)

	docs := &picky{took: make(chan string, 10)}
	p := newPeer(t, nc, "a", 700*time.Millisecond, docs)
	// The newest of each, in their order, before anything opens.
	for _, want := range []string{fmt.Sprintf("other=x@%d", other), fmt.Sprintf("catalog=two@%d", rev)} {
		if got := docs.next(t); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	eventually(t, "a lease", p.lease.Valid)
	rev = write("catalog", "", rev)
	if got, want := docs.next(t), fmt.Sprintf("catalog=@%d", rev); got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	// What can't be taken is not passed over: the lease runs out.
	docs.refuses.Store(true)
	bad := write("catalog", "three", rev)
	after := put(t, k, record("after"), 0)
	eventually(t, "the lease runs out", func() bool { return !p.lease.Valid() })
	if got := p.feed.Applied(); got >= bad {
		t.Errorf("applied %d with a document of %d that was not taken", got, bad)
	}
	if got := p.waitBriefly(bad); len(got.Away) != 1 || len(got.Applied) != 0 {
		t.Errorf("a replica that has not taken the document: %+v", got)
	}
	// It is tried again, in the form that it has then.
	rev = write("catalog", "four", bad)
	docs.refuses.Store(false)
	want := fmt.Sprintf("catalog=four@%d", rev)
	for got := docs.next(t); got != want; got = docs.next(t) {
		if got != fmt.Sprintf("catalog=three@%d", bad) {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	eventually(t, "everything is applied", func() bool { return p.lease.Valid() && p.feed.Applied() >= max(rev, after) })
	if got := p.members.Wait(ctx, rev); len(got.Away) != 0 {
		t.Errorf("%+v", got)
	}
}

// A key that was changed after a document is not in force before it.
func TestDocumentsWithoutMembers(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	rev, err := k.PutDocument(t.Context(), "catalog", []byte("one"), 0)
	if err != nil {
		t.Fatal(err)
	}
	docs := &picky{took: make(chan string, 10)}
	docs.refuses.Store(true)
	var sink table
	f := NewFeed(k)
	f.Documents = docs
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.Run(ctx, &sink) }()
	defer func() { cancel(); <-done }()
	put(t, k, record("a"), 0)
	eventually(t, "the key is read", func() bool { _, ok := sink.get("a"); return ok })
	if sink.isReady() || f.Applied() >= rev {
		t.Errorf("ready: %v, applied %d, with a document of %d that was not taken", sink.isReady(), f.Applied(), rev)
	}
	docs.refuses.Store(false)
	eventually(t, "ready", sink.isReady)
	if got, want := docs.next(t), fmt.Sprintf("catalog=one@%d", rev); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDocumentsCompareAndSet(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	ctx := t.Context()
	if _, _, err := k.GetDocument(ctx, "catalog"); !errors.Is(err, key.ErrNotFound) {
		t.Errorf("Get of nothing: %v", err)
	}
	rev, err := k.PutDocument(ctx, "catalog", []byte("one"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.PutDocument(ctx, "catalog", []byte("two"), 0); !errors.Is(err, key.ErrConflict) {
		t.Errorf("Put over a document: %v", err)
	}
	if value, at, err := k.GetDocument(ctx, "catalog"); err != nil || string(value) != "one" || at != rev {
		t.Errorf("Get: %q at %d, %v", value, at, err)
	}
	for _, name := range []string{"a.b", "", "*", ">", "A"} {
		if _, err := k.PutDocument(ctx, name, nil, 0); err == nil {
			t.Errorf("Put of %q worked", name)
		}
		if _, _, err := k.GetDocument(ctx, name); err == nil {
			t.Errorf("Get of %q worked", name)
		}
	}
	nc.Close()
	if _, _, err := k.GetDocument(ctx, "catalog"); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("Get on a closed connection: %v", err)
	}
}
