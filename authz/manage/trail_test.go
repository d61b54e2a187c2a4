package manage_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

// TestNobodyReadsOfTheirPredecessors: the admins of a workspace that was made anew
// don't read what was done in the one before; the operator does.
func TestNobodyReadsOfTheirPredecessors(t *testing.T) {
	s := gated(t)
	read := func(secret, query string) string {
		t.Helper()
		var entries []struct {
			Data struct {
				Action string `json:"action"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(s.must(200, "GET", "/api/v1/audit"+query, secret, "").body), &entries); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range entries {
			all = append(all, e.Data.Action)
		}
		return strings.Join(all, " ")
	}
	first := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`)
	s.must(200, "PATCH", "/api/v1/workspaces/other", first.Key, `{"labels":{"a":"b"}}`)
	const before = "key.create workspace.update"
	if got := read(first.Key, ""); got != before {
		t.Errorf("the first reads %s", got)
	}
	s.must(204, "DELETE", "/api/v1/workspaces/other", operator, "")
	s.must(401, "GET", "/api/v1/api-keys", first.Key, "")
	s.must(201, "POST", "/api/v1/workspaces", operator, `{"id":"other","plan":"lite"}`)
	second := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`)
	s.must(403, "GET", "/api/v1/catalog", second.Key, "")
	s.must(404, "DELETE", "/api/v1/api-keys/"+first.ID, second.Key, "")
	const after = "workspace.create key.create catalog.read key.delete"
	if got := read(second.Key, ""); got != after {
		t.Errorf("the second reads %s", got)
	}
	if got := read(operator, "?workspace=other"); got != before+" workspace.delete "+after {
		t.Errorf("the operator reads %s", got)
	}
	s.must(204, "DELETE", "/api/v1/workspaces/other", operator, "")
	for _, e := range s.store.Trail() {
		if e.Action == "workspace.delete" && e.Generation == "" && strings.Contains(string(e.Before), `"managed":["*"]`) {
			t.Errorf("a deletion is in nobody's trail: %+v", e)
		}
	}
}

// TestATenantDoesNotFillTheTrail: what it changes is always written down; when it is
// much, shortened, and then slower. What takes away is never refused, and others
// don't notice.
func TestATenantDoesNotFillTheTrail(t *testing.T) {
	at := &clock{at: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	unaudited := map[string]int{}
	s := serve(t, func(c *manage.Config) {
		c.Now = at.now
		c.Unaudited = func(why string) { unaudited[why]++ }
	})
	member := s.create(operator, `{"workspace":"demo","user":"max"}`)
	shared := s.create(operator, `{"workspace":"demo"}`)
	other := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`)
	victim := s.create(member.Key, "")
	// As large as a change can be: all labels are others.
	change := func(i int) reply {
		labels := map[string]*string{}
		for n := range 32 {
			old, value := fmt.Sprint(n, strings.Repeat("n", 50), (i+1)%2), strings.Repeat("v", 250)
			labels[fmt.Sprint(n, strings.Repeat("n", 50), i%2)], labels[old] = &value, nil
		}
		body, err := json.Marshal(map[string]any{"labels": labels})
		if err != nil {
			t.Fatal(err)
		}
		return s.do("PATCH", "/api/v1/api-keys/"+member.ID, member.Key, string(body))
	}
	made, bytes := 0, 0
	began := len(s.store.Trail())
	for ; ; made++ {
		r := change(made)
		if r.status == 429 {
			if after := r.header.Get("Retry-After"); after == "" || after == "0" {
				t.Errorf("retry after %q", after)
			}
			break
		}
		if r.status != 200 || made > 20_000 {
			t.Fatalf("after %d changes: %d %s", made, r.status, r.body)
		}
	}
	trail := s.store.Trail()[began:]
	short := 0
	for _, e := range trail {
		if e.Status == 200 {
			bytes += len(e.Before) + len(e.After)
			if strings.HasPrefix(string(e.After), `{"omittedBytes":`) {
				short++
			}
		}
	}
	if len(trail) != made+1 || short == 0 || unaudited["shortened"] != short || bytes > 5<<20 {
		t.Errorf("%d entries of %d changes, %d of them short, of %d bytes; %v", len(trail), made, short, bytes, unaudited)
	}
	// Everybody of the workspace waits, and nobody else.
	s.must(429, "POST", "/api/v1/users", shared.Key, `{"id":"x"}`)
	s.must(201, "POST", "/api/v1/api-keys", other.Key, "{}")
	s.must(201, "POST", "/api/v1/users", operator, `{"id":"x","workspace":"demo"}`)
	s.must(200, "GET", "/api/v1/api-keys", member.Key, "")
	// To take away is not refused, and is written down once.
	n := len(s.store.Trail())
	s.must(200, "POST", "/api/v1/users/x/suspend", shared.Key, "")
	for range 20 {
		s.must(200, "POST", "/api/v1/users/x/suspend", shared.Key, "")
	}
	s.must(429, "POST", "/api/v1/users/x/resume", shared.Key, "")
	s.must(204, "DELETE", "/api/v1/api-keys/"+victim.ID, member.Key, "")
	var told []string
	for _, e := range s.store.Trail()[n:] {
		told = append(told, fmt.Sprint(e.Action, " ", e.Status))
	}
	if got := strings.Join(told, ", "); got != "user.suspend 200, user.resume 429, key.delete 204" {
		t.Errorf("written down: %s", got)
	}
	at.advance(time.Hour)
	if r := change(made); r.status != 200 {
		t.Errorf("an hour later: %d %s", r.status, r.body)
	}
}

// TestIDsOfOthersAreNotTold: neither an import nor a replayed creation tells the id
// of a key that the caller doesn't see.
func TestIDsOfOthersAreNotTold(t *testing.T) {
	s := gated(t)
	var legacy made
	if err := json.Unmarshal([]byte(s.must(201, "POST", all, operator, row("imported", `,"name":"all models"`)).body), &legacy); err != nil {
		t.Fatal(err)
	}
	imported := legacy.ID
	wide := s.create(operator, `{"workspace":"demo","user":"ada","actions":["infer","manage"]}`)
	narrow := s.create(operator, `{"workspace":"demo","user":"ada","actions":["infer","manage"],"models":["shared/*"]}`)
	hidden := func(r reply, id string) {
		t.Helper()
		if strings.Contains(r.body, id) || r.header.Get("Location") != "" {
			t.Errorf("%s, at %q", r.body, r.header.Get("Location"))
		}
	}
	hidden(s.must(409, "POST", "/api/v1/api-keys", narrow.Key, row("imported", "")), imported)
	if r := s.imports(narrow.Key, "/api/v1/api-keys/import", row("imported", "")); r.Rows[0].ID != nil || r.Rows[0].Status != "conflict" {
		t.Errorf("an import: %+v", r.Rows[0])
	}
	if r := s.must(409, "POST", "/api/v1/api-keys", wide.Key, row("imported", "")); strings.Contains(r.body, `"id"`) == strings.Contains(r.body, "somebody else") {
		t.Errorf("who sees it is told %s", r.body)
	}
	s.must(204, "DELETE", one(imported), operator, "")
	hidden(s.must(409, "POST", "/api/v1/api-keys", narrow.Key, row("imported", "")), imported)

	// The same user, by another key, with the same word and body.
	const word = "Idempotency-Key: word"
	var m made
	r := s.must(201, "POST", "/api/v1/api-keys", wide.Key, `{"actions":["infer"]}`, word)
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatal(err)
	}
	hidden(s.must(409, "POST", "/api/v1/api-keys", narrow.Key, `{"actions":["infer"]}`, word), m.ID)
	if r := s.must(409, "POST", "/api/v1/api-keys", wide.Key, `{"actions":["infer"]}`, word); !strings.Contains(r.body, m.ID) {
		t.Errorf("who made it is told %s", r.body)
	}

	// A workspace, and a user, that was made anew: its requests are not those of the one before.
	s.must(201, "POST", all, operator, "{}", word)
	for _, anew := range []func(){
		func() {
			s.must(204, "DELETE", "/api/v1/users/ada?workspace=demo", operator, "")
			s.must(201, "POST", "/api/v1/users", operator, `{"id":"ada","workspace":"demo","role":"admin"}`)
		},
		func() {
			s.must(204, "DELETE", "/api/v1/workspaces/demo", operator, "")
			s.must(201, "POST", "/api/v1/workspaces", operator, `{"id":"demo","plan":"lite"}`)
			s.must(201, "POST", "/api/v1/users", operator, `{"id":"ada","workspace":"demo","role":"admin"}`)
		},
	} {
		anew()
		wide = s.create(operator, `{"workspace":"demo","user":"ada","actions":["infer","manage"]}`)
		s.must(201, "POST", "/api/v1/api-keys", wide.Key, `{"actions":["infer"]}`, word)
	}
	s.must(201, "POST", all, operator, "{}", word)
	// What a key of the workspace before was imported as is nobody's to know.
	s.must(201, "POST", all, operator, row("older", ""))
	s.must(204, "DELETE", "/api/v1/workspaces/demo", operator, "")
	s.must(201, "POST", "/api/v1/workspaces", operator, `{"id":"demo","plan":"lite"}`)
	if r := s.must(409, "POST", all, operator, row("older", "")); strings.Contains(r.body, `"id"`) {
		t.Errorf("of a workspace that is gone: %s", r.body)
	}
}

// TestAppliedIsToldOfEachRow of an import once, and the others are waited for once.
func TestAppliedIsToldOfEachRow(t *testing.T) {
	applied, waited := 0, []uint64{}
	s := serve(t, func(c *manage.Config) {
		one := c.Applied
		c.Applied = func(rec *key.Record) { applied++; one(rec) }
		c.Wait = func(ctx context.Context, revision uint64) manage.Propagation {
			if ctx.Err() != nil {
				t.Error("nobody waits any more")
			}
			waited = append(waited, revision)
			return manage.Propagation{Revision: revision, Replicas: []string{"r1"}}
		}
	})
	s.imports(operator, importPath, row("a", ""), row("b", ""), row("c", ""))
	if applied != 3 || fmt.Sprint(waited) != "[3]" {
		t.Errorf("applied %d, waited for %v", applied, waited)
	}
}
