package envoy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"tollgate/authz"
	"tollgate/authz/dialect"
	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/events/natstest/freeaddr"
)

// fleet is Tollgate's side of live configuration: a server with a Fleet, whose
// checks admit to the cluster that the request's x-want header names.
type fleet struct {
	*envoy.Fleet
	t      *testing.T
	config envoy.Options
	server *envoy.Server
	served chan error
}

// newFleet makes a fleet and serves it.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	envoytest.Find(t)
	f := &fleet{t: t, config: envoy.Options{Listen: freeaddr.Take(t)}}
	f.serve(freeaddr.Take(t))
	t.Cleanup(f.stop)
	return f
}

func (f *fleet) serve(addr string) {
	f.t.Helper()
	f.Fleet = envoy.NewFleet("")
	checks := &checker{hook: func(_ context.Context, r *dialect.Request, d *authz.Decision) {
		for _, h := range r.Headers {
			if h.Name == "x-want" {
				d.Cluster = h.Value
			}
		}
	}}
	f.server = envoy.NewServer(checks, &settler{seen: map[string][]authz.Observation{}}, envoy.ServerOptions{Fleet: f.Fleet})
	l, err := net.Listen("tcp", addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.config.Servers = []string{l.Addr().String()}
	server, served := f.server, make(chan error, 1)
	f.served = served
	go func() { served <- server.Serve(l) }()
}

// stop ends the server, as a restart of Tollgate does.
func (f *fleet) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = f.server.Stop(ctx)
	if err := <-f.served; err != nil {
		f.t.Errorf("Serve: %v", err)
	}
}

func (f *fleet) start() *envoytest.Envoy {
	f.t.Helper()
	return envoytest.Start(f.t, envoytest.Options{Config: f.config, Live: true})
}

// publish makes clusters the configuration, beside a route for /v1.
func (f *fleet) publish(clusters ...envoy.Cluster) {
	f.t.Helper()
	f.publishSpec(envoy.Spec{Clusters: clusters, Routes: []envoy.Route{{Prefix: "/v1"}}})
}

func (f *fleet) publishSpec(s envoy.Spec) {
	f.t.Helper()
	r, err := envoy.Build(f.config, s)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.Publish(r); err != nil {
		f.t.Fatal(err)
	}
}

// wait fails the test if the configuration isn't in force everywhere soon.
func (f *fleet) wait() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	if err := f.Wait(ctx); err != nil {
		f.t.Fatal(err)
	}
}

// ask sends one request to a cluster.
func (f *fleet) ask(cluster string, headers ...string) answer {
	f.t.Helper()
	return f.askPath("/v1/x", cluster, headers...)
}

func (f *fleet) askPath(path, cluster string, headers ...string) answer {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, "http://"+f.config.Listen+path, strings.NewReader("{}"))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer good")
	req.Header.Set("X-Want", cluster)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return send(f.t, req)
}

// want fails the test unless the next request to a cluster is answered so.
func (f *fleet) want(cluster string, status int, body string) {
	f.t.Helper()
	if a := f.ask(cluster); a.status != status || body != "" && a.body != body {
		f.t.Errorf("%s: %d %q, want %d %q", cluster, a.status, a.body, status, body)
	}
}

// says is an upstream that answers everything so.
func says(t *testing.T, body string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	t.Cleanup(s.Close)
	return s
}

func clusterAt(t *testing.T, name string, servers ...*httptest.Server) envoy.Cluster {
	t.Helper()
	c := envoy.Cluster{Name: name}
	for _, s := range servers {
		c.Endpoints = append(c.Endpoints, endpoint(t, s.URL))
		c.TLS = s.TLS != nil
	}
	return c
}

// updates is how often Envoy has taken up something new of each kind.
func updates(t *testing.T, e *envoytest.Envoy) string {
	t.Helper()
	return e.Stats(t, regexp.QuoteMeta("listener_manager.listener_modified")+"|"+regexp.QuoteMeta("listener_manager.lds.update_success")+
		"|"+regexp.QuoteMeta("rds.gateway.update_success")+"|listener_manager.listener_added")
}

// What is published reaches a running Envoy: at the next request after Wait, it
// is there, changed, or gone, and nothing else is touched.
func TestFleetChanges(t *testing.T) {
	f := newFleet(t)
	one, two := says(t, "one"), says(t, "two")
	f.publish(clusterAt(t, "a", one))
	e := f.start()
	f.wait()
	before := updates(t, e)
	f.want("a", 200, "one")
	for round := range 10 {
		name := fmt.Sprint("b", round)
		f.publish(clusterAt(t, "a", one), clusterAt(t, name, one))
		f.wait()
		f.want(name, 200, "one")
		f.publish(clusterAt(t, "a", one), clusterAt(t, name, two))
		f.wait()
		f.want(name, 200, "two")
		f.publish(clusterAt(t, "a", one))
		f.wait()
		f.want(name, 503, "")
		f.want("a", 200, "one")
	}
	if now := updates(t, e); now != before {
		t.Errorf("clusters changed, and so did\n%sfrom\n%s", now, before)
	}

	// Routes: no listener is drained for one.
	f.publishSpec(envoy.Spec{Clusters: []envoy.Cluster{clusterAt(t, "a", one)}, Routes: []envoy.Route{{Prefix: "/v1"}, {Prefix: "/v2"}}})
	f.wait()
	if a := f.askPath("/v2/x", "a"); a.status != 200 {
		t.Errorf("a new route: %d %s", a.status, a.body)
	}
	f.publish(clusterAt(t, "a", one))
	f.wait()
	if a := f.askPath("/v2/x", "a"); a.status != 404 {
		t.Errorf("a route that went: %d %s", a.status, a.body)
	}
	if got := e.Stats(t, "listener_manager.listener_(modified|added)"); strings.Contains(got, "modified: 1") || !strings.Contains(got, "added: 1\n") {
		t.Errorf("the listener was touched:\n%s", got)
	}
}

// A cluster is acknowledged when it can be used: after its name was resolved and
// its endpoints have said that they are well.
func TestFleetWaitsForWarming(t *testing.T) {
	f := newFleet(t)
	f.publish()
	f.start()
	f.wait()
	here := says(t, "here")
	for round := range 5 {
		c := clusterAt(t, fmt.Sprint("named", round), here)
		c.Endpoints[0].Host = "localhost"
		f.publish(c)
		f.wait()
		f.want(c.Name, 200, "here")
	}

	awake := make(chan struct{})
	waking := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			<-awake
		}
		_, _ = io.WriteString(w, "awake")
	}))
	t.Cleanup(waking.Close)
	c := clusterAt(t, "waking", waking)
	c.HealthCheck = &envoy.HealthCheck{Path: "/health", Timeout: envoy.MaxHealthTimeout} // after which Envoy waits no longer
	f.publish(c)
	ctx, cancel := context.WithTimeout(t.Context(), envoy.MaxHealthTimeout/25)
	defer cancel()
	if err := f.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a cluster that isn't warm: %v", err)
	}
	close(awake)
	f.wait()
	f.want("waking", 200, "awake")
}

// An Envoy's refusal is told in its words, the old configuration stays in force
// there, and it isn't asked again and again.
func TestFleetRefused(t *testing.T) {
	f := newFleet(t)
	one := says(t, "one")
	f.publish(clusterAt(t, "a", one))
	e := f.start()
	f.wait()
	bad := clusterAt(t, "bad", one)
	bad.TLS, bad.CA = true, []byte("-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n")
	f.publish(clusterAt(t, "a", one), bad)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := f.Wait(ctx)
	if err == nil || !strings.Contains(err.Error(), "refuses the configuration") || !strings.Contains(err.Error(), "bad") || ctx.Err() != nil {
		t.Fatalf("Wait: %v", err)
	}
	t.Logf("in Envoy's words: %v", err)
	f.want("a", 200, "one")
	f.want("bad", 503, "")
	rejected := e.Stats(t, "cluster_manager.cds.update_rejected")
	if !strings.Contains(rejected, "rejected: 1\n") {
		t.Errorf("it was sent again: %s", rejected)
	}
	if err := f.Wait(ctx); err == nil {
		t.Error("a second Wait forgot the refusal")
	}

	// What comes next is sent, and taken.
	f.publish(clusterAt(t, "a", one))
	f.wait()
	f.publish(clusterAt(t, "a", one), clusterAt(t, "b", one))
	f.wait()
	f.want("b", 200, "one")
}

// An Envoy that refuses the first that it ever gets is not sent that again and
// again either.
func TestFleetRefusedAtFirst(t *testing.T) {
	f := newFleet(t)
	one := says(t, "one")
	bad := clusterAt(t, "bad", one)
	bad.TLS, bad.CA = true, []byte("-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n")
	f.publish(bad)
	e := f.start()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := f.Wait(ctx); err == nil || !strings.Contains(err.Error(), "bad") || ctx.Err() != nil {
		t.Fatalf("Wait: %v", err)
	}
	f.publishSpec(envoy.Spec{Clusters: []envoy.Cluster{bad}, Routes: []envoy.Route{{Prefix: "/v1"}, {Prefix: "/v2"}}})
	eventually(t, "the new routes", func() bool { return f.askPath("/v2/x", "bad").status == 503 })
	if rejected := e.Stats(t, "cluster_manager.cds.update_rejected"); !strings.Contains(rejected, "rejected: 1\n") {
		t.Errorf("it was sent again: %s", rejected)
	}
	f.publish(clusterAt(t, "a", one))
	f.wait()
	f.want("a", 200, "one")
}

// An Envoy that connects later gets everything. One whose Tollgate goes and comes
// back goes on with what it has, and takes what is new.
func TestFleetComesAndGoes(t *testing.T) {
	f := newFleet(t)
	one := says(t, "one")
	f.publish()
	f.publish(clusterAt(t, "a", one))
	if f.Connected() != 0 {
		t.Fatal("somebody is connected")
	}
	e := f.start()
	f.wait()
	if f.Connected() != 1 {
		t.Errorf("%d Envoys are connected", f.Connected())
	}
	f.want("a", 200, "one")

	addr := f.config.Servers[0]
	const touched = "listener_manager.listener_(added|modified)|cluster_manager.cluster_(added|modified|removed)|rds.gateway.config_reload$"
	before := e.Stats(t, touched)
	f.stop()
	if a := f.ask("a"); a.status != 503 { // nobody to check it, and nobody passes
		t.Errorf("without a Tollgate: %d", a.status)
	}
	f.serve(addr)
	f.publish(clusterAt(t, "a", one))
	start := time.Now()
	eventually(t, "Envoy's return", func() bool { return f.Connected() == 1 })
	t.Logf("Envoy came back after %v", time.Since(start))
	f.wait()
	f.want("a", 200, "one")
	if after := e.Stats(t, touched); after != before || !strings.Contains(before, "listener_added: 1") {
		t.Errorf("the same configuration, and Envoy changed something:\n%s%s", before, after)
	}
	f.publish(clusterAt(t, "a", one), clusterAt(t, "b", one))
	f.wait()
	f.want("b", 200, "one")

	e.Stop(t.Context())
	eventually(t, "its going", func() bool { return f.Connected() == 0 })
	f.publish()
	f.wait() // for nobody
}

// serveFleet serves a fleet alone until the test ends, for whoever speaks to it
// without an Envoy, and returns its address.
func serveFleet(t *testing.T, f *envoy.Fleet) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := envoy.NewServer(nil, nil, envoy.ServerOptions{Fleet: f})
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	return l.Addr().String()
}

// An Envoy that can't bind its listener drops the routes' subscription, and answers
// what it is sent of them by neither yes nor no: it isn't sent the same for ever, and
// gets them when it has a use for them again.
func TestFleetUnwantedRoutes(t *testing.T) {
	f := envoy.NewFleet("")
	t.Cleanup(f.Close)
	addr := serveFleet(t, f)
	publish := func(prefix string) {
		t.Helper()
		r, err := envoy.Build(envoy.Options{Listen: "127.0.0.1:1", Servers: []string{addr}}, envoy.Spec{Routes: []envoy.Route{{Prefix: prefix}}})
		if err == nil {
			err = f.Publish(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	publish("/v1")
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]*discoveryv3.DiscoveryResponse{}
	say := func(url string, names ...string) {
		t.Helper()
		r := &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: "n"}, TypeUrl: url, ResourceNames: names, ResponseNonce: last[url].GetNonce()}
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	gets := func(url string) *discoveryv3.DiscoveryResponse {
		t.Helper()
		r, err := stream.Recv()
		if err != nil || r.GetTypeUrl() != url {
			t.Fatalf("got %s %s (%v), want %s", r.GetTypeUrl(), r.GetVersionInfo(), err, url)
		}
		last[url] = r
		return r
	}
	say(resourcev3.RouteType, "gateway")
	first := gets(resourcev3.RouteType)
	say(resourcev3.RouteType) // no use for them
	say(resourcev3.ListenerType)
	gets(resourcev3.ListenerType) // and nothing before it
	publish("/v2")
	second := gets(resourcev3.RouteType)
	if second.GetVersionInfo() == first.GetVersionInfo() {
		t.Fatal("the same routes again")
	}
	say(resourcev3.RouteType)
	say(resourcev3.ClusterType)
	gets(resourcev3.ClusterType)
	say(resourcev3.RouteType, "gateway")
	if again := gets(resourcev3.RouteType); again.GetVersionInfo() != second.GetVersionInfo() || len(again.GetResources()) != 1 {
		t.Errorf("subscribed again: %s, %d resources", again.GetVersionInfo(), len(again.GetResources()))
	}
}

// With the configuration come credentials of upstreams, and whoever connects is
// waited for: a stranger gets nothing, and nobody waits for one.
func TestFleetTellsStrangersNothing(t *testing.T) {
	f := envoy.NewFleet("the-token")
	t.Cleanup(f.Close)
	addr := serveFleet(t, f)
	resources, err := envoy.Build(envoy.Options{Listen: "127.0.0.1:1", Servers: []string{addr}}, envoy.Spec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Publish(resources); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ask := func(token string) (*discoveryv3.DiscoveryResponse, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(
			metadata.AppendToOutgoingContext(ctx, "x-tollgate-fleet", token))
		if err != nil {
			return nil, err
		}
		_ = stream.Send(&discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: "n"}, TypeUrl: resourcev3.ListenerType})
		return stream.Recv()
	}
	for _, token := range []string{"", "another"} {
		if _, err := ask(token); status.Code(err) != codes.Unauthenticated {
			t.Errorf("with the token %q: %v", token, err)
		}
	}
	if err := f.Wait(t.Context()); err != nil {
		t.Errorf("a stranger is waited for: %v", err)
	}
	if r, err := ask("the-token"); err != nil || len(r.GetResources()) != 1 {
		t.Errorf("with the token: %v, %v", r, err)
	}
}
