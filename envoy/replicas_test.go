package envoy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/dialect"
	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/events/natstest/freeaddr"
)

// deployment is several replicas behind one Envoy, and what they know together.
type deployment struct {
	t        *testing.T
	config   envoy.Options
	upstream *httptest.Server
	replicas []*replica

	mu      sync.Mutex
	settled map[string]int // by admission; 0: open
}

// replica is one of them, which may be stopped and started again.
type replica struct {
	of    *deployment
	name  string
	addr  string
	grace time.Duration

	fleet    *envoy.Fleet
	server   *envoy.Server
	listener *abortable
	served   chan error

	checks   atomic.Int64 // of its life
	deciding atomic.Int64
	stopped  atomic.Bool // Stop has returned
}

// Check implements envoy.Checker.
func (r *replica) Check(_ context.Context, _ time.Time, q *dialect.Request, d *authz.Decision) {
	r.deciding.Add(1)
	defer r.deciding.Add(-1)
	if r.stopped.Load() {
		r.of.t.Errorf("%s was asked after it had stopped", r.name)
	}
	d.Cluster = "model"
	id := fmt.Sprint(r.name, "-", r.checks.Add(1))
	r.of.mu.Lock()
	if _, twice := r.of.settled[id]; twice {
		r.of.t.Errorf("%s was admitted twice", id)
	}
	r.of.settled[id] = 0
	r.of.mu.Unlock()
	d.Admission, d.Token = &authz.Admission{ID: id}, id
	d.ResponseHeaders = []dialect.Header{{Name: "x-request-id", Value: id}}
}

// Settle implements envoy.Settler: any replica takes what any other admitted.
func (r *replica) Settle(_ context.Context, _ time.Time, token string, _ authz.Observation) error {
	if r.stopped.Load() {
		r.of.t.Errorf("%s was told of %s after it had stopped", r.name, token)
	}
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	if _, known := r.of.settled[token]; !known {
		r.of.t.Errorf("%s was told of %q, which nobody admitted", r.name, token)
	}
	r.of.settled[token]++
	return nil
}

// start serves the replica, anew after a stop.
func (r *replica) start() {
	t := r.of.t
	t.Helper()
	addr := r.addr
	if addr == "" {
		addr = freeaddr.Take(t)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	r.stopped.Store(false)
	r.fleet = envoy.NewFleet("the deployment's")
	r.server = envoy.NewServer(r, r, envoy.ServerOptions{Fleet: r.fleet, Grace: r.grace})
	r.listener, r.served = &abortable{Listener: l}, make(chan error, 1)
	if r.of.config.Servers != nil { // known by now
		r.publish()
	}
	server, served, listener := r.server, r.served, r.listener
	go func() { served <- server.Serve(listener) }()
}

func (r *replica) publish() {
	t := r.of.t
	t.Helper()
	resources, err := envoy.Build(r.of.config, envoy.Spec{
		Clusters: []envoy.Cluster{clusterAt(t, "model", r.of.upstream)}, Routes: []envoy.Route{{Prefix: "/v1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.fleet.Publish(resources); err != nil {
		t.Fatal(err)
	}
}

// stop ends the replica in order.
func (r *replica) stop() {
	r.of.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.server.Stop(ctx); err != nil {
		r.of.t.Errorf("%s: Stop: %v", r.name, err)
	}
	r.stopped.Store(true)
	if err := <-r.served; err != nil {
		r.of.t.Errorf("%s: Serve: %v", r.name, err)
	}
}

// kill ends the replica as far as anybody outside can see.
func (r *replica) kill() {
	r.listener.abort()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.server.Stop(ctx) // nobody is connected
	<-r.served             // "use of closed"
}

// abortable is a listener whose connections can all be reset at once.
type abortable struct {
	net.Listener

	mu    sync.Mutex
	conns []*net.TCPConn
}

func (a *abortable) Accept() (net.Conn, error) {
	c, err := a.Listener.Accept()
	if err == nil {
		a.mu.Lock()
		a.conns = append(a.conns, c.(*net.TCPConn))
		a.mu.Unlock()
	}
	return c, err
}

func (a *abortable) abort() {
	a.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.conns {
		_ = c.SetLinger(0)
		c.Close()
	}
}

// newDeployment starts n replicas and an upstream: /v1/stream takes its time.
func newDeployment(t *testing.T, n int, grace time.Duration) *deployment {
	t.Helper()
	envoytest.Find(t)
	d := &deployment{t: t, settled: map[string]int{}}
	d.upstream = httptest.NewServer(http.HandlerFunc(serveModel))
	t.Cleanup(d.upstream.Close)
	// A busy machine must not look like a replica that doesn't answer.
	d.config = envoy.Options{Listen: freeaddr.Take(t), Token: "the deployment's", CheckTimeout: 10 * time.Second}
	var servers []string
	for i := range n {
		r := &replica{of: d, name: string(rune('A' + i)), grace: grace}
		r.start()
		d.replicas, servers = append(d.replicas, r), append(servers, r.addr)
	}
	d.config.Servers = servers
	for _, r := range d.replicas {
		r.publish()
	}
	t.Cleanup(func() {
		for _, r := range d.replicas {
			if !r.stopped.Load() {
				r.kill()
			}
		}
	})
	return d
}

const streamEnd = "data: [DONE]\n\n"

func serveModel(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	switch r.URL.Path {
	case "/v1/stream":
		w.Header().Set("Content-Type", "text/event-stream")
		for range 5 {
			_, _ = io.WriteString(w, "data: {\"choices\":[]}\n\n")
			w.(http.Flusher).Flush()
			time.Sleep(4 * time.Millisecond) // as a model does
		}
		_, _ = io.WriteString(w, streamEnd)
	case "/v1/long":
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil && r.URL.Query().Get("x") == "" {
			_, _ = io.WriteString(w, ": still here\n\n")
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	default:
		_, _ = io.WriteString(w, "plain")
	}
}

// outcome is how one request of a load went.
type outcome struct {
	begun  time.Time
	ended  time.Time
	status int // 0: none
	err    error
	token  string
}

func (o outcome) good() bool { return o.err == nil && o.status == http.StatusOK }

// load sends requests, a tenth of them streams, from workers at once until there
// were at least some and enough is closed. It returns how they went.
func (d *deployment) load(workers int, least int64, enough <-chan struct{}) []outcome {
	transport := &http.Transport{MaxIdleConnsPerHost: workers, MaxConnsPerHost: workers}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	var sent atomic.Int64
	all := make([][]outcome, workers)
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			for {
				n := sent.Add(1)
				if n > least {
					select {
					case <-enough:
						return
					default:
					}
				}
				all[w] = append(all[w], d.once(client, n%10 == 0))
			}
		})
	}
	running.Wait()
	var list []outcome
	for _, l := range all {
		list = append(list, l...)
	}
	return list
}

func (d *deployment) once(client *http.Client, stream bool) (o outcome) {
	path, end := "/v1/plain", "plain"
	if stream {
		path, end = "/v1/stream", streamEnd
	}
	o.begun = time.Now()
	defer func() { o.ended = time.Now() }()
	resp, err := client.Post("http://"+d.config.Listen+path, "application/json", strings.NewReader("{}"))
	if o.err = err; err != nil {
		return o
	}
	defer resp.Body.Close()
	o.status, o.token = resp.StatusCode, resp.Header.Get("X-Request-Id")
	b, err := io.ReadAll(resp.Body)
	if o.err = err; err == nil && o.status == http.StatusOK && !strings.HasSuffix(string(b), end) {
		o.err = errors.New("cut off: " + string(b))
	}
	return o
}

// open is how many admissions nobody settled, repeated how many settlements came
// more than once.
func (d *deployment) open() (open, repeated int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.settled {
		switch {
		case n == 0:
			open++
		case n > 1:
			repeated++
		}
	}
	return open, repeated
}

// connected is the replica that Envoy has its configuration from.
func (d *deployment) connected() *replica {
	d.t.Helper()
	var found *replica
	eventually(d.t, "a configuration stream", func() bool {
		for _, r := range d.replicas {
			if r.fleet.Connected() > 0 {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// restarted is the least load of TestRollingRestart. All of it is to fall into
// restarts: they, not the load, decide how long it goes on.
const restarted = 8_000

// Each replica is stopped and started again, one after the other, twice, under load: no
// request fails, each admission is settled, and a stream that was there before the
// first stop goes on through both.
func TestRollingRestart(t *testing.T) {
	d := newDeployment(t, 2, envoy.DrainGrace)
	e := envoytest.Start(t, envoytest.Options{Config: d.config, Live: true})
	eventually(t, "the first answer", func() bool { return d.once(http.DefaultClient, false).good() })
	const touched = "listener_manager.listener_(added|modified|removed)|listener_manager.total_listeners_draining|cluster_manager.cluster_(added|modified|removed)|rds.gateway.config_reload$"
	before := e.Stats(t, touched)

	long, err := http.Get(e.URL + "/v1/long")
	if err != nil {
		t.Fatal(err)
	}
	defer long.Body.Close()
	done := make(chan struct{})
	var took []time.Duration
	go func() {
		defer close(done)
		for _, r := range slices.Concat(d.replicas, d.replicas) {
			start := time.Now()
			r.stop()
			took = append(took, time.Since(start))
			r.start()
			eventually(t, "its return", func() bool { return r.checks.Load() > 0 && d.connected() != nil })
			back := r.checks.Load()
			eventually(t, "its share", func() bool { return r.checks.Load() > back+50 })
		}
	}()
	all := d.load(24, restarted, done)
	<-done
	failed := 0
	for _, o := range all {
		if !o.good() {
			if failed++; failed <= 10 {
				t.Errorf("%d, %v", o.status, o.err)
			}
		}
	}
	var repeated int
	eventually(t, "all settlements but the long stream's", func() (ok bool) {
		var open int
		open, repeated = d.open()
		return open == 1
	})
	t.Logf("%d requests, %d failed, %d settled more than once; the stops took %v; checks: A %d, B %d",
		len(all), failed, repeated, took, d.replicas[0].checks.Load(), d.replicas[1].checks.Load())
	if now := e.Stats(t, touched); now != before || !strings.Contains(before, "listener_added: 1") {
		t.Errorf("the same configuration from another replica, and Envoy changed\n%sto\n%s", before, now)
	}
	if _, err := io.ReadFull(long.Body, make([]byte, 4096)); err != nil {
		t.Errorf("the stream that was there before: %v", err)
	}
}

// A replica that dies costs, at most, the Checks that it had under way: whatever
// comes later goes to the other, and all that passed is settled there.
func TestReplicaDies(t *testing.T) {
	d := newDeployment(t, 2, 0)
	envoytest.Start(t, envoytest.Options{Config: d.config, Live: true})
	eventually(t, "the first answer", func() bool { return d.once(http.DefaultClient, false).good() })
	const (
		workers, times = 24, 5
		notice         = time.Second // the most in which Envoy has read that a connection is gone
	)
	done := make(chan struct{})
	var deaths []time.Time
	go func() {
		defer close(done)
		r := d.replicas[0]
		for range times {
			before := r.checks.Load()
			eventually(t, "its share", func() bool { return r.checks.Load() > before+100 })
			deaths = append(deaths, time.Now())
			r.kill()
			other := d.replicas[1].checks.Load()
			eventually(t, "the other's load", func() bool { return d.replicas[1].checks.Load() > other+200 })
			r.start()
		}
	}()
	all := d.load(workers, 5000, done)
	<-done
	failed := 0
	passed := map[string]bool{}
	for _, o := range all {
		if o.good() {
			passed[o.token] = true
			continue
		}
		failed++
		if o.status != http.StatusServiceUnavailable {
			t.Errorf("%d, %v", o.status, o.err)
		}
		if !slices.ContainsFunc(deaths, func(at time.Time) bool { return o.begun.Before(at.Add(notice)) && o.ended.After(at) }) {
			t.Errorf("a request failed that no death fell into: %d, %v, begun %v, ended %v, deaths %v", o.status, o.err, o.begun, o.ended, deaths)
		}
	}
	if failed > workers*times {
		t.Errorf("%d failed, and only %d could have been under way", failed, workers*times)
	}
	eventually(t, "the settlement of all that passed", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		for token := range passed {
			if d.settled[token] == 0 {
				return false
			}
		}
		return true
	})
	open, repeated := d.open()
	t.Logf("%d requests, %d failed in %d deaths, %d admissions nobody knows of, %d settled more than once",
		len(all), failed, times, open, repeated)
}
