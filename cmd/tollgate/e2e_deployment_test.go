//go:build linux

package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tollgate/events/natstest"
	"tollgate/examples/backend"
)

// deployment is three replicas on a cluster of three NATS servers, each replica
// with an Envoy of its own, and one backend behind all of them. Between a replica
// and each NATS server is a proxy that can be cut.
type deployment struct {
	t        *testing.T
	b        *bench
	nats     *natstest.Cluster
	backend  *backend.Backend
	catalog  string
	bound    time.Duration
	replicas []*replica
}

// replica is one of a deployment's.
type replica struct {
	*gate
	links []*natstest.Proxy // to each NATS server
	envoy *exec.Cmd
}

const operatorOfTests = "operator-key-of-the-tests-0123456789"

// newDeployment starts NATS and n replicas, and waits until they are ready: behind
// an Envoy each or, where they share one, behind that.
func newDeployment(t *testing.T, b *bench, n int, bound time.Duration, shared bool) *deployment {
	t.Helper()
	d := &deployment{t: t, b: b, bound: bound, backend: backend.New(backend.Options{Keep: 200_000})}
	server := httptest.NewServer(d.backend)
	t.Cleanup(server.Close)
	d.catalog = filepath.Join(t.TempDir(), "catalog.yaml")
	if err := os.WriteFile(d.catalog, []byte(catalogFor(server.URL, "http://"+freeAddr(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	d.nats = natstest.StartCluster(t, natstest.Options{ProxyRoutes: true})
	for range n {
		d.replicas = append(d.replicas, d.prepare())
	}
	first := d.replicas[0]
	var addrs []string
	for _, r := range d.replicas {
		if shared {
			r.gateway = first.gateway
			r.env = append(r.env, "TOLLGATE_GATEWAY_ADDR="+first.gateway)
		}
		r.start("serve") // all at once: the first to come makes what is to be there
		addrs = append(addrs, r.grpc)
	}
	for _, r := range d.replicas {
		r.waitServing()
	}
	if shared {
		first.startProxy(first.cli("envoy", "bootstrap", "--replica-addrs", strings.Join(addrs, ",")))
		return d
	}
	for _, r := range d.replicas {
		r.startProxy(r.cli("envoy", "bootstrap"))
	}
	return d
}

// prepare makes a replica that is not started yet.
func (d *deployment) prepare() *replica {
	d.t.Helper()
	r := &replica{gate: newGate(d.t, d.b)}
	var urls []string
	for i := range d.nats.Len() {
		p := natstest.NewProxy(d.t, d.nats.Addr(i))
		r.links = append(r.links, p)
		urls = append(urls, "nats://"+p.Addr())
	}
	// The last of each name counts.
	r.env = append(r.env, "TOLLGATE_NATS_LISTEN=", "TOLLGATE_NATS_URL="+strings.Join(urls, ","), "TOLLGATE_CATALOG="+d.catalog,
		"TOLLGATE_REVOCATION_BOUND="+d.bound.String(), "TOLLGATE_OPERATOR_KEY="+operatorOfTests)
	return r
}

// waitServing waits until the services of a replica are ready; its Envoy may not
// be there.
func (r *replica) waitServing() {
	r.t.Helper()
	within(r.t, time.Minute, "serving", func() error {
		if exited(r.cmd.Process.Pid) {
			r.t.Fatal("the replica ended before it was ready")
		}
		if res := r.try(http.MethodGet, "http://"+r.api+"/readyz", "", ""); res.status != http.StatusOK {
			return fmt.Errorf("readyz: %v", res)
		}
		return nil
	})
}

// startProxy starts the replica's Envoy and waits until it answers.
func (r *replica) startProxy(config string) {
	r.t.Helper()
	r.envoy = r.startEnvoy("envoy", config)
}

// cut takes a replica's NATS away, without a word: what is sent goes nowhere.
func (r *replica) cut() {
	for _, l := range r.links {
		l.Cut()
	}
}

// heal gives it back.
func (r *replica) heal() {
	for _, l := range r.links {
		l.Heal()
	}
}

// slow delays what goes between a replica and NATS, each way.
func (r *replica) slow(by time.Duration) {
	for _, l := range r.links {
		l.Delay(by, by)
	}
}

func (r *replica) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// usage is how often each request has a usage event, as a replica tells.
func (r *replica) usage() (map[string]int, error) {
	stdout, stderr, code := r.tryCLI("events", "list", "--since", "24h", "-o", "json")
	if code != 0 {
		return nil, errors.New(stderr)
	}
	times := map[string]int{}
	for line := range strings.Lines(stdout) {
		times[decodeJSON[event](r.t, line).Data.RequestID]++
	}
	return times, nil
}
