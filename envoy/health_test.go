package envoy_test

import (
	"context"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

// asked is how many of n requests each replica was asked about; it fails the test
// for any that didn't pass.
func (d *deployment) asked(n int) []int64 {
	d.t.Helper()
	counts := make([]int64, len(d.replicas))
	for i, r := range d.replicas {
		counts[i] = -r.checks.Load()
	}
	done := make(chan struct{})
	close(done)
	for _, o := range d.load(8, int64(n), done) {
		if !o.good() {
			d.t.Errorf("%d, %v", o.status, o.err)
		}
	}
	for i, r := range d.replicas {
		counts[i] += r.checks.Load()
	}
	return counts
}

// Replicas take turns. One that says NOT_SERVING, or accepts connections and says
// nothing, gets no request; where all say so, all are asked.
func TestReplicasHealth(t *testing.T) {
	d := newDeployment(t, 2, 0)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	d.config.Servers = append(d.config.Servers, mute.Addr().String())
	envoytest.Start(t, envoytest.Options{Config: d.config, Live: true})
	eventually(t, "the first answer", func() bool { return d.once(http.DefaultClient, false).good() })
	const n = 400
	if c := d.asked(n); c[0] < n/4 || c[1] < n/4 {
		t.Errorf("both well: %v", c)
	}
	d.replicas[0].server.SetReady(false)
	eventually(t, "A is left out", func() bool { return d.asked(20)[0] == 0 })
	if c := d.asked(n); c[0] != 0 {
		t.Errorf("A says NOT_SERVING: %v", c)
	}
	mute.Close() // a check that it were asked about would not be repeated
	d.replicas[1].server.SetReady(false)
	eventually(t, "both are asked again", func() bool { return !slices.Contains(d.asked(20), 0) })
	d.replicas[0].server.SetReady(true)
	eventually(t, "B is left out", func() bool { return d.asked(20)[1] == 0 })
	d.replicas[1].server.SetReady(true)
	eventually(t, "both are asked", func() bool { c := d.asked(40); return c[0] > 10 && c[1] > 10 })
}

// While a replica waits for its grace to pass it serves whoever comes, and Envoy
// has gone to the other before it is over.
func TestGrace(t *testing.T) {
	d := newDeployment(t, 2, envoy.DrainGrace)
	envoytest.Start(t, envoytest.Options{Config: d.config, Live: true})
	eventually(t, "the first answer", func() bool { return d.once(http.DefaultClient, false).good() })
	a := d.replicas[0]
	start := time.Now()
	stopped := make(chan struct{})
	go func() { defer close(stopped); a.stop() }()
	for d.asked(20)[0] > 0 {
	}
	t.Logf("Envoy was gone after %v", time.Since(start))
	select {
	case <-stopped:
		t.Error("it stopped while Envoy came")
	default:
	}
	if a.deciding.Load() != 0 || time.Since(start) >= envoy.DrainGrace {
		t.Error("Envoy was late")
	}
	<-stopped
	if d := time.Since(start); d < envoy.DrainGrace {
		t.Errorf("it stopped after %v", d)
	}
}

// A stop that has no time left cuts the grace short.
func TestGraceEndsWithContext(t *testing.T) {
	s := envoy.NewServer(nil, nil, envoy.ServerOptions{Grace: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	start := time.Now()
	_ = s.Stop(ctx)
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
}

// A replica that has no configuration yet keeps whoever connects waiting, and two
// that have the same one call it by the same versions.
func TestReplicasAgree(t *testing.T) {
	spec := envoy.Spec{Routes: []envoy.Route{{Prefix: "/v1"}, {Prefix: "/v2", Rewrite: "/x"}}}
	for _, name := range []string{"a", "b", "c"} {
		spec.Clusters = append(spec.Clusters, envoy.Cluster{
			Name: name, Endpoints: []envoy.Endpoint{{Host: "127.0.0.1", Port: 1}}, Credential: &envoy.Credential{Header: "authorization", Env: "X", Secret: "secret of " + name},
		})
	}
	urls := []string{resourcev3.ClusterType, resourcev3.SecretType, resourcev3.ListenerType, resourcev3.RouteType}
	ask := func(token string) map[string]string {
		f := envoy.NewFleet(token)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := envoy.NewServer(nil, nil, envoy.ServerOptions{Fleet: f})
		go func() { _ = server.Serve(l) }() // ends with Stop
		defer func() { _ = server.Stop(context.Background()) }()
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(
			metadata.AppendToOutgoingContext(t.Context(), "x-tollgate-fleet", token))
		if err != nil {
			t.Fatal(err)
		}
		for _, url := range urls {
			if err := stream.Send(&discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: "n"}, TypeUrl: url}); err != nil {
				t.Fatal(err)
			}
		}
		answers := make(chan *discoveryv3.DiscoveryResponse)
		go func() {
			defer close(answers)
			for {
				r, err := stream.Recv()
				if err != nil {
					return
				}
				answers <- r
			}
		}()
		select {
		case r := <-answers:
			t.Errorf("it was told %v before there was anything", r)
		case <-time.After(100 * time.Millisecond):
		}
		resources, err := envoy.Build(envoy.Options{Listen: "127.0.0.1:1", Servers: []string{"127.0.0.1:2"}}, spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Publish(resources); err != nil {
			t.Fatal(err)
		}
		versions := map[string]string{}
		for len(versions) < len(urls) {
			r, ok := <-answers
			if !ok {
				t.Fatal("the stream ended")
			}
			versions[r.GetTypeUrl()] = r.GetVersionInfo()
		}
		return versions
	}
	one, two, other := ask("token"), ask("token"), ask("another")
	for _, url := range urls {
		if one[url] != two[url] {
			t.Errorf("%s: %s and %s", url, one[url], two[url])
		}
	}
	if one[resourcev3.SecretType] == other[resourcev3.SecretType] {
		t.Error("the version of secrets can be reckoned without the token")
	}
}
