package manage_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/authz/key"
	"tollgate/authz/manage"
	"tollgate/authz/manage/managetest"
)

const demoCatalog = `
workspaces:
  - {id: demo, plan: lite, keyDefaults: {actions: [infer, manage]}}
  - {id: other, plan: lite, keyFormat: "minds_{hex:48}"}
  - {id: frozen, plan: lite, suspended: true}
users:
  - {id: ada, workspace: demo, role: admin}
  - {id: max, workspace: demo}
plans:
  - {id: lite, limits: {requestsPerMinute: 60}}
models:
  - {id: shared/one, upstreams: [{url: "http://127.0.0.1:9100"}]}
  - {id: demo/own, workspaces: [demo], upstreams: [{url: "http://127.0.0.1:9100"}], credential: "env:UPSTREAM"}
  - {id: other/own, workspaces: [other], deployed: false}
`

// service is the API as a whole, on a real listener.
type service struct {
	t     *testing.T
	store *managetest.Store
	url   string
	log   *lockedBuffer

	mu     sync.Mutex
	served []manage.Served
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func serve(t *testing.T, edit ...func(*manage.Config)) *service {
	t.Helper()
	catalog := strings.Replace(demoCatalog, `, credential: "env:UPSTREAM"`, "", 1)
	s := &service{t: t, store: managetest.NewStore(t, catalog), log: &lockedBuffer{}}
	cfg := s.store.Config()
	cfg.Logger = slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Served = func(v manage.Served) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.served = append(s.served, v)
	}
	for _, e := range edit {
		e(&cfg)
	}
	h, err := manage.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request with a key ("": none) and headers as "Name: value".
func (s *service) do(method, path, secret, body string, headers ...string) reply {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}

// must is do that expects a status.
func (s *service) must(status int, method, path, secret, body string, headers ...string) reply {
	s.t.Helper()
	r := s.do(method, path, secret, body, headers...)
	if r.status != status {
		s.t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, r.status, r.body, status)
	}
	return r
}

// made is a key that was created.
type made struct {
	ID  string `json:"id"`
	Key string `json:"key"`
}

func (s *service) create(secret, body string) made {
	s.t.Helper()
	var m made
	r := s.must(201, "POST", "/api/v1/api-keys", secret, body)
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || m.ID == "" || m.Key == "" {
		s.t.Fatalf("a creation answered %s (%v)", r.body, err)
	}
	return m
}

const operator = managetest.OperatorKey

const unauthorized = `{"statusCode":401,"statusMessage":"Unauthorized","message":"Invalid or missing API key"}`

func TestUnauthorizedIsOneBody(t *testing.T) {
	s := serve(t)
	revoked := s.create(operator, `{"workspace":"demo"}`)
	s.must(204, "DELETE", "/api/v1/api-keys/"+revoked.ID+"?workspace=demo", operator, "")
	for name, headers := range map[string][]string{
		"missing":      nil,
		"wrong":        {"Authorization: Bearer wrong"},
		"no scheme":    {"Authorization: " + operator},
		"basic":        {"Authorization: Basic " + operator},
		"almost":       {"Authorization: Bearer " + operator + "x"},
		"revoked":      {"Authorization: Bearer " + revoked.Key},
		"control":      {"Authorization: Bearer a\tb"},
		"empty":        {"Authorization: Bearer "},
		"only cookies": {"Cookie: key=" + operator},
	} {
		for _, path := range []string{"/api/v1/auth/me", "/api/v1/api-keys", "/api/v1/catalog"} {
			r := s.must(401, "GET", path, "", "", headers...)
			if r.body != unauthorized {
				t.Errorf("%s: %s answers %q", name, path, r.body)
			}
			if r.header.Get("Www-Authenticate") == "" {
				t.Errorf("%s: no WWW-Authenticate", name)
			}
		}
	}
	s.must(400, "GET", "/api/v1/models", operator, "", "X-Api-Key: another")
	s.must(200, "GET", "/api/v1/models", operator, "", "X-Api-Key: "+operator)
	s.must(200, "GET", "/api/v1/models", "", "", "Authorization: Api-Key  "+operator+" ")
}

func TestEveryAnswerHasItsForm(t *testing.T) {
	s := serve(t)
	id := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, path := range []string{
		"/", "/api", "/api/v1", "/api/v1/api-keys/", "/api/v1/api-keys/x/y", "//api/v1/api-keys", "/api/v1/../v1/api-keys",
		"/docs", "/schemas/Key.json", "/openapi.yaml", "/metrics/", "/console/%2e%2e/",
	} {
		for _, method := range []string{"GET", "PUT"} {
			r := s.must(404, method, path, operator, "")
			var e manage.Error
			if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Status != 404 || e.StatusMessage != "Not Found" || e.Message == "" {
				t.Errorf("%s answers %q", path, r.body)
			}
			if !id.MatchString(r.header.Get("X-Request-Id")) || r.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s answers the headers %v", path, r.header)
			}
		}
	}
	s.must(200, "GET", "/livez", "", "")
	s.must(200, "GET", "/readyz", "", "")
	list := s.must(200, "GET", "/api/v1/api-keys?workspace=demo", operator, "")
	if list.body != "[]" || list.header.Get("Content-Type") != "application/json" {
		t.Errorf("an empty list is %q", list.body)
	}
}

func TestOpenAPIHasEveryEndpoint(t *testing.T) {
	s := serve(t)
	var doc struct {
		Paths      map[string]map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	r := s.must(200, "GET", "/openapi.json", "", "")
	if err := json.Unmarshal([]byte(r.body), &doc); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"GET /api/v1/auth/me", "GET /api/v1/api-keys", "POST /api/v1/api-keys", "GET /api/v1/api-keys/{id}",
		"PATCH /api/v1/api-keys/{id}", "DELETE /api/v1/api-keys/{id}", "GET /api/v1/events",
		"GET /api/v1/consumers", "POST /api/v1/consumers", "DELETE /api/v1/consumers/{name}", "GET /api/v1/models",
		"POST /api/v1/models/deploy", "POST /api/v1/models/undeploy", "GET /api/v1/catalog", "PUT /api/v1/catalog",
		"GET /openapi.json", "GET /livez", "GET /readyz",
	} {
		method, path, _ := strings.Cut(want, " ")
		if doc.Paths[path][strings.ToLower(method)] == nil {
			t.Errorf("the document lacks %s", want)
		}
	}
	for _, ref := range regexp.MustCompile(`#/components/schemas/(\w+)`).FindAllStringSubmatch(r.body, -1) {
		if doc.Components.Schemas[ref[1]] == nil {
			t.Errorf("the document refers to %s and does not have it", ref[1])
		}
	}
	if strings.Contains(r.body, "$schema") {
		t.Error("answers are described with $schema")
	}
}

func TestNotReady(t *testing.T) {
	s := serve(t, func(c *manage.Config) { c.Ready = func() error { return errors.New("the secret reason") } })
	r := s.must(503, "GET", "/readyz", "", "")
	if strings.Contains(r.body, "secret reason") || !strings.Contains(s.log.String(), "secret reason") {
		t.Errorf("readyz answers %s", r.body)
	}
	s.must(200, "GET", "/livez", "", "")
}

func TestAnotherSitesPageIsRefused(t *testing.T) {
	s := serve(t)
	s.must(403, "POST", "/api/v1/api-keys", operator, `{"workspace":"demo"}`, "Sec-Fetch-Site: cross-site")
	s.must(403, "POST", "/api/v1/api-keys", operator, `{"workspace":"demo"}`, "Origin: https://elsewhere.example")
	s.must(201, "POST", "/api/v1/api-keys", operator, `{"workspace":"demo"}`, "Sec-Fetch-Site: same-origin")
	r := s.must(405, "OPTIONS", "/api/v1/api-keys", "", "", "Origin: https://elsewhere.example", "Access-Control-Request-Method: POST")
	for name := range r.header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("a preflight got %s", name)
		}
	}
}

func TestUnavailableIsNotUnauthorized(t *testing.T) {
	s := serve(t, func(c *manage.Config) {
		c.Identify = nil2unavailable
	})
	r := s.must(503, "GET", "/api/v1/auth/me", "tg_whatever", "")
	if r.header.Get("Retry-After") != "1" {
		t.Error("no Retry-After")
	}
	s.store.Before = func(string) error { return fmt.Errorf("%w: nats: timeout at 10.0.0.7", key.ErrUnavailable) }
	r = s.must(503, "GET", "/api/v1/api-keys?workspace=demo", operator, "")
	if strings.Contains(r.body, "nats") {
		t.Errorf("the answer tells what is inside: %s", r.body)
	}
	s.store.Before = func(string) error { return errors.New("odd") }
	if r = s.must(500, "GET", "/api/v1/api-keys?workspace=demo", operator, ""); strings.Contains(r.body, "odd") {
		t.Errorf("the answer tells what is inside: %s", r.body)
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	s := serve(t)
	s.store.Before = func(string) error { panic("oh") }
	s.must(500, "GET", "/api/v1/api-keys?workspace=demo", operator, "")
	if !strings.Contains(s.log.String(), "panic") {
		t.Error("the log does not tell of the panic")
	}
}

// TestSecretIsInOneAnswer follows a key through its life and looks for its
// secret, and the operator's, in everything that came out.
func TestSecretIsInOneAnswer(t *testing.T) {
	s := serve(t)
	m := s.create(operator, `{"workspace":"demo","name":"x","actions":["infer","manage"]}`)
	var out strings.Builder
	path := "/api/v1/api-keys/" + m.ID
	for _, r := range []reply{
		s.do("GET", path, m.Key, ""), s.do("GET", "/api/v1/api-keys", m.Key, ""),
		s.do("PATCH", path, m.Key, `{"name":"y"}`), s.do("POST", "/api/v1/api-keys", m.Key, `{"nam":"`+m.Key+`"}`),
		s.do("POST", "/api/v1/api-keys", m.Key, `{"`+m.Key+`":1,"`+m.Key+`":2`), s.do("GET", "/api/v1/catalog", m.Key, ""),
		s.do("GET", "/api/v1/api-keys?key="+m.Key, "", ""), s.do("GET", "/api/v1/api-keys?"+m.Key+"=1", m.Key, ""),
		s.do("GET", "/"+m.Key, m.Key, ""), s.do("GET", "/api/v1/models", m.Key, "", "X-Api-Key: "+operator),
		s.do("DELETE", path, m.Key, ""), s.do("GET", path, m.Key, ""),
	} {
		fmt.Fprintln(&out, r.header, r.body)
	}
	s.mu.Lock()
	fmt.Fprintln(&out, s.served)
	s.mu.Unlock()
	out.WriteString(s.log.String())
	stored, err := json.Marshal(s.store.Key(m.ID))
	if err != nil {
		t.Fatal(err)
	}
	out.Write(stored)
	if out.Len() < 2000 {
		t.Fatalf("only %d bytes were looked at", out.Len())
	}
	for _, secret := range []string{m.Key, operator} {
		if i := strings.Index(out.String(), secret); i >= 0 {
			t.Errorf("a secret came out again: …%s…", out.String()[max(0, i-200):i])
		}
	}
}

func TestAnotherMethodIsToldWhichThereAre(t *testing.T) {
	s := serve(t)
	for call, allow := range map[[2]string]string{
		{"PUT", "/api/v1/api-keys"}:            "GET, POST",
		{"POST", "/api/v1/api-keys/x"}:         "GET, PATCH, DELETE",
		{"GET", "/api/v1/api-keys/x/rotate"}:   "POST",
		{"DELETE", "/api/v1/catalog"}:          "GET, PUT",
		{"BREW", "/api/v1/workspaces/x/users"}: "",
	} {
		r := s.do(call[0], call[1], operator, "")
		want := 405
		if allow == "" {
			want = 404
		}
		if r.status != want || r.header.Get("Allow") != allow {
			t.Errorf("%v: %d, Allow %q, want %d, %q", call, r.status, r.header.Get("Allow"), want, allow)
		}
	}
}

// TestNothingIsDoneWithABodyThatIsNotHeeded: who sends what the endpoint does not
// have would think that it was done.
func TestNothingIsDoneWithABodyThatIsNotHeeded(t *testing.T) {
	s := serve(t)
	const suspend = "/api/v1/workspaces/demo/suspend"
	for body, says := range map[string]string{
		`{"until":"2030-01-31T12:00:00Z"}`: "until: there is no such field",
		`[]`:                               "must be a JSON object",
		`{`:                                "not valid JSON",
	} {
		if r := s.must(400, "POST", suspend, operator, body); !strings.Contains(r.body, says) {
			t.Errorf("%s: %s", body, r.body)
		}
	}
	if r := s.must(200, "GET", "/api/v1/workspaces/demo", operator, ""); !strings.Contains(r.body, `"suspended":false`) {
		t.Errorf("a refused body suspended: %s", r.body)
	}
	s.must(200, "POST", suspend, operator, "{}")
}

func TestServedCountsByRoute(t *testing.T) {
	s := serve(t)
	s.must(404, "GET", "/api/v1/api-keys/"+strings.Repeat("0", 36)+"?workspace=demo", operator, "")
	s.must(404, "GET", "/else", operator, "")
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.served) != 2 || s.served[0].Operation != "GET /api/v1/api-keys/{id}" || s.served[0].Status != 404 ||
		s.served[1].Operation != "none" || s.served[0].Duration <= 0 {
		t.Errorf("served %+v", s.served)
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := manage.New(manage.Config{}); err == nil {
		t.Error("an empty configuration passed")
	}
}

// fixed is a clock that stands still.
func fixed(at time.Time) func(*manage.Config) {
	return func(c *manage.Config) { c.Now = func() time.Time { return at } }
}
