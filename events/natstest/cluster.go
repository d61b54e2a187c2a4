// Package natstest runs real nats-server processes for tests, and breaks them and
// the network between them.
package natstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tollgate/events/natstest/freeaddr"
)

// Options say what cluster is started. The zero value is three servers with
// JetStream that let everybody in.
type Options struct {
	// Servers is how many there are. Zero: 3. A single one is not clustered.
	Servers int
	// Config is added to the configuration of each server: authorization, TLS.
	Config string
	// ProxyRoutes makes each server reach each other one through a proxy, so that
	// Isolate works.
	ProxyRoutes bool
}

// Cluster is a running cluster. Its methods belong to the goroutine of the test;
// what goes wrong fails the test.
type Cluster struct {
	t         testing.TB
	options   Options
	processes []*process
	routes    map[[2]int]*Proxy // by who connects to whom
	isolated  map[int]bool
}

// StartCluster starts a cluster and returns once it is ready. Its stores are in
// directories of the test, and it ends with the test, at the latest with the
// process. The first use in a fresh build cache builds nats-server.
func StartCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Servers == 0 {
		o.Servers = 3
	}
	c := &Cluster{t: t, options: o, routes: map[[2]int]*Proxy{}, isolated: map[int]bool{}}
	dir := t.TempDir()
	for i := range o.Servers {
		name := fmt.Sprintf("n%d", i)
		p := &process{name: name, dir: filepath.Join(dir, name), addr: freeaddr.Take(t), monitor: freeaddr.Take(t), routes: freeaddr.Take(t)}
		if err := os.Mkdir(p.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		c.processes = append(c.processes, p)
	}
	c.connectRoutes()
	c.configure()
	t.Cleanup(c.stop)
	for _, p := range c.processes {
		p.start(t)
	}
	c.WaitReady()
	return c
}

// stop ends what runs, and tells of it where the test has failed.
func (c *Cluster) stop() {
	for _, p := range c.processes {
		if c.t.Failed() {
			c.t.Logf("%s said at last:\n%s", p.name, p.tail())
		}
		if p.lives() {
			p.end(c.t, syscall.SIGKILL)
		}
	}
}

// Len is how many servers there are.
func (c *Cluster) Len() int { return len(c.processes) }

// Addr is the host:port of a server for its clients. It stays over restarts.
func (c *Cluster) Addr(i int) string { return c.processes[i].addr }

// URLs are those of all servers for clients, without credentials.
func (c *Cluster) URLs() []string {
	urls := make([]string, 0, len(c.processes))
	for _, p := range c.processes {
		urls = append(urls, "nats://"+p.addr)
	}
	return urls
}

// URL is all of URLs in one, as client libraries take it.
func (c *Cluster) URL() string { return strings.Join(c.URLs(), ",") }

// Kill9 kills a server: what it did not write is lost.
func (c *Cluster) Kill9(i int) {
	c.t.Helper()
	c.processes[i].end(c.t, syscall.SIGKILL)
}

// Stop lets a server end in order, and waits until it has.
func (c *Cluster) Stop(i int) {
	c.t.Helper()
	c.processes[i].end(c.t, syscall.SIGTERM)
}

// Pause stops a server's time: SIGSTOP. Its connections stay open.
func (c *Cluster) Pause(i int) {
	c.t.Helper()
	c.processes[i].signal(c.t, syscall.SIGSTOP)
	c.processes[i].paused = true
}

// Resume lets it go on: SIGCONT.
func (c *Cluster) Resume(i int) {
	c.t.Helper()
	c.processes[i].signal(c.t, syscall.SIGCONT)
	c.processes[i].paused = false
}

// Restart starts a server that was killed or stopped, on the same store and at
// the same address. It does not wait; see WaitReady.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	if c.processes[i].lives() {
		c.t.Fatalf("%s still runs", c.processes[i].name)
	}
	c.processes[i].start(c.t)
}

// Wipe removes what a stopped server stored.
func (c *Cluster) Wipe(i int) {
	c.t.Helper()
	if c.processes[i].lives() {
		c.t.Fatalf("%s still runs", c.processes[i].name)
	}
	if err := os.RemoveAll(filepath.Join(c.processes[i].dir, "jetstream")); err != nil {
		c.t.Fatal(err)
	}
}

// Isolate cuts a server off from the others, both ways; clients reach it still.
// The cluster must have been started with ProxyRoutes.
func (c *Cluster) Isolate(i int) {
	c.t.Helper()
	c.isolated[i] = true
	c.between(i, (*Proxy).Cut)
}

// Heal undoes Isolate.
func (c *Cluster) Heal(i int) {
	c.t.Helper()
	delete(c.isolated, i)
	c.between(i, (*Proxy).Heal)
}

// between does something to all routes of a server.
func (c *Cluster) between(i int, do func(*Proxy)) {
	c.t.Helper()
	if len(c.routes) == 0 {
		c.t.Fatal("the cluster was not started with ProxyRoutes")
	}
	for pair, proxy := range c.routes {
		other := pair[0] + pair[1] - i
		if (pair[0] == i || pair[1] == i) && !c.isolated[other] {
			do(proxy)
		}
	}
}

// patience is how long anything may take on a busy machine.
const patience = time.Minute
