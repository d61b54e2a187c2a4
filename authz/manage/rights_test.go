package manage_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tollgate/authz/key"
)

func TestWhoAmI(t *testing.T) {
	s := serve(t)
	personal := s.create(operator, `{"workspace":"demo","user":"max"}`)
	if r := s.must(200, "GET", "/api/v1/auth/me", personal.Key, ""); r.body != `{"id":"max"}` {
		t.Errorf("me is %s", r.body)
	}
	inference := s.create(operator, `{"workspace":"demo","user":"max","actions":["infer"]}`)
	s.must(200, "GET", "/api/v1/auth/me", inference.Key, "")
	shared := s.create(operator, `{"workspace":"demo"}`)
	s.must(404, "GET", "/api/v1/auth/me", shared.Key, "")
	s.must(404, "GET", "/api/v1/auth/me", operator, "")
}

func TestKindOfKeyIsTold(t *testing.T) {
	s := serve(t)
	inference := s.create(operator, `{"workspace":"demo","actions":["infer"]}`)
	token := s.create(operator, `{"workspace":"demo","actions":["metrics"]}`)
	manager := s.create(operator, `{"workspace":"demo","actions":["manage"]}`)
	for _, want := range []struct{ secret, path, says string }{
		{inference.Key, "/api/v1/api-keys", "a key with the action manage; the presented one is an inference key"},
		{token.Key, "/api/v1/api-keys", "the presented one is an account token (actions: metrics)"},
		{manager.Key, "/api/v1/events", "takes the operator's key; the presented one is an account token (actions: manage)"},
		{manager.Key, "/api/v1/catalog", "takes the operator's key"},
		{manager.Key, "/api/v1/consumers", "takes the operator's key"},
	} {
		if r := s.must(403, "GET", want.path, want.secret, ""); !strings.Contains(r.body, want.says) {
			t.Errorf("%s: %s", want.path, r.body)
		}
	}
	// Rights come before the body and the query: nothing is told of either.
	s.must(403, "POST", "/api/v1/api-keys?nope=1", inference.Key, `{`)
}

// TestOthersKeysDontExist: for every pair of a caller and a key of somebody
// else, all methods answer with the bytes of a key that was never made.
func TestOthersKeysDontExist(t *testing.T) {
	s := serve(t)
	demo := s.create(operator, `{"workspace":"demo"}`)
	ada := s.create(operator, `{"workspace":"demo","user":"ada"}`)
	member := s.create(operator, `{"workspace":"demo","user":"max"}`)
	other := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`)
	for _, c := range []struct {
		who   string
		by    made
		sees  []made
		blind []made
	}{
		{"a workspace key", demo, []made{demo, ada, member}, []made{other}},
		{"an admin", ada, []made{demo, ada, member}, []made{other}},
		{"a member", member, []made{member}, []made{demo, ada, other}},
		{"another workspace", other, []made{other}, []made{demo, ada, member}},
	} {
		list := s.must(200, "GET", "/api/v1/api-keys", c.by.Key, "")
		for _, m := range c.sees {
			s.must(200, "GET", "/api/v1/api-keys/"+m.ID, c.by.Key, "")
			if !strings.Contains(list.body, m.ID) {
				t.Errorf("%s does not list %s", c.who, m.ID)
			}
		}
		for _, m := range c.blind {
			if strings.Contains(list.body, m.ID) {
				t.Errorf("%s lists %s", c.who, m.ID)
			}
			for _, method := range []string{"GET", "PATCH", "DELETE"} {
				got := s.must(404, method, "/api/v1/api-keys/"+m.ID, c.by.Key, "{}")
				none := s.must(404, method, "/api/v1/api-keys/01990000-0000-7000-8000-000000000000", c.by.Key, "{}")
				if got.body != none.body {
					t.Errorf("%s: %s of another's key answers %s", c.who, method, got.body)
				}
			}
		}
		s.must(400, "GET", "/api/v1/api-keys?workspace=frozen", c.by.Key, "")
	}
	for _, m := range []made{demo, ada, member, other} {
		if s.store.Key(m.ID).Status != key.Active {
			t.Errorf("%s was revoked", m.ID)
		}
	}
}

func TestMembersMakePersonalKeysOfTheirOwn(t *testing.T) {
	s := serve(t)
	member := s.create(operator, `{"workspace":"demo","user":"max"}`)
	m := s.create(member.Key, `{"name":"laptop"}`)
	if rec := s.store.Key(m.ID); rec.Kind != key.Personal || rec.User != "max" || rec.CreatedBy != "user:max" {
		t.Errorf("made %+v", rec)
	}
	s.must(403, "POST", "/api/v1/api-keys", member.Key, `{"kind":"workspace"}`)
	s.must(403, "POST", "/api/v1/api-keys", member.Key, `{"user":"ada"}`)
	ada := s.create(operator, `{"workspace":"demo","user":"ada"}`)
	shared := s.create(ada.Key, `{"kind":"workspace"}`)
	if rec := s.store.Key(shared.ID); rec.Kind != key.Workspace || rec.User != "" || rec.CreatedBy != "user:ada" {
		t.Errorf("made %+v", rec)
	}
	s.create(ada.Key, `{"user":"max"}`)
	byShared := s.create(shared.Key, "")
	if rec := s.store.Key(byShared.ID); rec.Kind != key.Workspace || rec.CreatedBy != "key:"+shared.ID {
		t.Errorf("made %+v", rec)
	}
}

// TestNoKeyGivesMoreThanItHas: by creation or by change of any key that it
// sees, itself included.
func TestNoKeyGivesMoreThanItHas(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := serve(t, fixed(at))
	narrow := s.create(operator, `{"workspace":"demo","actions":["infer","manage"],"models":["meta/*","own/x"],
		"expiresAt":"2026-06-01T00:00:00Z","limits":{"requestsPerMinute":60,"concurrentRequests":4},
		"budget":{"period":"month","amount":"10.00"}}`)
	wide := s.create(operator, `{"workspace":"demo"}`)
	inherited := s.create(narrow.Key, `{"limits":{"tokensPerMinute":10}}`)
	rec := s.store.Key(inherited.ID)
	if fmt.Sprint(rec.Models) != "[meta/* own/x]" || !rec.ExpiresAt.Equal(*s.store.Key(narrow.ID).ExpiresAt) ||
		rec.Limits != (key.Limits{RequestsPerMinute: 60, TokensPerMinute: 10, ConcurrentRequests: 4}) || rec.Budget.Amount != "10.00" {
		t.Errorf("inherited %+v", rec)
	}
	for body, says := range map[string]string{
		`{"actions":["infer","wake"]}`:                   "actions: wake",
		`{"actions":["metrics"]}`:                        "actions: metrics",
		`{"models":null}`:                                "models:",
		`{"models":["*"]}`:                               "models:",
		`{"models":["meta/a","gpt/x"]}`:                  "models: gpt/x",
		`{"models":["own/*"]}`:                           "models: own/*",
		`{"expiresAt":null}`:                             "expiresAt:",
		`{"expiresAt":"2026-06-01T00:00:00.001Z"}`:       "expiresAt:",
		`{"limits":null}`:                                "limits.concurrentRequests:", // of requests, the plan gives as many
		`{"limits":{"requestsPerMinute":61}}`:            "limits.requestsPerMinute:",
		`{"limits":{"concurrentRequests":null}}`:         "limits.concurrentRequests:",
		`{"budget":null}`:                                "budget:",
		`{"budget":{"period":"month","amount":"10.01"}}`: "budget:",
		`{"budget":{"period":"day","amount":"1"}}`:       "budget:",
	} {
		for _, target := range []struct{ method, path string }{
			{"POST", "/api/v1/api-keys"}, {"PATCH", "/api/v1/api-keys/" + narrow.ID}, {"PATCH", "/api/v1/api-keys/" + inherited.ID},
		} {
			if r := s.must(403, target.method, target.path, narrow.Key, body); !strings.Contains(r.body, says) {
				t.Errorf("%s %s: %s", target.method, body, r.body)
			}
		}
	}
	// A key that opens more models than this one doesn't exist for it.
	s.must(404, "PATCH", "/api/v1/api-keys/"+wide.ID, narrow.Key, `{"name":"mine"}`)
	for _, body := range []string{
		`{"models":["meta/a","meta/b/*","own/x"],"expiresAt":"2026-06-01T00:00:00Z","actions":["infer"]}`,
		`{"limits":{"requestsPerMinute":60},"budget":{"period":"month","amount":"10"}}`,
	} {
		s.create(narrow.Key, body)
	}
}

// TestOnlyTheOperatorRaisesAKeyAboveItsPlan: a key that has no limit of its own has
// the plan's, and can't set a higher one, for itself or for another.
func TestOnlyTheOperatorRaisesAKeyAboveItsPlan(t *testing.T) {
	s := serve(t)
	k := s.create(operator, `{"workspace":"demo","actions":["infer","manage"]}`)
	const above, below = `{"limits":{"requestsPerMinute":61}}`, `{"limits":{"requestsPerMinute":60}}`
	s.must(403, "POST", "/api/v1/api-keys", k.Key, above)
	s.must(403, "PATCH", "/api/v1/api-keys/"+k.ID, k.Key, above)
	if l := s.store.Key(k.ID).Limits; l != (key.Limits{}) {
		t.Errorf("a refused change left %+v", l)
	}
	s.must(201, "POST", "/api/v1/api-keys", k.Key, below)
	s.must(200, "PATCH", "/api/v1/api-keys/"+k.ID+"?workspace=demo", operator, above)
	// What the operator raised may be given on, and no more.
	s.must(201, "POST", "/api/v1/api-keys", k.Key, above)
	s.must(403, "POST", "/api/v1/api-keys", k.Key, `{"limits":{"requestsPerMinute":62}}`)
}

// TestASmallerPlanBindsKeysWithLimits: what a tenant set while its plan gave as much
// does not outlast the plan, nor does it let the tenant set more than the plan of now;
// what the operator raised does.
func TestASmallerPlanBindsKeysWithLimits(t *testing.T) {
	s := serve(t)
	maker := s.create(operator, `{"workspace":"demo","actions":["infer","manage"]}`)
	own := s.create(maker.Key, `{"actions":["infer","manage"],"limits":{"requestsPerMinute":60}}`)
	raised := s.create(operator, `{"workspace":"demo","limits":{"requestsPerMinute":61}}`)
	smaller := key.Limits{RequestsPerMinute: 5}
	if got := s.store.Key(own.ID).Bound(smaller); got != smaller {
		t.Errorf("a key that set what its plan gave has %+v on a smaller one", got)
	}
	if got := s.store.Key(raised.ID).Bound(smaller).RequestsPerMinute; got != 61 {
		t.Errorf("a key that the operator raised to 61 has %d on a smaller plan", got)
	}
	s.must(200, "PUT", "/api/v1/catalog", operator, strings.Replace(plainCatalog, "requestsPerMinute: 60", "requestsPerMinute: 5", 1), "Content-Type: application/yaml")
	s.must(403, "POST", "/api/v1/api-keys", own.Key, `{"limits":{"requestsPerMinute":6}}`)
	s.must(201, "POST", "/api/v1/api-keys", own.Key, `{"limits":{"requestsPerMinute":5}}`)
}

func TestStateIsLookedUpAtEachRequest(t *testing.T) {
	s := serve(t)
	frozen := s.create(operator, `{"workspace":"frozen","actions":["infer","manage"]}`)
	if r := s.must(403, "GET", "/api/v1/api-keys", frozen.Key, ""); !strings.Contains(r.body, "suspended") {
		t.Errorf("a suspended workspace: %s", r.body)
	}
	member := s.create(operator, `{"workspace":"demo","user":"max"}`)
	s.must(200, "GET", "/api/v1/auth/me", member.Key, "")
	apply := func(user string) {
		t.Helper()
		text := strings.Replace(demoCatalog, "  - {id: max, workspace: demo}\n", user, 1)
		s.must(200, "PUT", "/api/v1/catalog?prune=true", operator, strings.Replace(text, `, credential: "env:UPSTREAM"`, "", 1), "Content-Type: application/yaml")
	}
	apply("  - {id: max, workspace: demo, suspended: true}\n")
	s.must(403, "GET", "/api/v1/auth/me", member.Key, "")
	apply("")
	if r := s.must(401, "GET", "/api/v1/auth/me", member.Key, ""); r.body != unauthorized {
		t.Errorf("a deleted user: %s", r.body)
	}
}
