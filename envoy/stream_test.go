package envoy_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"tollgate/authz"
	"tollgate/authz/dialect"
	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/events/natstest/freeaddr"
)

// A client that hangs up in the middle leaves what passed so far, and one that
// hangs up before the answer leaves a settlement all the same.
func TestClientHangsUp(t *testing.T) {
	gone := make(chan struct{}, 1)
	g := newGate(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the context would not end
		if r.Header.Get("x-case") == "stream" {
			w.Header().Set("content-type", "text/event-stream")
			_, _ = io.WriteString(w, sse(`{"a":1}`, `{"a":2}`, `{"a":3}`))
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		gone <- struct{}{}
	}, nil)
	for _, kind := range []string{"stream", "silent"} {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.URL+"/v1/x", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer good")
		req.Header.Set("X-Case", kind)
		var token string
		if kind == "stream" {
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(resp.Body)
			for range 6 {
				if _, err := lines.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			token = resp.Header.Get("x-request-id")
			cancel()
			_ = resp.Body.Close()
		} else {
			done := make(chan error, 1)
			go func() {
				resp, err := http.DefaultClient.Do(req)
				if err == nil {
					_ = resp.Body.Close()
				}
				done <- err
			}()
			eventually(t, "the second admission", func() bool { return g.checks.n.Load() == 2 })
			token = "adm-2"
			// The request is at the upstream when its connection is counted.
			eventually(t, "the request at the upstream", func() bool {
				return strings.Contains(g.Stats(t, `^cluster\.model\.upstream_rq_active$`), ": 1")
			})
			cancel()
			if err := <-done; err == nil {
				t.Fatal("the request was answered")
			}
		}
		o := g.settled.of(t, token)
		if o.Flags != "DC" || o.Complete || o.Reported || o.Upstream == "" {
			t.Errorf("%s: %+v", kind, o)
		}
		if kind == "stream" && (o.Events != 3 || o.Bytes == 0 || o.Status != 200) {
			t.Errorf("what had passed by is not told: %+v", o)
		}
		<-gone // the upstream was told to stop
	}
}

func TestUpstreamFails(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("x-case") {
		case "500":
			w.Header().Set("content-type", "application/json")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"error":{"message":"out of memory"}}`)
		case "abort":
			w.Header().Set("content-type", "text/event-stream")
			_, _ = io.WriteString(w, sse(`{"a":1}`, `{"a":2}`))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}, func(o *envoytest.Options) {
		closed := freeaddr.Take(t)
		o.Spec.Clusters = append(o.Spec.Clusters, envoy.Cluster{Name: "down", Endpoints: []envoy.Endpoint{endpoint(t, "http://"+closed)}})
	})

	a := g.post(t, "/v1/x", "{}", "x-case: 500")
	if a.status != 500 || a.body != `{"error":{"message":"out of memory"}}` {
		t.Errorf("the upstream's own error was changed: %d %s", a.status, a.body)
	}
	if o := g.settled.of(t, a.token()); o.Status != 500 || o.Flags != "" || !o.Complete || o.Reported {
		t.Errorf("500: %+v", o)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/v1/x", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	req.Header.Set("X-Case", "abort")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a broken stream looked whole to the client")
	}
	_ = resp.Body.Close()
	if o := g.settled.of(t, resp.Header.Get("x-request-id")); o.Flags != "UPE" || o.Complete || o.Events != 2 {
		t.Errorf("abort: %+v", o)
	}

	g.checks.hook = func(_ context.Context, r *dialect.Request, d *authz.Decision) { d.Cluster = headerOf(r, "x-cluster") }
	a = g.post(t, "/v1/x", "{}", "x-cluster: down")
	wantError(t, a, 503, "server_error", "")
	if a.header.Get("retry-after") != "1" {
		t.Error("down: no retry-after")
	}
	if o := g.settled.of(t, a.token()); !strings.Contains(o.Flags, "UF") || o.Reported {
		t.Errorf("down: %+v", o)
	}
	a = g.post(t, "/v1/x", "{}", "x-cluster: nowhere")
	wantError(t, a, 503, "server_error", "")
	if o := g.settled.of(t, "adm-4"); o.Flags != "NC" || g.server.Stats().UnroutableChecks.Load() != 1 {
		t.Errorf("nowhere: %+v", o)
	}
	if n, made := g.settled.count(t), int(g.checks.n.Load()); n != made {
		t.Errorf("%d of %d admissions were settled", n, made)
	}
}

// While Tollgate is away nothing passes, and what was running is settled when it
// is back.
func TestTollgateAway(t *testing.T) {
	release := make(chan struct{})
	g := newGate(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("x-case") == "wait" {
			<-release
		}
	}, nil)
	// Running when Tollgate goes away.
	const running = 8
	var done []<-chan answer
	for range running {
		done = append(done, g.start(t, "x-case: wait"))
	}
	eventually(t, "all admitted", func() bool { return g.checks.n.Load() == running })
	eventually(t, "all at the upstream", func() bool {
		return strings.Contains(g.Stats(t, `^cluster\.model\.upstream_rq_active$`), ": 8")
	})
	addr := g.addr
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = g.server.Stop(ctx) // as abruptly as it can

	wantError(t, g.post(t, "/v1/x", "{}"), 503, "server_error", "")
	close(release)
	for _, d := range done {
		if a := <-d; a.status != 200 {
			t.Errorf("a running request ended with %d", a.status)
		}
	}
	if n := g.settled.count(t); n != 0 {
		t.Fatalf("%d were settled with nobody there", n)
	}
	g.settled.fail.Store(true) // back, but its disk isn't
	g.serve(t, addr)
	eventually(t, "a settlement sent away", func() bool { return g.server.Stats().SettlementsDeferred.Load() > 0 })
	g.settled.fail.Store(false)
	eventually(t, "every settlement", func() bool { return g.settled.count(t) == running })
	if a := g.post(t, "/v1/x", "{}"); a.status != 200 {
		t.Errorf("after the return: %d %s", a.status, a.body)
	}
}

func headerOf(r *dialect.Request, name string) string {
	for _, h := range r.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}
