package envoy

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// A managed path comes before every prefix, has no Check and no Lua, keeps the
// request as it is, and leads to the replicas that are asked for Checks.
func TestManagedRoutes(t *testing.T) {
	o, s := good()
	o.Servers = []string{"10.0.0.1:8082", "10.0.0.2:8082"}
	s.Routes = append(s.Routes, Route{Prefix: "/api/v1/api-keys/and/more"})
	s.Managed = []Managed{{Path: "/api/v1/auth/me"}, {Path: "/api/v1/api.keys/{id}"}}
	r, err := Build(o, s)
	if err != nil {
		t.Fatal(err)
	}
	routes := r.Routes.GetVirtualHosts()[0].GetRoutes()
	if got := routes[0].GetMatch().GetPath(); got != "/api/v1/auth/me" {
		t.Errorf("the first is for %q", got)
	}
	if got := routes[1].GetMatch().GetSafeRegex().GetRegex(); got != `/api/v1/api\.keys/[^/]+` {
		t.Errorf("the second is for %q", got)
	}
	for i, route := range routes {
		if managed := route.GetRoute().GetCluster() == managementCluster; managed != (i < 2) {
			t.Errorf("%s leads to %s", route.GetName(), route.GetRoute().GetCluster())
		}
	}
	for _, f := range []string{precheckFilter, checkFilter, tapFilter, editFilter} {
		if routes[0].GetTypedPerFilterConfig()[f] == nil {
			t.Errorf("%s is not switched off", f)
		}
	}
	// Where it leads is what Envoy starts with, for a replica that sends it the rest
	// later may not know of the others.
	static, err := StaticBootstrap(o, r)
	if err != nil {
		t.Fatal(err)
	}
	streamed, err := Bootstrap(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{static, streamed} {
		for want, n := range map[string]int{"name: tollgate_management": 2, "address: 10.0.0.2": 3, "grpc_health_check": 2, "path: /healthz": 1} {
			if got := bytes.Count(text, []byte(want)); got != n {
				t.Errorf("%q is there %d times, want %d", want, got, n)
			}
		}
	}
	for _, c := range append(r.Clusters, r.live.clusters.clusters...) {
		if strings.HasPrefix(c.GetName(), serverCluster) {
			t.Errorf("%s would be changed with the catalog", c.GetName())
		}
	}
}

// One listener serves gRPC and what is managed, also while somebody connects who
// says nothing, and Stop ends both.
func TestServerSharesItsListener(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := NewServer(nil, nil, ServerOptions{Managed: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-leave
		}
		_, _ = io.WriteString(w, r.Method+" "+r.RemoteAddr+r.Header.Get(remoteHeader))
	})})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, served := l.Addr().String(), make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	for _, first := range []string{"", "P", "PR"} {
		var d net.Dialer
		silent, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		if _, err := io.WriteString(silent, first); err != nil {
			t.Fatal(err)
		}
	}
	client := &http.Client{Transport: new(http.Transport)}
	ask := func(method, path, from string) (status int, body string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, nil)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		req.Header.Set(remoteHeader, from)
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	// PUT, PATCH and POST begin as the preface of HTTP/2 does.
	for _, method := range []string{"GET", "PUT", "PATCH", "POST", "DELETE", "PR"} {
		if _, body := ask(method, "/", "192.0.2.7:4711"); body != method+" 192.0.2.7:4711" {
			t.Errorf("%s: %s", method, body)
		}
	}
	if _, body := ask("GET", "/", "somebody"); !strings.HasPrefix(body, "GET 127.0.0.1:") || strings.Contains(body, "somebody") {
		t.Errorf("of somebody: %s", body)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := healthv1.NewHealthClient(conn).Check(ctx, new(healthv1.HealthCheckRequest)); err != nil {
		t.Error(err)
	}
	for _, ready := range []bool{false, true} {
		s.SetReady(ready)
		if status, _ := ask("GET", managedHealth, ""); (status == http.StatusOK) != ready {
			t.Errorf("ready %v: %d", ready, status)
		}
	}
	slow := make(chan string, 1)
	go func() {
		_, body := ask("GET", "/slow", "192.0.2.7:1")
		slow <- body
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(ctx) }()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	select {
	case err := <-stopped:
		t.Errorf("Stop didn't wait for what runs: %v", err)
	default:
	}
	close(leave)
	if body := <-slow; body != "GET 192.0.2.7:1" {
		t.Errorf("what ran when Stop came: %q", body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Stop: %v", err)
	}
}
