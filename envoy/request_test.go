package envoy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/dialect"
	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

// upstreamLog keeps what the upstream was asked.
type upstreamLog struct {
	mu   sync.Mutex
	req  *http.Request
	body []byte
}

func (u *upstreamLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	u.req, u.body = r, body
	u.mu.Unlock()
	w.Header().Set("x-request-id", "the upstream's")
	for _, name := range dialect.AccountHeaders() {
		w.Header().Set(name, "the operator's")
	}
	_, _ = fmt.Fprintf(w, "%d", len(body))
}

func (u *upstreamLog) last() (*http.Request, []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.req, u.body
}

func TestHeaders(t *testing.T) {
	var up upstreamLog
	g := newGate(t, up.ServeHTTP, nil)
	own := dialect.Header{Name: "x-ratelimit-limit-requests", Value: "the caller's"}
	g.checks.hook = func(_ context.Context, _ *dialect.Request, d *authz.Decision) {
		d.SetHeaders = append(d.SetHeaders, dialect.Header{Name: "idempotency-key", Value: "set"}, dialect.Header{Name: "idempotency-key", Value: "set last"})
		d.ResponseHeaders = append(d.ResponseHeaders, own)
	}
	a := g.post(t, "/v1/chat", "{}", "Idempotency-Key: one", "Idempotency-Key: two",
		"X-Tollgate-Workspace: mine", "x-tollgate-cluster: tollgate", "x-tollgate-phase: headers", "X_Tollgate_Workspace: mine",
		"x-envoy-auth-failure-mode-allowed: true", "x-envoy-auth-partial-body: true", "x-envoy-max-retries: 9", "x-envoy-upstream-rq-timeout-ms: 1",
		"x-original-url: /admin", "X-Rewrite-Url: /admin", "x-http-method-override: DELETE", "x-http-method: PUT", "x-method-override: PATCH",
		"x-request-id: the client's", "accept-encoding: gzip", "x-tag: t", "cookie: c=1", "x-forwarded-for: 10.0.0.1")
	r, _ := up.last()
	if a.status != 200 || r == nil {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for name, want := range map[string]string{
		"X-Tollgate-Workspace": "demo", "X-Tag": "t", "Cookie": "c=1", "X-Client-Request-Id": "the client's",
		"X-Original-Url": "", "X-Rewrite-Url": "", "X-Http-Method-Override": "", "X-Http-Method": "", "X-Method-Override": "",
		"Authorization": "", "X-Tollgate-Cluster": "", "X-Tollgate-Phase": "", "X_tollgate_workspace": "", "Accept-Encoding": "",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("upstream's %s is %q, want %q", name, got, want)
		}
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Envoy-") && name != "X-Envoy-External-Address" {
			t.Errorf("upstream got %s: %q", name, r.Header[name])
		}
	}
	if r.Host != strings.TrimPrefix(g.upstream.URL, "http://") || r.Header.Get("X-Forwarded-Host") != g.Addr {
		t.Errorf("host %q, forwarded for %q", r.Host, r.Header.Get("X-Forwarded-Host"))
	}
	if ids := a.header.Values("x-request-id"); len(ids) != 1 || ids[0] != "adm-1" {
		t.Errorf("the answer's x-request-id: %q", ids)
	}
	for _, name := range dialect.AccountHeaders() {
		if got := a.header.Values(name); name == own.Name && (len(got) != 1 || got[0] != own.Value) || name != own.Name && got != nil {
			t.Errorf("the answer's %s: %q", name, got)
		}
	}
	if words := r.Header.Values("idempotency-key"); len(words) != 1 || words[0] != "set last" {
		t.Errorf("upstream's idempotency-key: %q", words)
	}
	checked := g.checks.last()
	for _, h := range checked.Headers {
		if strings.HasPrefix(h.Name, "x-tollgate-") || h.Name == "cookie" || strings.HasPrefix(h.Name, ":") {
			t.Errorf("the check was told %s: %q", h.Name, h.Value)
		}
	}
	// Requests are told apart by it: a client that could choose it could pass one off as another.
	if id := headerOf(&checked, "x-request-id"); len(id) != len("8c9f1a52-3f6f-4f0e-9a39-0d5b0c3d2e11") {
		t.Errorf("the check was told the x-request-id %q", id)
	}
	if checked.HeadersOnly || string(checked.Body) != "{}" {
		t.Errorf("checked %+v", checked)
	}
	// Who connects over loopback is not a friend either.
	g.post(t, "/v1/chat", "{}")
	if r, _ := up.last(); r.Header.Get("X-Envoy-Internal") != "" {
		t.Error("upstream was told that the request is internal")
	}
}

// Both of two credentials reach the Check, and a refusal by it reaches
// the client as it is.
func TestRefusal(t *testing.T) {
	g := newGate(t, func(http.ResponseWriter, *http.Request) { t.Error("it reached the upstream") }, nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/v1/chat", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Authorization"] = []string{"Bearer bad", "Bearer worse"}
	req.Header["X-Api-Key"] = []string{"a", "b"}
	a := send(t, req)
	wantError(t, a, 401, "invalid_request_error", "invalid_api_key")
	if a.header.Get("www-authenticate") != "Bearer" || !strings.Contains(a.body, "who are you?") || a.header.Get("retry-after") != "" {
		t.Errorf("the refusal was changed: %v %s", a.header, a.body)
	}
	var got []string
	for _, h := range g.checks.last().Headers {
		if h.Name == "authorization" || h.Name == "x-api-key" {
			got = append(got, h.Value)
		}
	}
	// Envoy joins authorization lines as it reads them, and no others.
	if strings.Join(got, "|") != "Bearer bad,Bearer worse|a|b" {
		t.Errorf("the check saw %q", got)
	}

	// So does a refusal by the look at the headers.
	req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/v1/chat", strings.NewReader(strings.Repeat(" ", envoy.SmallBody+1)))
	if err != nil {
		t.Fatal(err)
	}
	a = send(t, req)
	wantError(t, a, 401, "invalid_request_error", "invalid_api_key")
	if !strings.Contains(a.body, "who are you?") || g.checks.previews.Load() != 1 {
		t.Errorf("the refusal was changed: %s", a.body)
	}

	// What Tollgate answers by itself, of any size and status.
	long := []byte(`{"data":"` + strings.Repeat("m", 100_000) + `"}`)
	g.checks.hook = func(_ context.Context, r *dialect.Request, d *authz.Decision) {
		*d = authz.Decision{Response: &dialect.Response{Status: 200, Headers: []dialect.Header{{Name: "content-type", Value: "application/json"}}, Body: long}}
		if headerOf(r, "content-type") == "application/grpc" {
			d.Response = &dialect.Response{Status: 429, Headers: []dialect.Header{{Name: "retry-after", Value: "3"}}}
		}
	}
	if a := g.do(t, http.MethodGet, "/v1/models", nil); a.status != 200 || a.body != string(long) || a.header.Get("content-type") != "application/json" {
		t.Errorf("own answer: %d, %d bytes, %v", a.status, len(a.body), a.header)
	}
	if a := g.do(t, http.MethodPost, "/v1/chat", strings.NewReader(""), "content-type: application/grpc"); a.header.Get("grpc-status") != "8" {
		t.Errorf("a gRPC client is told %v", a.header)
	}
	if n := g.settled.count(t); n != 0 {
		t.Errorf("%d refusals were settled", n)
	}
}

// One spelling of a path is checked and routed.
func TestPaths(t *testing.T) {
	var up upstreamLog
	g := newGate(t, up.ServeHTTP, func(o *envoytest.Options) {
		o.Spec.Routes = append(o.Spec.Routes, envoy.Route{Prefix: "/inference/v1", Rewrite: "/v1"}, envoy.Route{Prefix: "/bare", Rewrite: "/"})
		o.Spec.Clusters[0].Path = "/base"
	})
	for sent, want := range map[string]struct{ checked, upstream string }{
		"/v1/chat?q=/../x":     {"/v1/chat?q=/../x", "/base/v1/chat?q=/../x"},
		"/v1//chat":            {"/v1/chat", "/base/v1/chat"},
		"/x/../v1/./chat":      {"/v1/chat", "/base/v1/chat"},
		"/v1/%63hat":           {"/v1/chat", "/base/v1/chat"},
		"/inference/v1/chat":   {"/inference/v1/chat", "/base/v1/chat"},
		"/inference/v1/a/b?c=": {"/inference/v1/a/b?c=", "/base/v1/a/b?c="},
		"/bare/x":              {"/bare/x", "/base/x"},
	} {
		a := rawRequest(t, g.Addr, sent)
		r, _ := up.last()
		if a.status != 200 || r == nil || g.checks.last().Path != want.checked || r.URL.RequestURI() != want.upstream {
			t.Errorf("%s: checked %q, upstream %v: %d %s", sent, g.checks.last().Path, r.URL, a.status, a.body)
		}
	}
	if a := rawRequest(t, g.Addr, "/v1%2fchat"); a.status != 307 || a.header.Get("location") != "/v1/chat" {
		t.Errorf("an escaped slash: %d %v", a.status, a.header)
	}
	before := g.checks.n.Load()
	for _, sent := range []string{"/", "/v1x/chat", "/v2/chat", "/v1/../admin"} {
		wantError(t, rawRequest(t, g.Addr, sent), 404, "invalid_request_error", "")
	}
	if g.checks.n.Load() != before {
		t.Error("a path that isn't ours was checked")
	}
}

// rawRequest sends a GET with the path as it is.
func rawRequest(t *testing.T, addr, path string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nConnection: close\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// Large bodies are in the Check whole and reach the upstream unchanged, however
// they are sent.
func TestLargeBodies(t *testing.T) {
	var up upstreamLog
	g := newGate(t, up.ServeHTTP, nil)
	prompt := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("x", 3<<20) + `"}],"model":"m"}`)
	var form bytes.Buffer
	file := multipart.NewWriter(&form)
	part, err := file.CreateFormFile("file", "speech.wav")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write(make([]byte, 20<<20))
	_ = file.WriteField("model", "m")
	_ = file.Close()

	http2 := new(http.Protocols)
	http2.SetUnencryptedHTTP2(true)
	for _, c := range []struct {
		name, kind string
		body       []byte
		chunked    bool
		client     *http.Client
	}{
		{"3 MiB", "application/json", prompt, false, http.DefaultClient},
		{"3 MiB chunked", "application/json", prompt, true, http.DefaultClient},
		{"3 MiB over HTTP/2", "application/json", prompt, false, &http.Client{Transport: &http.Transport{Protocols: http2}}},
		{"20 MiB multipart", file.FormDataContentType(), form.Bytes(), false, http.DefaultClient},
		{"small chunked", "application/json", []byte(`{"model":"m"}`), true, http.DefaultClient},
	} {
		t.Run(c.name, func(t *testing.T) {
			var body io.Reader = bytes.NewReader(c.body)
			if c.chunked {
				body = io.MultiReader(body)
			}
			before := g.checks.previews.Load()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/v1/x", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer good")
			req.Header.Set("Content-Type", c.kind)
			resp, err := c.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			_, got := up.last()
			if resp.StatusCode != http.StatusOK || !bytes.Equal(got, c.body) || !bytes.Equal(g.checks.last().Body, c.body) {
				t.Errorf("%d; of %d bytes %d reached the upstream, %d the check", resp.StatusCode, len(c.body), len(got), len(g.checks.last().Body))
			}
			if g.checks.previews.Load() != before+1 {
				t.Error("its headers were not looked at first")
			}
			if o := g.settled.of(t, resp.Header.Get("x-request-id")); o.Status != 200 || !o.Complete {
				t.Errorf("%+v", o)
			}
		})
	}

	a := g.do(t, http.MethodPost, "/v1/x", bytes.NewReader(make([]byte, envoy.DefaultMaxBody+1)))
	wantError(t, a, 413, "invalid_request_error", "request_too_large")
}

// The edits of a decision change these bytes and no others.
func TestBodyEdits(t *testing.T) {
	var up upstreamLog
	g := newGate(t, up.ServeHTTP, nil)
	body := `{"model":"a","stream":true}`
	edits := []authz.Edit{{Span: dialect.Span{Start: 0, End: 0}, Text: "\n"}, {Span: dialect.Span{Start: 9, End: 12}, Text: `"größer"`}, {Span: dialect.Span{Start: 26, End: 26}, Text: `,"stream_options":{"include_usage":true}`}}
	want := "\n" + `{"model":"größer","stream":true,"stream_options":{"include_usage":true}}`
	pad := strings.Repeat(" ", 100_000)
	g.checks.hook = func(_ context.Context, _ *dialect.Request, d *authz.Decision) { d.Edits = edits }
	for _, pad := range []string{"", pad} {
		for _, chunked := range []bool{false, true} {
			var r io.Reader = strings.NewReader(body + pad)
			if chunked {
				r = io.MultiReader(r)
			}
			a := g.do(t, http.MethodPost, "/v1/x", r, "content-type: application/json")
			req, got := up.last()
			if a.status != 200 || string(got) != want+pad {
				t.Errorf("%d, chunked %v: upstream read %.100q", a.status, chunked, got)
			}
			if !chunked && req.ContentLength != int64(len(want+pad)) {
				t.Errorf("content-length %d", req.ContentLength)
			}
		}
	}
}

// A Check that takes too long gives 503, soon for a small request, later for a
// large one; what it admitted in the end is taken back.
func TestSlowCheck(t *testing.T) {
	var up upstreamLog
	g := newGate(t, up.ServeHTTP, func(o *envoytest.Options) {
		o.Config.CheckTimeout, o.Config.LargeCheckTimeout = 200*time.Millisecond, 10*time.Second
	})
	g.checks.hook = func(ctx context.Context, r *dialect.Request, _ *authz.Decision) {
		if r.HeadersOnly {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	wantError(t, g.post(t, "/v1/x", "{}"), 503, "server_error", "")
	if o := g.settled.of(t, "adm-1"); o.Flags != "NC" || g.server.Stats().AbandonedChecks.Load() != 1 {
		t.Errorf("%+v", o)
	}
	if a := g.post(t, "/v1/x", strings.Repeat(" ", envoy.SmallBody+1)); a.status != 200 {
		t.Errorf("a large one: %d %s", a.status, a.body)
	}
}

// A Checker that panics costs its request a 503, and nothing else.
func TestPanickingCheck(t *testing.T) {
	g := newGate(t, func(http.ResponseWriter, *http.Request) {}, nil)
	g.checks.hook = func(_ context.Context, r *dialect.Request, _ *authz.Decision) {
		if r.Path == "/v1/panic" {
			panic("Bearer good")
		}
	}
	wantError(t, g.post(t, "/v1/panic", "{}"), 503, "server_error", "")
	if a := g.post(t, "/v1/x", "{}"); a.status != 200 || g.server.Stats().CheckPanics.Load() != 1 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// An https upstream is believed only with a certificate for its name.
func TestTLSUpstream(t *testing.T) {
	var up upstreamLog
	secure := httptest.NewTLSServer(&up)
	defer secure.Close()
	other := httptest.NewUnstartedServer(&up)
	other.TLS = &tls.Config{Certificates: []tls.Certificate{secure.TLS.Certificates[0]}}
	other.StartTLS()
	defer other.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParseCertificate(secure.Certificate().Raw); err != nil {
		t.Fatal(err)
	}
	g := newGate(t, up.ServeHTTP, func(o *envoytest.Options) {
		o.Config.CAFile = ca
		wrongName := endpoint(t, other.URL)
		wrongName.Host = "localhost" // the certificate is for 127.0.0.1 and example.com
		o.Spec.Clusters = append(o.Spec.Clusters,
			envoy.Cluster{Name: "tls", TLS: true, Endpoints: []envoy.Endpoint{endpoint(t, secure.URL)}},
			envoy.Cluster{Name: "wrong name", TLS: true, Endpoints: []envoy.Endpoint{wrongName}})
	})
	g.checks.hook = func(_ context.Context, r *dialect.Request, d *authz.Decision) { d.Cluster = headerOf(r, "x-cluster") }
	if a := g.post(t, "/v1/x", "{}", "x-cluster: tls"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	a := g.post(t, "/v1/x", "{}", "x-cluster: wrong name")
	wantError(t, a, 503, "server_error", "")
	if o := g.settled.of(t, a.token()); !strings.Contains(o.Flags, "UF") {
		t.Errorf("%+v", o)
	}
}

// Under load with clients that hang up at any moment, each request that went on
// to the upstream is settled, and none twice. (Of those that hung up while Envoy
// waited for the Check, some admissions stay open until the sweep: nobody can
// tell whether Envoy still took the answer.)
func TestSettledExactlyOnce(t *testing.T) {
	var forwarded sync.Map // tokens
	g := newGate(t, func(w http.ResponseWriter, r *http.Request) {
		forwarded.Store(r.Header.Get("x-tollgate-workspace"), true)
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("content-type", "text/event-stream")
		for range 5 {
			_, _ = io.WriteString(w, sse(`{"a":1}`))
			_ = http.NewResponseController(w).Flush()
		}
	}, nil)
	g.checks.hook = func(_ context.Context, _ *dialect.Request, d *authz.Decision) { d.SetHeaders[0].Value = d.Token }
	const clients, each = 16, 40
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20_000))*time.Microsecond)
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL+"/v1/x", strings.NewReader("{}"))
				if err != nil {
					t.Error(err)
				}
				req.Header.Set("Authorization", "Bearer good")
				if resp, err := http.DefaultClient.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	eventually(t, "no request under way", func() bool {
		return strings.HasSuffix(strings.TrimSpace(g.Stats(t, `^http\.gateway\.downstream_rq_active$`)), ": 0")
	})
	eventually(t, "a settlement of each request that was forwarded", func() bool {
		g.settled.count(t)
		g.settled.mu.Lock()
		defer g.settled.mu.Unlock()
		missing := 0
		forwarded.Range(func(token, _ any) bool {
			if len(g.settled.seen[token.(string)]) == 0 {
				missing++
			}
			return true
		})
		return missing == 0
	})
	t.Logf("%d requests, %d admissions, %d settled", clients*each, g.checks.n.Load(), g.settled.count(t))
}
