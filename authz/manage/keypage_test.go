package manage_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/manage/managetest"
)

// manyKeys stores keys of workspace demo, of which some open one model only, and
// returns the ids of those.
func manyKeys(t *testing.T, store *managetest.Store, n int, narrow func(i int) bool) (ids []string) {
	t.Helper()
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		rec := &key.Record{
			Version: key.RecordVersion, ID: fmt.Sprintf("01940000-0000-7000-8000-%012d", i), Workspace: "demo", Kind: key.Workspace, Status: key.Active,
			Secrets: []key.Secret{{Number: 1, Digest: key.DigestOf(fmt.Sprint(i)), CreatedAt: at}}, Actions: []key.Action{key.Infer}, CreatedAt: at,
		}
		if narrow(i) {
			rec.Models = []string{"demo/own"}
			ids = append(ids, rec.ID)
		}
		if _, err := store.Config().Keys.Put(t.Context(), rec, 0); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// TestRareKeysAreListedInBoundedSteps: a caller that sees few of many keys gets all of
// them, each once, by requests that look at a bounded number of keys.
func TestRareKeysAreListedInBoundedSteps(t *testing.T) {
	s := serve(t)
	rare := manyKeys(t, s.store, 4500, func(i int) bool { return i == 7 || i > 3500 && i < 3600 || i == 4499 })
	caller := s.create(operator, `{"workspace":"demo","models":["demo/own"],"actions":["infer","manage"]}`)
	rare = append(rare, caller.ID) // it is of a later time
	for _, limit := range []int{1, 60, 1000} {
		pages, looks := 0, 0
		s.store.Before = func(op string) error {
			if op == "page" {
				looks++
			}
			return nil
		}
		var got []string
		for path := fmt.Sprintf("/api/v1/api-keys?limit=%d", limit); path != ""; pages++ {
			looks = 0
			r := s.must(200, "GET", path, caller.Key, "")
			if looks > 11 {
				t.Fatalf("a page took %d looks at the index", looks)
			}
			var page []made
			if err := json.Unmarshal([]byte(r.body), &page); err != nil || len(page) > limit {
				t.Fatalf("a page of %d: %s (%v)", limit, r.body, err)
			}
			for _, k := range page {
				got = append(got, k.ID)
			}
			path, _, _ = strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), ">")
		}
		if !slices.Equal(got, rare) {
			t.Errorf("by %d: listed %d keys, want %d: %q", limit, len(got), len(rare), got)
		}
		if most := len(rare)/limit + 4; pages > most {
			t.Errorf("by %d: %d pages, want %d at most", limit, pages, most)
		}
	}
}

// TestAnIDIsEnoughForTheOperator: who made a key in one of several workspaces finds it
// again without naming that, and is told of one that isn't there that it isn't.
func TestAnIDIsEnoughForTheOperator(t *testing.T) {
	s := gated(t)
	m := s.create(operator, `{"workspace":"other"}`)
	s.must(200, "GET", "/api/v1/api-keys/"+m.ID, operator, "")
	s.must(404, "GET", "/api/v1/api-keys/"+m.ID+"?workspace=demo", operator, "")
	if e := s.explain(operator, `{"keyId":"`+m.ID+`","model":"shared/one"}`); !e.Allowed || e.Workspace == nil || *e.Workspace != "other" {
		t.Errorf("explained as %+v", e)
	}
	s.must(204, "DELETE", "/api/v1/api-keys/"+m.ID, operator, "")
	if e := s.explain(operator, `{"keyId":"`+m.ID+`","model":"shared/one"}`); e.Allowed { // told about revoked ones too
		t.Errorf("explained as %+v", e)
	}
	for _, id := range []string{"nope", "01940000-0000-7000-8000-00000000ffff"} {
		s.must(404, "GET", "/api/v1/api-keys/"+id, operator, "")
		s.must(404, "DELETE", "/api/v1/api-keys/"+id, operator, "")
		s.must(404, "POST", "/api/v1/explain", operator, `{"keyId":"`+id+`","model":"shared/one"}`)
	}
}

// TestPageHasWhatItSays: of callers that see all keys, a page is full, and the last
// one says that it is.
func TestPageHasWhatItSays(t *testing.T) {
	s := serve(t)
	manyKeys(t, s.store, 20, func(int) bool { return false })
	first := s.must(200, "GET", "/api/v1/api-keys?workspace=demo&limit=10", operator, "")
	next, _, ok := strings.Cut(strings.TrimPrefix(first.header.Get("Link"), "<"), ">")
	if u, err := url.Parse(next); !ok || err != nil || u.Query().Get("cursor") != "01940000-0000-7000-8000-000000000009" || u.Query().Get("limit") != "10" {
		t.Fatalf("the next page is at %q", next)
	}
	if last := s.must(200, "GET", next, operator, ""); last.header.Get("Link") != "" || strings.Count(last.body, `"id"`) != 10 {
		t.Errorf("the last page is %s, and the next at %q", last.body, last.header.Get("Link"))
	}
}

// TestCursorsNameVisibleKeysOnly: of keys that a caller doesn't see it learns no id, not
// even where one request has to look at more of them than it may.
func TestCursorsNameVisibleKeysOnly(t *testing.T) {
	s := serve(t)
	hidden := map[string]bool{}
	at := time.UnixMilli(1_800_000_000_000)
	for i := range 2500 {
		// Many are of one moment, as an import makes them.
		rec := &key.Record{
			Version: key.RecordVersion, Workspace: "demo", Kind: key.Workspace, Status: key.Active, Actions: []key.Action{key.Infer}, CreatedAt: at,
			ID:      fmt.Sprintf("%012x", 0x019400000000+i/500)[:8] + fmt.Sprintf("-%04x-7%03x-8%03x-%012x", i/500, i%500, i*7919%4096, i*104729),
			Secrets: []key.Secret{{Number: 1, Digest: key.DigestOf(fmt.Sprint(i)), CreatedAt: at}},
		}
		if _, err := s.store.Config().Keys.Put(t.Context(), rec, 0); err != nil {
			t.Fatal(err)
		}
		hidden[rec.ID] = true
	}
	caller := s.create(operator, `{"workspace":"demo","models":["demo/own"],"actions":["infer","manage"]}`)
	seen, pages := 0, 0
	for path := "/api/v1/api-keys?limit=5"; path != ""; pages++ {
		r := s.must(200, "GET", path, caller.Key, "")
		path, _, _ = strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), ">")
		seen += strings.Count(r.body, `"id"`)
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		if cursor := u.Query().Get("cursor"); hidden[cursor] {
			t.Errorf("a cursor is the id of a key that the caller doesn't see: %s", cursor)
		}
	}
	if seen != 1 || pages < 2 {
		t.Errorf("%d keys on %d pages, want the caller's own on several", seen, pages)
	}
}
