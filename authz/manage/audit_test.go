package manage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/manage"
)

// told is an entry in one line.
func told(e *manage.AuditEntry) string {
	return fmt.Sprintf("%s %s/%s %s %s/%s %d", e.Actor.Kind, e.Actor.Workspace, e.Actor.User, e.Action, e.Target.Workspace, e.Target.Type, e.Status)
}

func TestEveryActionIsWrittenDown(t *testing.T) {
	s := gated(t)
	admin := s.create(operator, `{"workspace":"demo","user":"ada","actions":["infer","manage"]}`)
	shared := s.create(admin.Key, `{"kind":"workspace"}`)
	from := len(s.store.Trail())
	step := func(status int, method, path, secret, body, want string) manage.AuditEntry {
		t.Helper()
		before := len(s.store.Trail())
		r := s.must(status, method, path, secret, body)
		trail := s.store.Trail()[before:]
		if want == "" {
			if len(trail) != 0 {
				t.Errorf("%s %s is written down: %s", method, path, told(&trail[0]))
			}
			return manage.AuditEntry{}
		}
		if len(trail) != 1 || told(&trail[0]) != want || trail[0].ID != r.header.Get("X-Request-Id") || !strings.HasPrefix(trail[0].Remote, "127.0.0.1:") {
			t.Fatalf("%s %s: %+v, want %s", method, path, trail, want)
		}
		return trail[0]
	}
	// Who reads is not written down; who may not is.
	step(200, "GET", "/api/v1/api-keys", admin.Key, "", "")
	step(200, "POST", "/api/v1/explain", admin.Key, "", "")
	s.apply("?dryRun=true", plainCatalog+"  - {id: more}\n")
	step(403, "GET", "/api/v1/catalog", admin.Key, "", "user demo/ada catalog.read demo/catalog 403")
	step(401, "GET", "/api/v1/catalog", "wrong", "", "anonymous / catalog.read /catalog 401")
	step(401, "DELETE", "/api/v1/api-keys/"+shared.ID, "wrong", "", "anonymous / key.delete /key 401")
	if n := len(s.store.Trail()) - from; n != 3 {
		t.Errorf("%d entries, want 3: a dry run changes nothing", n)
	}

	e := step(200, "PATCH", "/api/v1/api-keys/"+shared.ID, admin.Key, `{"name":"new"}`, "user demo/ada key.update demo/key 200")
	if e.Actor.Key != admin.ID || e.Target.ID != shared.ID || string(e.Before) != `{"name":null}` || string(e.After) != `{"name":"new"}` {
		t.Errorf("a change is written down as %s, %s", e.Before, e.After)
	}
	e = step(403, "PATCH", "/api/v1/api-keys/"+shared.ID, admin.Key, `{"actions":["wake"]}`, "user demo/ada key.update demo/key 403")
	if e.Target.ID != shared.ID || e.Before != nil || e.After != nil {
		t.Errorf("a refused change is %+v", e)
	}
	e = step(404, "DELETE", "/api/v1/api-keys/01990000-0000-7000-8000-000000000000", shared.Key, "", "key demo/ key.delete demo/key 404")
	if e.Target.ID == "" || e.Actor.Key != shared.ID {
		t.Errorf("%+v", e)
	}
	e = step(204, "DELETE", "/api/v1/api-keys/"+shared.ID, admin.Key, "", "user demo/ada key.delete demo/key 204")
	if e.Target.ID != shared.ID || e.Before == nil {
		t.Errorf("%+v", e)
	}
	step(400, "POST", "/api/v1/workspaces", operator, `{`, "operator / workspace.create /workspace 400")
	e = step(201, "POST", "/api/v1/workspaces", operator, `{"id":"acme","plan":"lite"}`, "operator / workspace.create acme/workspace 201")
	if e.Before != nil || !strings.Contains(string(e.After), `"id":"acme"`) {
		t.Errorf("%+v", e)
	}
	e = step(200, "POST", "/api/v1/workspaces/acme/suspend", operator, "", "operator / workspace.suspend acme/workspace 200")
	if string(e.Before) != `{"managed":["*"],"suspended":false}` || string(e.After) != `{"managed":["*","suspended"],"suspended":true}` {
		t.Errorf("%+v", e)
	}
	e = step(204, "DELETE", "/api/v1/workspaces/acme", operator, "", "operator / workspace.delete acme/workspace 204")
	if e.Before == nil || e.After != nil {
		t.Errorf("%+v", e)
	}
	step(201, "POST", "/api/v1/users", admin.Key, `{"id":"eve"}`, "user demo/ada user.create demo/user 201")
	e = step(200, "POST", "/api/v1/models/undeploy", admin.Key, `{"model":"demo/own"}`, "user demo/ada model.undeploy demo/model 200")
	if e.Target.ID != "demo/own" || string(e.Before) != `{"deployed":true}` || string(e.After) != `{"deployed":false}` {
		t.Errorf("%+v", e)
	}
	step(404, "POST", "/api/v1/models/undeploy", admin.Key, `{"model":"other/own"}`, "user demo/ada model.undeploy demo/model 404")

	before := len(s.store.Trail())
	s.apply("", strings.Replace(plainCatalog, "requestsPerMinute: 60", "requestsPerMinute: 61", 1))
	e = s.store.Trail()[before]
	if told(&e) != "operator / catalog.apply /catalog 200" || string(e.Before) != `{"plan lite":{"limits":{"perKey":{"requestsPerMinute":60}}}}` ||
		string(e.After) != `{"plan lite":{"limits":{"perKey":{"requestsPerMinute":61}}}}` {
		t.Errorf("an apply: %s %s %s", told(&e), e.Before, e.After)
	}
}

// TestEveryEndpointHasAnAction: a new endpoint is named without being told of.
func TestEveryEndpointHasAnAction(t *testing.T) {
	s := gated(t)
	var doc struct {
		Paths map[string]map[string]struct {
			Security []any `json:"security"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(s.must(200, "GET", "/openapi.json", "", "").body), &doc); err != nil {
		t.Fatal(err)
	}
	const id = "01990000-0000-7000-8000-000000000000"
	var actions []string
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if method == "get" || op.Security == nil {
				continue
			}
			before := len(s.store.Trail())
			at := strings.NewReplacer("{id}", id, "{name}", "x", "{number}", "1").Replace(path)
			// As many strangers: each refusal is written down.
			s.do(strings.ToUpper(method), at, fmt.Sprint(len(actions)), "")
			trail := s.store.Trail()[before:]
			if len(trail) == 1 {
				actions = append(actions, trail[0].Action)
			}
		}
	}
	slices.Sort(actions)
	if len(actions) < 8 || len(slices.Compact(slices.Clone(actions))) != len(actions) {
		t.Errorf("actions %v", actions)
	}
}

func TestReadingTheTrail(t *testing.T) {
	at := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	s := serve(t, func(c *manage.Config) {
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return at }
	})
	later := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); at = at.Add(d) }
	admin := s.create(operator, `{"workspace":"demo","user":"ada"}`)
	later(time.Hour)
	s.create(operator, `{"workspace":"other"}`)
	later(time.Hour)
	s.must(200, "POST", "/api/v1/models/undeploy", operator, `{"model":"shared/one"}`)
	actions := func(query, secret string) string {
		t.Helper()
		var entries []struct {
			Data struct {
				Action string `json:"action"`
				Target struct {
					Workspace string `json:"workspace"`
				} `json:"target"`
			} `json:"data"`
		}
		r := s.must(200, "GET", "/api/v1/audit"+query, secret, "")
		if err := json.Unmarshal([]byte(r.body), &entries); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range entries {
			all = append(all, e.Data.Action+"@"+e.Data.Target.Workspace)
		}
		if link := r.header.Get("Link"); link != "" {
			all = append(all, link)
		}
		return strings.Join(all, " ")
	}
	for query, want := range map[string]string{
		"":                           "key.create@demo key.create@other model.undeploy@",
		"?workspace=other":           "key.create@other",
		"?workspace=gone":            "",
		"?from=90m":                  "key.create@other model.undeploy@",
		"?from=90m&to=30m":           "key.create@other",
		"?to=2026-01-02T00:30:00Z":   "key.create@demo",
		"?limit=2&workspace=&to=30m": `key.create@demo key.create@other`,
		"?limit=1&to=30m":            `key.create@demo </api/v1/audit?cursor=1&limit=1&to=2026-01-02T01%3A30%3A00Z>; rel="next"`,
		"?limit=1&cursor=1":          `key.create@other </api/v1/audit?cursor=2&limit=1>; rel="next"`,
	} {
		if got := actions(query, operator); got != want {
			t.Errorf("%q reads %s, want %s", query, got, want)
		}
	}
	if got := actions("", admin.Key); got != "key.create@demo" {
		t.Errorf("an admin reads %s", got)
	}
	s.must(400, "GET", "/api/v1/audit?workspace=other", admin.Key, "")
	for _, query := range []string{"from=yesterday", "to=x", "cursor=x", "limit=0", "workspace=A", "since=1h"} {
		s.must(400, "GET", "/api/v1/audit?"+query, operator, "")
	}
}

// TestAuditThatIsAway: the change is made, and the log has the entry.
func TestAuditThatIsAway(t *testing.T) {
	var mu sync.Mutex
	var unaudited []string
	s := serve(t, func(c *manage.Config) {
		c.Unaudited = func(why string) { mu.Lock(); defer mu.Unlock(); unaudited = append(unaudited, why) }
	})
	s.store.Before = func(op string) error {
		if op == "audit" {
			return errors.New("the stream is full")
		}
		return nil
	}
	k := s.create(operator, `{"workspace":"demo"}`)
	if s.store.Key(k.ID) == nil || fmt.Sprint(unaudited) != "[unstored]" {
		t.Errorf("unaudited %v", unaudited)
	}
	if log := s.log.String(); !strings.Contains(log, `\"action\":\"key.create\"`) || !strings.Contains(log, k.ID) || strings.Contains(log, k.Key) {
		t.Errorf("the log has %s", log)
	}
}

// TestStrangersDontFillTheTrail: of a flood of refusals few are written down, and
// those that are tell of the others.
func TestStrangersDontFillTheTrail(t *testing.T) {
	at := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	suppressed := 0
	s := serve(t, func(c *manage.Config) {
		c.Now = func() time.Time { return at }
		c.Unaudited = func(why string) {
			if why == "suppressed" {
				suppressed++
			}
		}
	})
	for range 50 {
		s.must(401, "POST", "/api/v1/api-keys", "wrong", "")
	}
	if n := len(s.store.Trail()); n != 10 || suppressed != 40 {
		t.Errorf("%d are written down, %d not", n, suppressed)
	}
	s.create(operator, `{"workspace":"demo"}`) // a change always is
	at = at.Add(time.Minute)
	s.must(401, "POST", "/api/v1/api-keys", "wrong", "")
	trail := s.store.Trail()
	if len(trail) != 12 || trail[11].Suppressed != 40 {
		t.Errorf("%d entries, the last tells of %d more", len(trail), trail[len(trail)-1].Suppressed)
	}
}

// TestNoSecretIsWrittenDown: not even what somebody puts where it doesn't belong.
func TestNoSecretIsWrittenDown(t *testing.T) {
	s := serve(t)
	k := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`) // minds_{hex:48}
	for _, path := range []string{"/api/v1/api-keys/", "/api/v1/workspaces/", "/api/v1/users/", "/api/v1/consumers/"} {
		s.do("DELETE", path+k.Key, operator, "")
		s.do("DELETE", path+k.Key+"?workspace="+k.Key, operator, "")
	}
	s.do("POST", "/api/v1/models/deploy", operator, `{"model":"`+k.Key+`"}`)
	s.do("POST", "/api/v1/workspaces", operator, `{"id":"`+k.Key+`"}`)
	text, err := json.Marshal(s.store.Trail())
	if err != nil || len(s.store.Trail()) < 8 {
		t.Fatalf("%s (%v)", text, err)
	}
	if strings.Contains(string(text), k.Key) {
		t.Errorf("a secret is in the trail: %s", text)
	}
}

// TestTenantsCantDeployWhatWasTakenFromThem: who owns a model is looked at when
// it is changed, not only before.
func TestTenantsCantDeployWhatWasTakenFromThem(t *testing.T) {
	var taken func()
	s := serve(t, func(c *manage.Config) { c.Catalog = &interrupted{c.Catalog, func() { taken() }} })
	admin := s.create(operator, `{"workspace":"demo"}`)
	taken = func() {
		taken = func() {}
		s.apply("", strings.Replace(plainCatalog, "{id: demo/own, workspaces: [demo],", "{id: demo/own, workspaces: [demo, other],", 1))
	}
	s.must(404, "POST", "/api/v1/models/undeploy", admin.Key, `{"model":"demo/own"}`)
	if !s.store.Tables().Models["demo/own"].Deployed {
		t.Error("a tenant undeployed a model that others use")
	}
	taken = func() {}
	s.must(403, "POST", "/api/v1/models/undeploy", admin.Key, `{"model":"demo/own"}`)
}

// interrupted is a Catalog before whose first reading something else happens.
type interrupted struct {
	manage.Catalog
	first func()
}

func (i *interrupted) Load(ctx context.Context) (*catalog.Catalog, uint64, error) {
	i.first()
	return i.Catalog.Load(ctx)
}
