//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tollgate/events/natstest"
)

// testMove follows docs/move-to-a-cluster.md: a Tollgate with the embedded store
// goes over to a cluster of NATS servers and gets a second replica, while callers
// go on. None may be refused, no revoked key may pass at any time, and each request
// must have exactly one event in the cluster.
func testMove(t *testing.T, b *bench) {
	old, second := &replica{gate: newGate(t, b)}, &replica{gate: newGate(t, b)}
	cluster := natstest.StartCluster(t, natstest.Options{})
	second.gateway = old.gateway
	addrs := old.grpc + "," + second.grpc
	for _, r := range []*replica{old, second} {
		r.env = append(r.env, "TOLLGATE_GATEWAY_ADDR="+old.gateway, "TOLLGATE_OPERATOR_KEY="+operatorOfTests, "TOLLGATE_NATS_LISTEN=",
			"TOLLGATE_REPLICA_ADDRS="+addrs, "TOLLGATE_CATALOG="+filepath.Join(old.dir, "catalog.yaml"))
	}
	old.start("serve")
	old.waitServing()
	old.startProxy(old.cli("envoy", "bootstrap"))
	k, gone := old.key("--name", "kept"), old.key("--name", "revoked")
	old.cli("key", "revoke", gone.ID)

	load := startLoad(t, old, k, gone)
	load.waitFor(50)
	cluster.WaitReady()
	old.cli("nats", "setup", "--nats-url", cluster.URL())
	file := filepath.Join(old.dir, "move.backup")
	old.cli("backup", "--freeze", "-o", file)
	if _, stderr, code := old.tryCLI("key", "create", "--name", "too late"); code == 0 || !strings.Contains(stderr, "frozen") {
		t.Errorf("a key is made while the store is copied: exit code %d, %s", code, stderr)
	}
	old.cli("restore", file, "--nats-url", cluster.URL())
	load.waitFor(50)
	second.env = append(second.env, "TOLLGATE_NATS_URL="+cluster.URL())
	second.start("serve")
	second.waitServing()
	load.waitFor(50)
	// From here on there are admissions that one replica made and the other is told
	// the end of.
	if code := old.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d at SIGTERM", code)
	}
	load.waitFor(50)
	old.env = append(old.env, "TOLLGATE_NATS_URL="+cluster.URL())
	old.start("serve")
	old.waitServing()
	load.waitFor(50)
	copied := old.cli("events", "copy", "--from-data", old.data, "--nats-url", cluster.URL(), "-o", "json")
	if done := decodeJSON[struct{ Added int }](t, copied); done.Added == 0 {
		t.Errorf("nothing was copied: %s", copied)
	}
	again := old.cli("events", "copy", "--from-data", filepath.Join(old.data, "nats"), "--nats-url", cluster.URL(), "-o", "json")
	if done := decodeJSON[struct{ Added, There int }](t, again); done.Added != 0 || done.There == 0 {
		t.Errorf("copied twice: %s", again)
	}
	passed := load.end()

	for _, r := range []*replica{old, second} {
		fresh := r.key("--name", "after the move")
		if res := r.chat(fresh.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
			t.Errorf("a key that was made after the move: %v", res)
		}
		r.cli("key", "revoke", fresh.ID)
		for range 6 { // both replicas are asked
			if res := r.chat(fresh.Key, chatBody(chatModel, "")); res.status != http.StatusUnauthorized {
				t.Errorf("a key that was revoked after the move: %v", res)
			}
		}
	}
	// Envoy still takes its configuration from both, by the token that it began with.
	more := filepath.Join(old.dir, "more.yaml")
	text := catalogFor(old.backendURL, "http://"+freeAddr(t)) + fmt.Sprintf("  - {id: after/move, upstreamModel: %q, deployed: true, upstreams: [{url: %q}]}\n", chatModel, old.backendURL)
	if err := os.WriteFile(more, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	second.cli("apply", "-f", more)
	if res := old.chat(k.Key, chatBody("after/move", "")); res.status != http.StatusOK {
		t.Errorf("a model that was added after the move: %v", res)
	}
	onceEach(t, old, passed)
	t.Logf("%d requests over the move", len(passed))

	// The whole cluster is lost, and the backup restored under running replicas.
	file = filepath.Join(old.dir, "cluster.backup")
	old.cli("backup", "--events", "-o", file)
	for i := range cluster.Len() {
		cluster.Stop(i)
	}
	for i := range cluster.Len() {
		cluster.Wipe(i)
		cluster.Restart(i)
	}
	cluster.WaitReady()
	old.cli("restore", file, "--nats-url", cluster.URL())
	for _, r := range []*replica{old, second} {
		r.waitServing()
	}
	within(t, time.Minute, "what was restored is in force", func() error {
		for range 6 { // both replicas are asked
			if res := old.chat(k.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
				return fmt.Errorf("%v", res)
			}
		}
		return nil
	})
	for range 6 {
		if res := old.chat(gone.Key, chatBody(chatModel, "")); res.status != http.StatusUnauthorized {
			t.Errorf("the revoked key after the restore: %v", res)
		}
	}
	onceEach(t, old, passed)
}

// load is callers that go on until it is ended.
type load struct {
	t       *testing.T
	sent    atomic.Int64
	over    atomic.Bool
	callers sync.WaitGroup

	mu     sync.Mutex
	passed map[string]bool // ids of requests that passed; guarded by mu
}

// startLoad lets callers go on with a key, and one with a key that is revoked.
func startLoad(t *testing.T, r *replica, k, revoked newKey) *load {
	t.Helper()
	l := &load{t: t, passed: map[string]bool{}}
	for range 3 {
		l.callers.Go(func() {
			for !l.over.Load() {
				res := r.chat(k.Key, chatBody(chatModel, ""))
				if res.status != http.StatusOK {
					t.Errorf("a valid caller: %v", res)
				}
				l.mu.Lock()
				l.passed[res.header.Get("x-request-id")] = true
				l.mu.Unlock()
				l.sent.Add(1)
			}
		})
	}
	l.callers.Go(func() {
		for !l.over.Load() {
			if res := r.chat(revoked.Key, chatBody(chatModel, "")); res.status != http.StatusUnauthorized {
				t.Errorf("a revoked key: %v", res)
			}
		}
	})
	t.Cleanup(func() { l.over.Store(true); l.callers.Wait() })
	return l
}

// waitFor waits until n more requests have passed.
func (l *load) waitFor(n int64) {
	l.t.Helper()
	target := l.sent.Load() + n
	within(l.t, time.Minute, "under load", func() error {
		if sent := l.sent.Load(); sent < target {
			return fmt.Errorf("%d of %d requests", sent, target)
		}
		return nil
	})
}

// end ends it and returns the ids of what passed.
func (l *load) end() map[string]bool {
	l.over.Store(true)
	l.callers.Wait()
	return l.passed
}
