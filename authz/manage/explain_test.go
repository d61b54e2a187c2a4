package manage_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

func (s *service) explain(secret, body string) manage.Explained {
	s.t.Helper()
	var e manage.Explained
	r := s.must(200, "POST", "/api/v1/explain", secret, body)
	if err := json.Unmarshal([]byte(r.body), &e); err != nil {
		s.t.Fatal(err)
	}
	return e
}

func TestExplain(t *testing.T) {
	s := gated(t)
	k := s.create(operator, `{"workspace":"demo","user":"max","limits":{"concurrentRequests":3}}`)
	e := s.explain(operator, `{"keyId":"`+k.ID+`","workspace":"demo","model":"shared/one"}`)
	if !e.Allowed || e.Reason != nil || *e.KeyID != k.ID || *e.Workspace != "demo" || *e.User != "max" || *e.Plan != "lite" || *e.Model != "shared/one" ||
		e.Path != "/v1/chat/completions" || e.Method != http.MethodPost || *e.Dialect != "openai" {
		t.Errorf("explained as %+v", e)
	}
	if len(e.Limits) != 1 || e.Limits[0].Scope != "key" || *e.Limits[0].Requests != (manage.Left{Limit: 60, Remaining: 60}) ||
		*e.Limits[0].Concurrent != (manage.Left{Limit: 3, Remaining: 3}) || e.Limits[0].Tokens != nil {
		t.Errorf("limits %+v", e.Limits)
	}
	// The same, asked by the key itself, by its secret, and by naming the path.
	for _, c := range []struct{ secret, body string }{
		{k.Key, `{"model":"shared/one"}`}, {k.Key, `{"model":"shared/one","keyId":"` + k.ID + `"}`},
		{operator, `{"model":"shared/one","key":"` + k.Key + `"}`},
		{k.Key, `{"model":"shared/one","path":"/v1/chat/completions","method":"POST"}`}, {k.Key, `{"model":"shared/one","dialect":"openai"}`},
	} {
		if got := s.explain(c.secret, c.body); fmt.Sprint(got.Allowed, *got.KeyID, got.Path, len(got.Limits)) != fmt.Sprint(true, k.ID, e.Path, 1) {
			t.Errorf("%s: %+v", c.body, got)
		}
	}
	for body, want := range map[string]string{
		`{"model":"no/such"}`: "model_unknown", `{"model":"other/own"}`: "model_unknown", `{}`: "model_missing",
		`{"model":"shared/one","path":"/none"}`: "route_unknown", `{"model":"shared/one","dialect":"podstack"}`: "route_unknown",
	} {
		if got := s.explain(k.Key, body); got.Allowed || got.Reason == nil || *got.Reason != want || *got.Status < 400 || got.Message == nil {
			t.Errorf("%s: %+v", body, got)
		}
	}
	for body, want := range map[string]string{
		`{"model":"no/such"}`: "The model `no/such` does not exist", `{}`: "Name one as `model`.",
		`{"model":"shared/one","dialect":"podstack"}`: "no route with the dialect podstack. It has routes with openai.",
	} {
		if got := s.explain(k.Key, body); !strings.Contains(*got.Message, want) {
			t.Errorf("%s: %s", body, *got.Message)
		}
	}
	if r := s.must(400, "POST", "/api/v1/explain", k.Key, `{"dialect":"foo"}`); !strings.Contains(r.body, "it may be anthropic, azure, baseten") {
		t.Error(r.body)
	}
	for _, n := range []string{"0", "-1"} {
		s.must(400, "POST", "/api/v1/explain", k.Key, `{"maxTokens":`+n+`}`)
	}
	few := s.create(operator, `{"workspace":"demo","limits":{"tokensPerMinute":100}}`)
	if got := s.explain(few.Key, `{"model":"shared/one","maxTokens":50}`); !got.Allowed {
		t.Errorf("50 of 100 tokens: %+v", got)
	}
	if got := s.explain(few.Key, `{"model":"shared/one","maxTokens":500}`); got.Allowed || *got.Reason != "token_request_too_large" {
		t.Errorf("500 of 100 tokens: %+v", got)
	}
	s.must(204, "DELETE", "/api/v1/api-keys/"+k.ID+"?workspace=demo", operator, "")
	if got := s.explain(operator, `{"keyId":"`+k.ID+`","workspace":"demo","model":"shared/one"}`); *got.Reason != "key_invalid" {
		t.Errorf("a revoked key: %+v", got)
	}
}

// TestWhoMayExplainWhat: somebody else's key is as one that doesn't exist, and so
// is its secret.
func TestWhoMayExplainWhat(t *testing.T) {
	s := gated(t)
	admin := s.create(operator, `{"workspace":"demo","user":"ada"}`)
	member := s.create(operator, `{"workspace":"demo","user":"max"}`)
	infer := s.create(operator, `{"workspace":"demo","user":"max","actions":["infer"]}`)
	other := s.create(operator, `{"workspace":"other","actions":["infer","manage"]}`)
	for _, c := range []struct {
		who         string
		by          made
		sees, blind []made
	}{
		{"an admin", admin, []made{admin, member, infer}, []made{other}},
		{"a member", member, []made{member, infer}, []made{admin, other}},
		{"an inference key", infer, []made{infer}, []made{admin, member, other}},
		{"another workspace", other, []made{other}, []made{admin, member, infer}},
	} {
		for _, k := range c.sees {
			for _, body := range []string{`{"keyId":"` + k.ID + `"}`, `{"key":"` + k.Key + `"}`} {
				if e := s.explain(c.by.Key, body); *e.KeyID != k.ID {
					t.Errorf("%s asks about a key that it sees: %+v", c.who, e)
				}
			}
		}
		unknown := s.must(404, "POST", "/api/v1/explain", c.by.Key, `{"keyId":"01990000-0000-7000-8000-000000000000"}`).body
		invalid := s.must(200, "POST", "/api/v1/explain", c.by.Key, `{"key":"nobodys"}`).body
		if !strings.Contains(invalid, `"reason":"key_invalid"`) {
			t.Errorf("an unknown secret: %s", invalid)
		}
		for _, k := range c.blind {
			if r := s.must(404, "POST", "/api/v1/explain", c.by.Key, `{"keyId":"`+k.ID+`"}`); r.body != unknown {
				t.Errorf("%s: a key that it doesn't see answers %s", c.who, r.body)
			}
			if r := s.must(200, "POST", "/api/v1/explain", c.by.Key, `{"key":"`+k.Key+`"}`); r.body != invalid {
				t.Errorf("%s: the secret of a key that it doesn't see answers %s", c.who, r.body)
			}
		}
	}
	s.must(400, "POST", "/api/v1/explain", operator, `{"model":"shared/one"}`)
	s.must(400, "POST", "/api/v1/explain", admin.Key, `{"keyId":"`+admin.ID+`","key":"x"}`)
	s.must(401, "POST", "/api/v1/explain", "", "")
	for _, e := range s.store.Trail() {
		if strings.HasPrefix(e.Action, "explain.") && e.Status == 200 {
			t.Errorf("a question is written down: %+v", e)
		}
	}
}

// TestExplainInObserveModeTellsNothingOfOthers: what stands in for an invalid key
// is another workspace's.
func TestExplainInObserveModeTellsNothingOfOthers(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := serve(t, func(c *manage.Config) { c.Now = func() time.Time { return at } })
	s.apply("", plainCatalog+"routes: [{dialect: openai, mode: observe, observe: {workspace: other}}]\n")
	admin := s.create(operator, `{"workspace":"demo","user":"ada"}`)
	ends := s.create(operator, `{"workspace":"demo","expiresAt":"2026-01-01T01:00:00Z"}`)
	at = at.Add(2 * time.Hour)
	e := s.explain(admin.Key, `{"keyId":"`+ends.ID+`","model":"shared/one"}`)
	if !e.Allowed || e.Observed == nil || *e.Observed != "key_invalid" || *e.Workspace != "demo" || e.Plan != nil || len(e.Limits) != 0 {
		t.Errorf("an expired key: %+v", e)
	}
}

func TestExplainWhenTheStoreIsAway(t *testing.T) {
	s := gated(t)
	s.store.Before = func(op string) error {
		if op == "get" {
			return fmt.Errorf("%w: away", key.ErrUnavailable)
		}
		return nil
	}
	s.must(503, "POST", "/api/v1/explain", operator, `{"keyId":"01990000-0000-7000-8000-000000000000","workspace":"demo"}`)
	s.store.Before = func(string) error { return errors.New("odd") }
	s.must(500, "POST", "/api/v1/explain", operator, `{"keyId":"01990000-0000-7000-8000-000000000000","workspace":"demo"}`)
}
