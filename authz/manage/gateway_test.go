package manage_test

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tollgate/authz/dialect"
	"tollgate/authz/manage"
	"tollgate/authz/manage/managetest"
	"tollgate/authz/reason"
)

// serveGateway is what a gateway serves for the dialects, the management API beside
// it, and a key of a user to begin with.
func serveGateway(t *testing.T) (gateway, api *service, first made) {
	t.Helper()
	at := time.Date(2025, 12, 10, 12, 0, 0, 0, time.UTC)
	api = serve(t, fixed(at))
	first = api.create(operator, `{"workspace":"demo","user":"max"}`)
	cfg := api.store.Config()
	cfg.Logger = slog.New(slog.DiscardHandler)
	fixed(at)(&cfg)
	h, err := manage.NewGateway(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &service{t: t, store: api.store, url: srv.URL}, api, first
}

// Whatever a dialect has as managed is answered, to whoever has a key and to nobody
// else, and refused in that dialect's words.
func TestGatewayAnswersEveryManagedPath(t *testing.T) {
	s, _, first := serveGateway(t)
	n := 0
	for _, name := range dialect.Names() {
		d, _ := dialect.Lookup(name)
		for _, p := range d.Paths {
			if p.Answer != dialect.AnswerManaged {
				continue
			}
			n++
			path := strings.Replace(p.Pattern, "{id}", first.ID, 1)
			for _, secret := range []string{"", "wrong", managetest.OperatorKey} {
				r := s.must(401, p.Method, path, secret, "")
				want := d.Refuse(dialect.Refusal{Reason: reason.KeyInvalid, Detail: "Invalid or missing API key"})
				if r.body != string(want.Body) {
					t.Errorf("%s %s is refused with %s, want %s", p.Method, path, r.body, want.Body)
				}
				for _, h := range want.Headers {
					if got := r.header.Get(h.Name); got != h.Value {
						t.Errorf("%s %s is refused with %s %q, want %q", p.Method, path, h.Name, got, h.Value)
					}
				}
			}
			r := s.must(400, p.Method, path+"?api_key="+first.Key, "", "")
			if !strings.Contains(r.body, "An API key in the query is refused") || strings.Contains(r.body, first.Key) {
				t.Errorf("%s %s with a key in the query: %s", p.Method, path, r.body)
			}
			if r := s.do(p.Method, path+"?nope=1", first.Key, ""); r.status != 400 && r.status != 403 {
				t.Errorf("%s %s: %d %s", p.Method, path, r.status, r.body)
			}
		}
	}
	if n < 5 {
		t.Errorf("there are %d managed paths", n)
	}
	if r := s.must(404, "GET", "/nowhere", first.Key, ""); !strings.Contains(r.body, "no such endpoint") {
		t.Error(r.body)
	}
	s.must(404, "POST", "/metrics", first.Key, "")
}

// Who is suspended is told so in the gate's word.
func TestGatewayTellsWhoIsSuspended(t *testing.T) {
	s, api, _ := serveGateway(t)
	for want, body := range map[string]string{
		"workspace_suspended": `{"workspace":"frozen","actions":["metrics"]}`,
		"user_suspended":      `{"workspace":"demo","user":"max","actions":["metrics"]}`,
	} {
		k := api.create(operator, body)
		if want == "user_suspended" {
			api.must(200, "POST", "/api/v1/users/max/suspend?workspace=demo", operator, "")
		}
		r := s.must(403, "GET", "/metrics", k.Key, "")
		if !strings.Contains(r.body, `"code":"`+want+`"`) || r.header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: %s %v", want, r.body, r.header)
		}
		r = s.must(403, "GET", "/api/v1/api-keys", k.Key, "")
		if !strings.Contains(r.body, `"statusCode":403`) {
			t.Error(r.body)
		}
	}
}
