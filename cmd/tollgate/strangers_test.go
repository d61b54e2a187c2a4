package main

import (
	"context"
	"crypto/rand"
	mathrand "math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/reason"
	"tollgate/cache"
)

// noStore is a store of keys that must not be asked.
type noStore struct{ t *testing.T }

func (s noStore) Get(_ context.Context, workspace, id string) (*key.Record, error) {
	s.t.Errorf("the store was asked for key %s of %s", id, workspace)
	return nil, key.ErrNotFound
}

// TestStrangersCostNothing presents a million keys that were never made, of each
// form, to the whole of what decides: all are refused as one, the store is not
// read, and nothing is remembered of them.
func TestStrangersCostNothing(t *testing.T) {
	const strangers, known = 1_000_000, 1000
	doc, err := catalog.Parse("test", []byte("workspaces: [{id: demo, plan: open}]\nplans: [{id: open}]\nroutes: [{dialect: openai}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := catalog.Compile(doc, catalog.Source{})
	if err != nil {
		t.Fatal(err)
	}
	// Records of one revision only: so many that a look-up by chance would show.
	keys, err := cache.New(cache.Config{Store: noStore{t}, Records: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Close()
	for _, pattern := range []string{key.DefaultFormat, "minds_{hex:48}", "{base62:8}.{base62:32}", "{hex:32}"} {
		format := key.MustFormat(pattern)
		for i := range known {
			secret, prefix, err := format.Generate(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			id := pattern + strconv.Itoa(i)
			rec := &key.Record{ID: id, Workspace: "demo", Status: key.Active, Secrets: []key.Secret{{Digest: key.DigestOf(secret), Prefix: prefix}}, Revision: 1}
			keys.Apply(key.Change{Workspace: "demo", ID: id, Revision: 1, Record: rec})
		}
	}
	keys.SetReady(true)
	a := &authz.Authorizer{
		Replica: "r1", Tables: func() *catalog.Tables { return tables }, Keys: keys, NewID: func() string { return "id" },
	}
	for _, pattern := range []string{key.DefaultFormat, "minds_{hex:48}", "{base62:8}.{base62:32}", "{hex:32}"} {
		format, source := key.MustFormat(pattern), mathrand.NewChaCha8([32]byte{7})
		var d authz.Decision
		body := ""
		present := func(n int) {
			for range n {
				secret, _, err := format.Generate(source)
				if err != nil {
					t.Fatal(err)
				}
				req := dialect.Request{
					Method: "POST", Path: "/v1/chat/completions",
					Headers: []dialect.Header{{Name: "authorization", Value: "Bearer " + secret}},
				}
				a.Check(t.Context(), time.Time{}, &req, &d)
				if d.Reason != reason.KeyInvalid {
					t.Fatalf("%s: refused by %v", pattern, d.Reason)
				}
				if body == "" {
					body = string(d.Response.Body)
				}
				if string(d.Response.Body) != body {
					t.Fatalf("%s: told apart: %s and %s", pattern, d.Response.Body, body)
				}
			}
		}
		present(10_000)
		before := heap()
		present(strangers / slowness)
		if grown := heap() - before; grown > 512<<10 {
			t.Errorf("%s: the heap grew by %d bytes", pattern, grown)
		}
	}
	if reads := keys.Stats().StoreReads; reads != 0 {
		t.Errorf("the store was read %d times", reads)
	}
}

// heap is what is in use once all garbage is gone.
func heap() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
