package envoy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/dialect"
	"tollgate/authz/reason"
	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/events/natstest/freeaddr"
)

// gate is an upstream, Tollgate's gRPC server with a simple Checker and Settler,
// and a real Envoy between them and the test.
type gate struct {
	*envoytest.Envoy
	checks   *checker
	settled  *settler
	server   *envoy.Server
	addr     string // of server
	upstream *httptest.Server
}

// checker admits whoever has "Bearer good", to the cluster "model".
type checker struct {
	n        atomic.Int64
	previews atomic.Int64 // looks at headers alone
	mu       sync.Mutex
	seen     []dialect.Request
	// hook, if not nil, may change what was decided.
	hook func(ctx context.Context, r *dialect.Request, d *authz.Decision)
}

func (c *checker) Check(ctx context.Context, _ time.Time, r *dialect.Request, d *authz.Decision) {
	kept := *r
	kept.Body = bytes.Clone(r.Body)
	c.mu.Lock()
	c.seen = append(c.seen, kept)
	c.mu.Unlock()
	if r.HeadersOnly {
		c.previews.Add(1)
	}
	good := false
	for _, h := range r.Headers {
		good = good || h.Name == "authorization" && h.Value == "Bearer good"
	}
	switch {
	case !good:
		d.Reason = reason.KeyInvalid
		d.Response = &dialect.Response{
			Status:  401,
			Headers: []dialect.Header{{Name: "content-type", Value: "application/json"}, {Name: "www-authenticate", Value: "Bearer"}},
			Body:    []byte(`{"error":{"message":"who are you?","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`),
		}
	case !r.HeadersOnly:
		id := "adm-" + strconv.FormatInt(c.n.Add(1), 10)
		d.Admission = &authz.Admission{ID: id}
		d.Token = id
		d.Cluster = "model"
		d.SetHeaders = []dialect.Header{{Name: "x-tollgate-workspace", Value: "demo"}}
		d.RemoveHeaders = []string{"authorization"}
		d.ResponseHeaders = []dialect.Header{{Name: "x-request-id", Value: id}}
	}
	if c.hook != nil {
		c.hook(ctx, r, d)
	}
}

// last is the newest request that was checked.
func (c *checker) last() dialect.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) == 0 {
		return dialect.Request{}
	}
	return c.seen[len(c.seen)-1]
}

// settler remembers what was settled.
type settler struct {
	mu   sync.Mutex
	seen map[string][]authz.Observation
	fail atomic.Bool // answers "come again"
}

func (s *settler) Settle(_ context.Context, _ time.Time, token string, o authz.Observation) error {
	if s.fail.Load() {
		return fmt.Errorf("not now")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[token] = append(s.seen[token], o)
	return nil
}

// of waits for the settlement of a token, and fails the test if there is more
// than one.
func (s *settler) of(t testing.TB, token string) authz.Observation {
	t.Helper()
	var got []authz.Observation
	eventually(t, "a settlement of "+token, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		got = s.seen[token]
		return len(got) > 0
	})
	if len(got) > 1 {
		t.Errorf("%s was settled %d times", token, len(got))
	}
	return got[0]
}

// count is how many tokens were settled; it fails the test for any that was
// settled twice.
func (s *settler) count(t testing.TB) int {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, all := range s.seen {
		if len(all) != 1 {
			t.Errorf("%s was settled %d times", token, len(all))
		}
	}
	return len(s.seen)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// newGate starts everything. change may alter Envoy's options before.
func newGate(t testing.TB, upstream http.HandlerFunc, change func(*envoytest.Options)) *gate {
	t.Helper()
	envoytest.Find(t)
	g := &gate{checks: &checker{}, settled: &settler{seen: map[string][]authz.Observation{}}}
	g.upstream = httptest.NewServer(upstream)
	t.Cleanup(g.upstream.Close)
	g.addr = g.serve(t, freeaddr.Take(t))
	o := envoytest.Options{
		Config: envoy.Options{Servers: []string{g.addr}},
		Spec: envoy.Spec{
			Clusters: []envoy.Cluster{{Name: "model", Endpoints: []envoy.Endpoint{endpoint(t, g.upstream.URL)}}},
			Routes:   []envoy.Route{{Prefix: "/v1"}},
		},
	}
	if change != nil {
		change(&o)
	}
	g.Envoy = envoytest.Start(t, o)
	return g
}

// serve starts Tollgate's side and returns its address.
func (g *gate) serve(t testing.TB, addr string) string {
	t.Helper()
	g.server = envoy.NewServer(g.checks, g.settled, envoy.ServerOptions{Routable: func(c string) bool { return c != "nowhere" }})
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := g.server
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Stop(ctx) // Envoy's connections may be open still
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func endpoint(t testing.TB, rawURL string) envoy.Endpoint {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return envoy.Endpoint{Host: u.Hostname(), Port: uint16(port)}
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// token is the admission of the request that this answers.
func (a answer) token() string { return a.header.Get("x-request-id") }

// do sends a request with a good key, and further headers as "name: value".
func (g *gate) do(t testing.TB, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return send(t, req)
}

func send(t testing.TB, req *http.Request) answer {
	t.Helper()
	a, err := try(req)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func try(req *http.Request) (answer, error) {
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

// start sends a request with a good key and hands its answer over later; of a
// request that gets none, an empty one.
func (g *gate) start(t testing.TB, headers ...string) <-chan answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/v1/x", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	done := make(chan answer, 1)
	go func() {
		a, err := try(req)
		if err != nil {
			t.Errorf("no answer: %v", err)
		}
		done <- a
	}()
	return done
}

// post sends a small JSON body.
func (g *gate) post(t testing.TB, path, body string, headers ...string) answer {
	t.Helper()
	return g.do(t, http.MethodPost, path, strings.NewReader(body), append(headers, "content-type: application/json")...)
}

// wantError checks that an answer is an error as every OpenAI SDK reads it.
func wantError(t testing.TB, a answer, status int, kind, code string) {
	t.Helper()
	var body struct {
		Error struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Param   *string `json:"param"`
			Code    *string `json:"code"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		t.Errorf("%d %q: %v", a.status, a.body, err)
		return
	}
	got := ""
	if body.Error.Code != nil {
		got = *body.Error.Code
	}
	if a.status != status || body.Error.Type != kind || got != code || body.Error.Message == "" || body.Error.Param != nil {
		t.Errorf("got %d %s; want %d, type %q, code %q", a.status, a.body, status, kind, code)
	}
	if ct := a.header.Values("content-type"); len(ct) != 1 || ct[0] != "application/json" {
		t.Errorf("content-type %q", ct)
	}
}
