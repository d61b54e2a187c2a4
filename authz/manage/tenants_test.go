package manage_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"tollgate/authz/catalog"
	"tollgate/authz/manage"
)

// reason is why the gate would refuse a key now, "" where it would let a request
// through.
func (s *service) reason(id, workspace string) string {
	s.t.Helper()
	r := s.must(200, "POST", "/api/v1/explain", operator, fmt.Sprintf(`{"keyId":%q,"workspace":%q,"model":"shared/one"}`, id, workspace))
	var e struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal([]byte(r.body), &e); err != nil {
		s.t.Fatal(err)
	}
	return e.Reason
}

// gated is demoCatalog with a route.
func gated(t *testing.T) *service {
	t.Helper()
	s := serve(t)
	s.apply("", plainCatalog+"routes: [{dialect: openai}]\n")
	return s
}

func TestWorkspaceLife(t *testing.T) {
	s := gated(t)
	r := s.must(201, "POST", "/api/v1/workspaces", operator,
		`{"id":"acme","plan":"lite","externalId":"cus_7","labels":{"team":"a"},"keyDefaults":{"actions":["infer","manage"]},"keyFormat":"ac_{hex:40}","multiplier":"0.5"}`)
	const want = `{"id":"acme","plan":"lite","suspended":false,"keyDefaults":{"actions":["infer","manage"]},"keyFormat":"ac_{hex:40}",` +
		`"multiplier":"0.5","externalId":"cus_7","labels":{"team":"a"},"budget":null,"credit":null,"managed":["*"]}`
	if r.body != want || r.header.Get("X-Tollgate-Revision") != "3" || r.header.Get("X-Tollgate-Replicas") != "1" || r.header.Get("ETag") != `"3"` {
		t.Errorf("made %s %v", r.body, r.header)
	}
	if r := s.must(200, "GET", "/api/v1/workspaces/acme", operator, ""); r.body != want || r.header.Get("ETag") != `"3"` {
		t.Errorf("shown %s %v", r.body, r.header)
	}
	if r := s.must(409, "POST", "/api/v1/workspaces", operator, `{"id":"acme","plan":"lite"}`); !strings.Contains(r.body, `"id":"acme"`) {
		t.Errorf("again: %s", r.body)
	}
	k := s.create(operator, `{"workspace":"acme"}`)
	if !strings.HasPrefix(k.Key, "ac_") || s.reason(k.ID, "acme") != "" {
		t.Errorf("a key of it: %q is %q", k.Key[:3], s.reason(k.ID, "acme"))
	}

	s.must(412, "PATCH", "/api/v1/workspaces/acme", operator, `{"plan":"lite"}`, `If-Match: "2"`)
	r = s.must(200, "PATCH", "/api/v1/workspaces/acme", operator, `{"externalId":null,"labels":{"team":null,"env":"b"}}`, `If-Match: "3"`)
	if !strings.Contains(r.body, `"externalId":null,"labels":{"env":"b"}`) {
		t.Errorf("changed to %s", r.body)
	}
	s.must(200, "POST", "/api/v1/workspaces/acme/suspend", operator, "")
	if got := s.reason(k.ID, "acme"); got != "workspace_suspended" {
		t.Errorf("a key of a suspended workspace: %q", got)
	}
	s.must(403, "GET", "/api/v1/api-keys", k.Key, "")
	again := s.must(200, "POST", "/api/v1/workspaces/acme/suspend", operator, "")
	if again.header.Get("X-Tollgate-Revision") != "5" {
		t.Errorf("what changes nothing is stored: %v", again.header)
	}
	s.must(200, "POST", "/api/v1/workspaces/acme/resume", operator, "")
	s.must(200, "GET", "/api/v1/api-keys", k.Key, "")

	if r := s.must(204, "DELETE", "/api/v1/workspaces/acme", operator, ""); r.body != "" || r.header.Get("X-Tollgate-Revision") != "7" {
		t.Errorf("deleted: %q %v", r.body, r.header)
	}
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		s.must(404, method, "/api/v1/workspaces/acme", operator, "{}")
	}
	s.must(401, "GET", "/api/v1/api-keys", k.Key, "")
}

// TestKeysOfADeletedWorkspaceStayDead: they come back by no way of making the
// workspace again, nor does anybody see them.
func TestKeysOfADeletedWorkspaceStayDead(t *testing.T) {
	for name, remake := range map[string]func(*service){
		"by the API":  func(s *service) { s.must(201, "POST", "/api/v1/workspaces", operator, `{"id":"other","plan":"lite"}`) },
		"by an apply": func(s *service) { s.apply("", plainCatalog) },
		"by what was stored": func(s *service) { // which says its generation
			s.apply("", plainCatalog)
			stored := s.must(200, "GET", "/api/v1/catalog", operator, "").body
			s.must(204, "DELETE", "/api/v1/workspaces/other", operator, "")
			s.apply("", stored)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := gated(t)
			s.must(201, "POST", "/api/v1/users", operator, `{"id":"eve","workspace":"other","role":"admin"}`)
			shared := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`)
			personal := s.create(operator, `{"workspace":"other","user":"eve","actions":["infer","manage"]}`)
			if got := s.reason(shared.ID, "other") + s.reason(personal.ID, "other"); got != "" {
				t.Fatalf("before: %q", got)
			}
			s.must(204, "DELETE", "/api/v1/workspaces/other", operator, "")
			if m := s.store.Tables().Models["other/own"]; m == nil || m.Workspaces == nil || len(m.Workspaces) != 0 {
				t.Errorf("its own model is now %+v: nobody else must see it", m)
			}
			remake(s)
			s.do("POST", "/api/v1/users", operator, `{"id":"eve","workspace":"other","role":"admin"}`)
			fresh := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`)
			if got := s.reason(fresh.ID, "other"); got != "" {
				t.Errorf("a new key is refused: %s", got)
			}
			list := s.must(200, "GET", "/api/v1/api-keys", fresh.Key, "").body
			for _, dead := range []made{shared, personal} {
				if got := s.reason(dead.ID, "other"); got != "key_invalid" {
					t.Errorf("an old key: %q", got)
				}
				s.must(401, "GET", "/api/v1/auth/me", dead.Key, "")
				if strings.Contains(list, dead.ID) {
					t.Error("an old key is listed")
				}
				for _, method := range []string{"GET", "PATCH", "DELETE"} {
					s.must(404, method, "/api/v1/api-keys/"+dead.ID, fresh.Key, "{}")
				}
				s.must(404, "POST", "/api/v1/api-keys/"+dead.ID+"/rotate?workspace=other", operator, "")
				s.must(404, "POST", "/api/v1/explain", fresh.Key, `{"keyId":"`+dead.ID+`"}`)
			}
		})
	}
}

// TestNobodyMakesKeysForWhatReplacedTheirWorkspace: a request that was under way
// when its workspace was deleted and another made in its place.
func TestNobodyMakesKeysForWhatReplacedTheirWorkspace(t *testing.T) {
	var looked func()
	s := serve(t, func(c *manage.Config) {
		tables := c.Tables
		c.Tables = func() *catalog.Tables { looked(); return tables() }
	})
	looked = func() {}
	admin := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`)
	n := 0
	looked = func() {
		if n++; n == 2 { // the first look authenticated the caller
			looked = func() {}
			s.must(204, "DELETE", "/api/v1/workspaces/other", operator, "")
			s.must(201, "POST", "/api/v1/workspaces", operator, `{"id":"other","plan":"lite"}`)
		}
	}
	s.must(401, "POST", "/api/v1/api-keys", admin.Key, `{"actions":["infer"]}`)
	if n != 2 {
		t.Errorf("%d looks: the test tests nothing", n)
	}
}

func TestUserLife(t *testing.T) {
	s := gated(t)
	admin := s.create(operator, `{"workspace":"demo","user":"ada","actions":["infer","manage"]}`)
	const eve = "/api/v1/users/eve@x.example"
	r := s.must(201, "POST", "/api/v1/users", admin.Key, `{"id":"eve@x.example","externalId":"e","labels":{"a":"b"}}`)
	if r.body != `{"id":"eve@x.example","workspace":"demo","role":"member","suspended":false,"suspendedBy":null,"externalId":"e","labels":{"a":"b"},"managed":["*"]}` {
		t.Errorf("made %s", r.body)
	}
	s.must(409, "POST", "/api/v1/users", admin.Key, `{"id":"eve@x.example"}`)
	k := s.create(admin.Key, `{"user":"eve@x.example"}`)
	s.must(403, "GET", "/api/v1/audit", k.Key, "")
	s.must(200, "PATCH", eve, admin.Key, `{"role":"admin"}`)
	s.must(200, "GET", "/api/v1/audit", k.Key, "")
	s.must(200, "PATCH", eve, admin.Key, `{"role":null}`)
	for verb, want := range map[string]string{"suspend": "user_suspended", "resume": ""} {
		s.must(200, "POST", eve+"/suspend", admin.Key, "")
		s.must(200, "POST", eve+"/"+verb, admin.Key, "")
		if got := s.reason(k.ID, "demo"); got != want {
			t.Errorf("after %s: %q", verb, got)
		}
	}
	s.must(204, "DELETE", eve+"?workspace=demo", operator, "")
	s.must(401, "GET", "/api/v1/auth/me", k.Key, "")
	s.must(201, "POST", "/api/v1/users?workspace=demo", operator, `{"id":"eve@x.example"}`)
	s.must(401, "GET", "/api/v1/auth/me", k.Key, "")
	if got := s.reason(k.ID, "demo"); got != "key_invalid" {
		t.Errorf("a key of the one before: %q", got)
	}
	again := s.create(admin.Key, `{"user":"eve@x.example"}`)
	s.must(200, "GET", "/api/v1/auth/me", again.Key, "")
}

// TestWhoManagesWhat: an admin manages the people of the workspace and little of
// the workspace itself, a member and a narrow key nothing, and other workspaces
// don't exist for either.
func TestWhoManagesWhat(t *testing.T) {
	s := gated(t)
	ada := s.create(operator, `{"workspace":"demo","user":"ada","actions":["infer","manage"]}`)
	member := s.create(operator, `{"workspace":"demo","user":"max","actions":["infer","manage"]}`)
	shared := s.create(operator, `{"workspace":"demo","actions":["infer","manage"]}`)
	narrow := s.create(operator, `{"workspace":"demo","actions":["infer","manage"],"models":["shared/*"]}`)
	infer := s.create(operator, `{"workspace":"demo","actions":["infer"]}`)
	for _, c := range []struct {
		who          string
		key          made
		status       int // of a change to demo or its people
		users        string
		forOperators int
	}{
		{"an admin", ada, 200, "ada,max", 403}, {"a workspace key", shared, 200, "ada,max", 403},
		{"a member", member, 403, "max", 403}, {"a narrow key", narrow, 403, "ada,max", 403}, {"an inference key", infer, 403, "", 403},
	} {
		if c.users != "" {
			var users []struct {
				ID string `json:"id"`
			}
			r := s.must(200, "GET", "/api/v1/users", c.key.Key, "")
			if err := json.Unmarshal([]byte(r.body), &users); err != nil {
				t.Fatal(err)
			}
			ids := make([]string, len(users))
			for i := range users {
				ids[i] = users[i].ID
			}
			if got := strings.Join(ids, ","); got != c.users {
				t.Errorf("%s sees %s", c.who, got)
			}
			list := s.must(200, "GET", "/api/v1/workspaces", c.key.Key, "")
			if !strings.HasPrefix(list.body, `[{"id":"demo"`) || strings.Contains(list.body, "other") {
				t.Errorf("%s sees %s", c.who, list.body)
			}
			unknown := s.must(404, "GET", "/api/v1/workspaces/none", c.key.Key, "").body
			for _, method := range []string{"GET", "PATCH"} {
				if r := s.must(404, method, "/api/v1/workspaces/other", c.key.Key, `{"labels":{"a":"b"}}`); r.body != unknown {
					t.Errorf("%s: %s of another workspace: %s", c.who, method, r.body)
				}
			}
			noUser := s.must(404, "GET", "/api/v1/users/none", c.key.Key, "").body
			if c.who == "a member" && s.must(404, "PATCH", "/api/v1/users/ada", c.key.Key, `{"role":"member"}`).body != noUser {
				t.Error("a member can tell that another user exists")
			}
		}
		s.must(c.status, "PATCH", "/api/v1/workspaces/demo", c.key.Key, `{"labels":{"by":"tenant"},"keyDefaults":{"actions":["infer","manage"]}}`)
		if c.who != "a member" {
			s.must(c.status, "PATCH", "/api/v1/users/max", c.key.Key, `{"labels":{"by":"tenant"}}`)
		}
		for _, body := range []string{`{"plan":"lite"}`, `{"multiplier":"0"}`, `{"externalId":"x"}`, `{"keyFormat":"x_{hex:40}"}`} {
			s.must(c.forOperators, "PATCH", "/api/v1/workspaces/demo", c.key.Key, body)
		}
		other := s.must(403, "DELETE", "/api/v1/workspaces/other", c.key.Key, "").body
		for _, call := range []string{"DELETE /none", "DELETE /demo", "POST /demo/suspend", "POST /other/suspend", "POST /demo/resume"} {
			method, path, _ := strings.Cut(call, " ")
			if r := s.must(403, method, "/api/v1/workspaces"+path, c.key.Key, ""); r.body != other {
				t.Errorf("%s: %s answers %s", c.who, call, r.body)
			}
		}
		s.must(403, "POST", "/api/v1/workspaces", c.key.Key, `{"id":"mine","plan":"lite"}`)
	}
	for _, call := range []string{"DELETE ", "POST /suspend"} { // what would lock out the last admin
		method, verb, _ := strings.Cut(call, " ")
		s.must(403, method, "/api/v1/users/ada"+verb, ada.Key, "")
	}
	s.must(403, "PATCH", "/api/v1/users/ada", ada.Key, `{"role":"member"}`)
	s.must(200, "PATCH", "/api/v1/users/ada", ada.Key, `{"labels":{"a":"b"}}`)
	s.must(403, "POST", "/api/v1/users", member.Key, `{"id":"friend","role":"admin"}`)
	s.must(403, "POST", "/api/v1/users", narrow.Key, `{"id":"friend","role":"admin"}`)
	s.must(400, "POST", "/api/v1/users", ada.Key, `{"id":"friend","workspace":"other"}`)
	if u := s.store.Tables().User("other", "friend"); u != nil {
		t.Error("a tenant made a user in another workspace")
	}
}

// TestWrongTenants: what is wrong is told in the words of the request, and changes
// nothing.
func TestWrongTenants(t *testing.T) {
	s := gated(t)
	for _, c := range []struct{ method, path, body, says string }{
		{"POST", "/workspaces", `{"id":"acme","plan":"lit"}`, `plan: there is no plan \"lit\"; did you mean \"lite\"?`},
		{"POST", "/workspaces", `{"id":"acme"}`, "plan: is missing"},
		{"POST", "/workspaces", `{"plan":"lite"}`, "id: is missing"},
		{"POST", "/workspaces", `{"id":"A b","plan":"lite"}`, "id: an id here is 1 to 63 of"},
		{"POST", "/workspaces", `{"id":"acme","plan":"lite","keyFormat":"x_{hex:4}"}`, "keyFormat: "},
		{"POST", "/workspaces", `{"id":"acme","plan":"lite","suspended":true}`, "suspended: there is no such field"},
		{"POST", "/workspaces", `{"id":"acme","plan":"lite","generation":"x"}`, "generation: there is no such field"},
		{"PATCH", "/workspaces/demo", `{"plan":null}`, "plan: a workspace has a plan"},
		{"PATCH", "/workspaces/demo", `{"keyDefaults":{"actions":[]}}`, "keyDefaults.actions: a key needs at least one"},
		{"PATCH", "/workspaces/demo", `{"keyDefaults":{"actions":["fly"]}}`, "keyDefaults.actions[0]: want one of"},
		{"PATCH", "/workspaces/demo", `{"labels":{"a":" "}}`, "labels.a: is empty"},
		{"PATCH", "/workspaces/demo", `{"labels":{"a":"` + strings.Repeat("x", 257) + `"}}`, "labels.a: want 1 to 256 bytes"},
		{"PATCH", "/workspaces/demo", `{"multiplier":"-1"}`, "multiplier: want a decimal"},
		{"POST", "/users?workspace=demo", `{"id":"a b"}`, "id: a user's id is"},
		{"POST", "/users?workspace=demo", `{"id":".."}`, "id: is missing, or begins with a dot"},
		{"POST", "/users?workspace=demo", `{"id":"x","role":"boss"}`, "role: want one of admin, member"},
		{"POST", "/users", `{"id":"x"}`, "workspace: there are several"},
		{"POST", "/users?workspace=demo", `{"id":"x","workspace":"other"}`, "name different ones"},
	} {
		if r := s.must(400, c.method, "/api/v1"+c.path, operator, c.body); !strings.Contains(r.body, c.says) {
			t.Errorf("%s %s: %s, want %s", c.path, c.body, r.body, c.says)
		}
	}
	if r := s.must(200, "GET", "/api/v1/catalog", operator, ""); r.header.Get("X-Tollgate-Revision") != "2" {
		t.Error("a refused change was stored")
	}
}

func TestTenantPages(t *testing.T) {
	s := gated(t)
	c, err := manage.NewClient(s.url, operator, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for query := (url.Values{"limit": {"2"}}); query != nil; {
		page, err := c.ListWorkspaces(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range page.Value {
			ids = append(ids, w.ID)
		}
		query = page.Next
	}
	if strings.Join(ids, ",") != "demo,frozen,other" {
		t.Errorf("pages have %v", ids)
	}
	if _, err := c.CreateUser(t.Context(), manage.UserRequest{ID: "a|b=c", Workspace: new("demo")}); err != nil {
		t.Fatal(err)
	}
	u, err := c.SuspendUser(t.Context(), "demo", "a|b=c", true)
	if err != nil || !u.Value.Suspended || u.Reach.Revision == 0 {
		t.Errorf("suspended %+v (%v)", u, err)
	}
	if reach, err := c.DeleteUser(t.Context(), "demo", "a|b=c"); err != nil || reach.Replicas != 1 {
		t.Errorf("deleted %+v (%v)", reach, err)
	}
	page, err := c.ListUsers(t.Context(), url.Values{"workspace": {"demo"}, "limit": {"1"}})
	if err != nil || len(page.Value) != 1 || page.Value[0].ID != "ada" || page.Next.Get("cursor") == "" || page.Next.Get("workspace") != "demo" {
		t.Errorf("users %+v (%v)", page, err)
	}
}

// TestCursorsOfOtherLists: what is not from a Link header of the same list is refused,
// and a cursor goes on also when what it stands behind is gone.
func TestCursorsOfOtherLists(t *testing.T) {
	s := serve(t)
	cursors := map[string]string{}
	lists := []string{"/api/v1/users?workspace=demo", "/api/v1/workspaces?", "/api/v1/models?"}
	for _, list := range lists {
		r := s.must(200, "GET", list+"&limit=1", operator, "")
		u, err := url.Parse(strings.TrimPrefix(strings.Split(r.header.Get("Link"), ">")[0], "<"))
		if err != nil || u.Query().Get("cursor") == "" {
			t.Fatalf("%s has no other page: %v", list, r.header)
		}
		cursors[list] = u.Query().Get("cursor")
	}
	for _, list := range lists {
		bad := []string{"garbage", "ada", "demo", "%00", "AAAA", "AAAAAAAAAAAA", "%F0%9F%92%A9", cursors[list] + "x", cursors[list][1:], "01940000-0000-7000-8000-000000000001"}
		for _, other := range lists {
			if other != list {
				bad = append(bad, cursors[other])
			}
		}
		for _, cursor := range bad {
			if r := s.must(400, "GET", list+"&cursor="+cursor, operator, ""); !strings.Contains(r.body, "cursor: is not from") {
				t.Errorf("%s with %s: %s", list, cursor, r.body)
			}
		}
		s.must(200, "GET", list+"&cursor=", operator, "")
	}
	s.must(400, "GET", "/api/v1/users?workspace=other&cursor="+cursors[lists[0]], operator, "")
	s.must(204, "DELETE", "/api/v1/users/ada?workspace=demo", operator, "")
	if r := s.must(200, "GET", lists[0]+"&cursor="+cursors[lists[0]], operator, ""); !strings.Contains(r.body, `"id":"max"`) {
		t.Errorf("behind a user that is gone: %s", r.body)
	}
}
