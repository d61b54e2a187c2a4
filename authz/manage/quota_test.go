package manage_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

// fill writes a catalog of many users straight into the store, as an apply of the
// operator's would.
func (s *service) fill(users int, labels string) {
	s.t.Helper()
	more := make([]string, users)
	for i := range more {
		more[i] = fmt.Sprintf("  - {id: u%d, workspace: demo, labels: {%s}}\n", i, labels)
	}
	s.apply("", strings.Replace(plainCatalog, "users:\n", "users:\n"+strings.Join(more, ""), 1))
}

// TestTenantsHaveAShare: what a tenant makes by itself is bounded and says by what;
// what takes room back, and what the operator does, is not.
func TestTenantsHaveAShare(t *testing.T) {
	s := gated(t)
	shared := s.create(operator, `{"workspace":"demo","actions":["infer","manage"]}`)
	s.fill(498, "a: b") // and two that are there
	if r := s.must(409, "POST", "/api/v1/users", shared.Key, `{"id":"more"}`); !strings.Contains(r.body, "500 users") {
		t.Errorf("refused with %s", r.body)
	}
	s.must(201, "POST", "/api/v1/users", operator, `{"id":"more","workspace":"demo"}`)
	s.must(204, "DELETE", "/api/v1/users/more", shared.Key, "")
	s.must(204, "DELETE", "/api/v1/users/u1", shared.Key, "")
	s.must(201, "POST", "/api/v1/users", shared.Key, `{"id":"more"}`)

	s.fill(498, "a: "+strings.Repeat("x", 220))
	label := `{"labels":{"b":"` + strings.Repeat("y", 200) + `"}}`
	for path, query := range map[string]string{"/api/v1/users/max": "?workspace=demo", "/api/v1/workspaces/demo": ""} {
		if r := s.must(413, "PATCH", path, shared.Key, label); !strings.Contains(r.body, "may use 131072") {
			t.Errorf("refused with %s", r.body)
		}
		s.must(200, "PATCH", path+query, operator, label)
	}
	s.must(200, "PATCH", "/api/v1/users/u2", shared.Key, `{"labels":null}`)
	s.must(200, "POST", "/api/v1/users/u3/suspend", shared.Key, "") // which doesn't count
}

// TestOperatorHasRoomLeft: tenants together don't fill the catalog so that a
// suspension has no place in it.
func TestOperatorHasRoomLeft(t *testing.T) {
	const room = 8 << 10
	s := serve(t, func(c *manage.Config) { c.CatalogRoom = room })
	shared := s.create(operator, `{"workspace":"demo"}`)
	other := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`)
	size := func() int { return len(s.must(200, "GET", "/api/v1/catalog", operator, "").body) }
	made := 0
	for _, secret := range []string{shared.Key, other.Key} {
		for i := 0; ; i++ {
			r := s.do("POST", "/api/v1/users", secret, fmt.Sprintf(`{"id":"u%d","labels":{"x":"%s"}}`, i, strings.Repeat("x", 100)))
			if r.status == 413 && strings.Contains(r.body, "no more room for what tenants add") {
				break
			}
			if r.status != 201 || i > 1000 {
				t.Fatalf("%d %s", r.status, r.body)
			}
			made++
		}
	}
	if full := size(); full > room*7/8 || made < 10 {
		t.Errorf("%d users of tenants take %d bytes of %d", made, full, room)
	}
	// Everybody can be suspended all the same, also by tenants.
	for id, ws := range s.store.Tables().Workspaces {
		for user := range ws.Users {
			secret := operator
			if id == "demo" {
				secret = shared.Key
			}
			if user != "ada" || id != "demo" {
				s.must(200, "POST", "/api/v1/users/"+user+"/suspend?workspace="+id, secret, "")
			}
		}
		s.must(200, "POST", "/api/v1/workspaces/"+id+"/suspend", operator, "")
	}
	if full := size(); full > room {
		t.Errorf("with everybody suspended the catalog has %d bytes, of %d", full, room)
	}
}

// TestOnlyTheOperatorLiftsItsSuspensions: by whatever way a tenant tries.
func TestOnlyTheOperatorLiftsItsSuspensions(t *testing.T) {
	s := gated(t)
	shared := s.create(operator, `{"workspace":"demo","actions":["infer","manage"]}`)
	member := s.create(operator, `{"workspace":"demo","user":"max","actions":["infer","manage"]}`)
	const path = "/api/v1/users/max"
	by := func(want string) {
		t.Helper()
		if r := s.must(200, "GET", path, shared.Key, ""); !strings.Contains(r.body, `"suspendedBy":`+want) {
			t.Errorf("%s, want %s", r.body, want)
		}
	}
	by("null")
	s.must(200, "POST", path+"/suspend", shared.Key, "")
	by(`"admin"`)
	s.must(200, "POST", path+"/resume", shared.Key, "")
	by("null")
	s.must(200, "POST", path+"/suspend", shared.Key, "")
	s.must(200, "POST", path+"/suspend?workspace=demo", operator, "")
	by(`"operator"`)
	s.must(200, "POST", path+"/suspend", shared.Key, "") // is nothing new, and makes it nobody else's
	by(`"operator"`)
	for _, call := range []string{"POST " + path + "/resume", "DELETE " + path} {
		method, at, _ := strings.Cut(call, " ")
		if r := s.must(403, method, at, shared.Key, ""); !strings.Contains(r.body, "The operator suspended this user") {
			t.Errorf("%s: %s", call, r.body)
		}
	}
	s.must(403, "GET", "/api/v1/auth/me", member.Key, "")
	s.must(200, "PATCH", path, shared.Key, `{"labels":{"a":"b"}}`)
	// An apply, pruning or not, and what was stored, applied again, change nothing of it.
	stored := s.must(200, "GET", "/api/v1/catalog", operator, "").body
	for _, text := range []string{plainCatalog, stored} {
		for _, query := range []string{"", "?prune=true"} {
			s.apply(query, text)
			by(`"operator"`)
		}
	}
	s.must(200, "POST", path+"/resume?workspace=demo", operator, "")
	s.must(200, "GET", "/api/v1/auth/me", member.Key, "")

	// One that an admin suspended stays an admin's over an apply, and a text can't say
	// that an admin did.
	s.must(200, "POST", path+"/suspend", shared.Key, "")
	s.apply("?prune=true", plainCatalog)
	by(`"admin"`)
	s.must(200, "POST", path+"/resume", shared.Key, "")
	s.apply("", strings.Replace(plainCatalog, "users:\n", "users:\n  - {id: eve, workspace: demo, suspended: true, suspendedByAdmin: true}\n", 1))
	s.must(403, "POST", "/api/v1/users/eve/resume", shared.Key, "")
}

// TestConsumersGoWithTheirWorkspace: however it is deleted; and one that was left
// doesn't get the events of another workspace of the same id.
func TestConsumersGoWithTheirWorkspace(t *testing.T) {
	var broken bool
	s := serve(t, func(c *manage.Config) { c.Consumers = &fickle{c.Consumers, &broken} })
	consumers := func() string { return s.must(200, "GET", "/api/v1/consumers", operator, "").body }
	consumer := func(name, workspace string) {
		t.Helper()
		s.must(201, "POST", "/api/v1/consumers", operator, `{"name":"`+name+`","workspace":"`+workspace+`"}`)
	}
	consumer("stays", "demo")
	s.must(201, "POST", "/api/v1/consumers", operator, `{"name":"all"}`)
	for how, remove := range map[string]func(){
		"a deletion": func() { s.must(204, "DELETE", "/api/v1/workspaces/other", operator, "") },
		"a prune": func() {
			s.apply("?prune=true", strings.NewReplacer("  - {id: other, plan: lite, keyFormat: \"minds_{hex:48}\"}\n", "", "workspaces: [other], ", "").Replace(plainCatalog))
		},
	} {
		consumer("goes", "other")
		remove()
		if s.store.Tables().Workspaces["other"] != nil {
			t.Fatalf("after %s the workspace is there", how)
		}
		if list := consumers(); strings.Contains(list, "goes") || !strings.Contains(list, "stays") || !strings.Contains(list, "all") {
			t.Errorf("after %s: %s", how, list)
		}
		s.apply("", plainCatalog)
	}

	consumer("left", "other")
	broken = true
	if r := s.must(503, "DELETE", "/api/v1/workspaces/other", operator, ""); !strings.Contains(r.body, "left") {
		t.Errorf("with consumers away: %s", r.body)
	}
	if s.store.Tables().Workspaces["other"] != nil {
		t.Error("the workspace is not deleted")
	}
	s.must(503, "POST", "/api/v1/workspaces", operator, `{"id":"other","plan":"lite"}`)
	if s.store.Tables().Workspaces["other"] != nil {
		t.Error("one is made while a consumer would get its events")
	}
	broken = false
	s.must(201, "POST", "/api/v1/workspaces", operator, `{"id":"other","plan":"lite"}`)
	if list := consumers(); strings.Contains(list, "left") {
		t.Errorf("in the end there is %s", list)
	}
}

// fickle is a Consumers that at times deletes nothing.
type fickle struct {
	manage.Consumers
	broken *bool
}

func (f *fickle) Delete(ctx context.Context, name string) error {
	if *f.broken {
		return fmt.Errorf("%w: on the way", key.ErrUnavailable)
	}
	return f.Consumers.Delete(ctx, name)
}
