package manage_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

// TestFreeze: while it is frozen, no change is made by anybody, and everything
// else goes on.
func TestFreeze(t *testing.T) {
	s := serve(t, func(c *manage.Config) { c.Freeze = new(manage.Freeze) })
	admin := s.create(operator, `{"workspace":"demo","user":"ada"}`)
	changes := [][3]string{
		{"POST", "/api/v1/api-keys", `{"workspace":"demo"}`},
		{"PATCH", "/api/v1/api-keys/" + admin.ID, `{"name":"other"}`},
		{"DELETE", "/api/v1/api-keys/" + admin.ID, ""},
		{"POST", "/api/v1/api-keys/" + admin.ID + "/rotate?workspace=demo", ""},
		{"PUT", "/api/v1/catalog", "workspaces: []"},
		{"POST", "/api/v1/models/undeploy", `{"model":"shared/one"}`},
		{"POST", "/api/v1/consumers", `{"name":"c"}`},
		{"POST", "/api/v1/workspaces", `{"id":"fresh"}`},
	}
	s.must(403, "POST", "/api/v1/freeze", admin.Key, "")
	s.must(204, "POST", "/api/v1/freeze", operator, "")
	s.must(204, "POST", "/api/v1/freeze", operator, "")
	for _, c := range changes {
		r := s.do(c[0], c[1], operator, c[2], "Content-Type: "+map[bool]string{true: "application/yaml", false: "application/json"}[c[0] == "PUT"])
		if r.status != 503 || !strings.Contains(r.body, "--unfreeze") || r.header.Get("Retry-After") == "" {
			t.Errorf("%s %s while frozen: %d %s", c[0], c[1], r.status, r.body)
		}
	}
	s.must(401, "POST", "/api/v1/api-keys", "nobody", `{}`)
	s.must(200, "GET", "/api/v1/api-keys", admin.Key, "")
	s.must(200, "GET", "/api/v1/catalog", operator, "")
	s.must(200, "POST", "/api/v1/explain", operator, `{"key":"`+admin.Key+`","model":"shared/one"}`)
	if rec := s.store.Key(admin.ID); rec.Status != key.Active || rec.Name != "" {
		t.Errorf("it was changed all the same: %+v", rec)
	}
	s.must(204, "DELETE", "/api/v1/freeze", operator, "")
	s.must(204, "DELETE", "/api/v1/api-keys/"+admin.ID+"?workspace=demo", operator, "")
}

// TestFreezeWaitsForChangesUnderWay: what was let begin is stored before the
// freezing is answered, so that a backup which is made then has it.
func TestFreezeWaitsForChangesUnderWay(t *testing.T) {
	s := serve(t, func(c *manage.Config) { c.Freeze = new(manage.Freeze) })
	begun, proceed := make(chan bool, 1), make(chan bool)
	release := sync.OnceFunc(func() { close(proceed) })
	t.Cleanup(release) // before the server ends, which waits for its requests
	s.store.Before = func(op string) error {
		if op == "put" {
			select {
			case begun <- true:
			default:
			}
			<-proceed
		}
		return nil
	}
	created := make(chan int, 1)
	go func() { created <- s.do("POST", "/api/v1/api-keys", operator, `{"workspace":"demo"}`).status }()
	<-begun
	r := s.must(503, "POST", "/api/v1/freeze?wait=10ms", operator, "")
	if !strings.Contains(r.body, "under way") {
		t.Errorf("answered %s", r.body)
	}
	frozen := make(chan int, 1)
	go func() { frozen <- s.do("POST", "/api/v1/freeze", operator, "").status }()
	// The change under way keeps it waiting; further ones are refused already.
	s.must(503, "POST", "/api/v1/api-keys", operator, `{"workspace":"demo"}`)
	select {
	case status := <-frozen:
		t.Errorf("answered %d while a change was under way", status)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if status := <-created; status != http.StatusCreated {
		t.Errorf("the change under way answers %d", status)
	}
	if status := <-frozen; status != http.StatusNoContent {
		t.Errorf("freezing answers %d", status)
	}
}
