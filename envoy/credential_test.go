package envoy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

// tells is an upstream that answers with the headers in which a key may stand.
func tells(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var all []string
		for _, name := range []string{"Authorization", "X-Api-Key", "X-Goog-Api-Key"} {
			for _, v := range r.Header.Values(name) {
				all = append(all, name+"="+v)
			}
		}
		_, _ = io.WriteString(w, r.URL.Path+" "+strings.Join(all, " "))
	}))
	t.Cleanup(s.Close)
	return s
}

// The upstream is shown its credential and nothing of the caller's; a new secret
// is in force when Wait returns, and touches nothing else; Envoy shows it to nobody.
func TestCredentialInjected(t *testing.T) {
	f := newFleet(t)
	up := tells(t)
	with := func(name, path string, c envoy.Credential) envoy.Cluster {
		cluster := clusterAt(t, name, up)
		cluster.Path, cluster.Credential = path, &c
		return cluster
	}
	bearer := func(secret string) envoy.Cluster {
		return with("bearer", "", envoy.Credential{Header: "authorization", Prefix: "Bearer ", Secret: secret, Env: "A"})
	}
	key := with("key", "/base", envoy.Credential{Header: "x-goog-api-key", Secret: "sk-second-4711", File: "/b"})
	f.publish(bearer("sk-first-0815"), key, clusterAt(t, "none", up))
	e := f.start()
	f.wait()
	f.want("bearer", 200, "/v1/x Authorization=Bearer sk-first-0815")
	f.want("none", 200, "/v1/x ")
	if a := f.ask("key", "x-goog-api-key: mine"); a.body != "/base/v1/x X-Goog-Api-Key=sk-second-4711" {
		t.Errorf("got %q", a.body)
	}

	const touched = "listener_manager.listener_modified|cluster_manager.cluster_(added|modified|removed)"
	before := e.Stats(t, touched)
	for _, secret := range []string{"sk-third-0001", "sk-fourth-0002", "sk-first-0815"} {
		f.publish(bearer(secret), key, clusterAt(t, "none", up))
		f.wait()
		f.want("bearer", 200, "/v1/x Authorization=Bearer "+secret)
	}
	if after := e.Stats(t, touched); after != before {
		t.Errorf("a new secret changed more than itself:\n%s%s", before, after)
	}
	for _, path := range []string{"/config_dump", "/config_dump?include_eds", "/certs", "/clusters", "/stats", "/init_dump"} {
		text, err := e.Admin(t.Context(), http.MethodGet, path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "sk-") {
			t.Errorf("%s shows a secret", path)
		}
		if path == "/config_dump" && !strings.Contains(text, "[redacted]") {
			t.Error("/config_dump has no redacted secret: did it look at secrets at all?")
		}
	}

	// All secrets go, and come back: nobody is waited for who has no use for them.
	for range 5 {
		f.publish(clusterAt(t, "none", up))
		f.wait()
		f.want("none", 200, "/v1/x ")
		f.publish(clusterAt(t, "none", up), clusterAt(t, "other", up))
		f.wait()
		f.want("other", 200, "/v1/x ")
		f.publish(clusterAt(t, "none", up), bearer("sk-again-0003"))
		f.wait()
		f.want("bearer", 200, "/v1/x Authorization=Bearer sk-again-0003")
	}
}

// A model that moves to another upstream with another secret: at no moment does
// one get the other's.
func TestCredentialMovesWithItsUpstream(t *testing.T) {
	f := newFleet(t)
	var leaked, served atomic.Int64
	only := func(secret string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/health" {
				time.Sleep(100 * time.Millisecond) // while the new one warms up, the old one is in use
				return
			}
			served.Add(1)
			if r.Header.Get("Authorization") != secret {
				leaked.Add(1)
			}
		}))
		t.Cleanup(s.Close)
		return s
	}
	places := []envoy.Cluster{clusterAt(t, "m", only("sk-a")), clusterAt(t, "m", only("sk-b"))}
	places[0].Credential = &envoy.Credential{Header: "authorization", Secret: "sk-a", File: "/same"}
	places[1].Credential = &envoy.Credential{Header: "authorization", Secret: "sk-b", File: "/same"}
	for i := range places {
		places[i].HealthCheck = &envoy.HealthCheck{Path: "/health", Interval: time.Minute}
	}
	f.publish(places[0])
	f.start()
	f.wait()
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				f.want("m", 200, "")
			}
		}
	})
	for i := range 6 {
		f.publish(places[(i+1)%2])
		f.wait()
		f.want("m", 200, "")
	}
	close(stop)
	load.Wait()
	if leaked.Load() != 0 {
		t.Errorf("%d of %d requests carried another upstream's secret", leaked.Load(), served.Load())
	}
}

// A static configuration says where the secrets are, and holds none.
func TestCredentialStatic(t *testing.T) {
	up := tells(t)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("sk-in-a-file"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LANG", "sk-in-a-variable") // one of those that Envoy gets
	for _, c := range []envoy.Credential{
		{Header: "authorization", Prefix: "Token ", Secret: "sk-in-a-file", File: file},
		{Header: "x-api-key", Secret: "sk-in-a-variable", Env: "LANG"},
	} {
		g := newGate(t, nil, func(o *envoytest.Options) {
			o.Spec.Clusters[0].Endpoints = []envoy.Endpoint{endpoint(t, up.URL)}
			o.Spec.Clusters[0].Credential = &c
			r, err := envoy.Build(envoy.Options{Listen: "127.0.0.1:1", Servers: []string{"127.0.0.1:2"}}, o.Spec)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := envoy.StaticBootstrap(o.Config, r); err != nil || strings.Contains(string(text), "sk-") {
				t.Errorf("the configuration holds the secret (or %v)", err)
			}
		})
		if a := g.post(t, "/v1/x", "{}"); !strings.EqualFold(a.body, "/v1/x "+c.Header+"="+c.Prefix+c.Secret) {
			t.Errorf("got %d %q", a.status, a.body)
		}
	}
}
