//go:build linux

package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// testKill kills Tollgate outright while requests go on, several times, and then
// compares what the backend saw with the events.
func testKill(t *testing.T, b *bench) {
	t.Run("with its own Envoy, which dies too", func(t *testing.T) {
		g := startGate(t, b)
		killUnderLoad(t, g, func() {
			g.kill()
			g.start("up")
			g.waitReady()
		})
	})
	t.Run("with an Envoy that lives on and keeps telling", func(t *testing.T) {
		g := newGate(t, b)
		g.start("serve")
		within(t, time.Minute, "ready", func() error {
			if res := g.try(http.MethodGet, "http://"+g.api+"/readyz", "", ""); res.status != http.StatusOK {
				return fmt.Errorf("%v", res)
			}
			return nil
		})
		startEnvoy(t, g)
		g.waitReady()
		answered := killUnderLoad(t, g, func() {
			g.kill()
			g.start("serve")
			g.waitReady()
		})
		// Envoy saw these to their end, so their events have the exact tokens.
		events := map[string]event{}
		for _, e := range g.events() {
			events[e.Data.RequestID] = e
		}
		for id, a := range answered {
			in, out := a.stated(t)
			if d := events[id].Data; d.Outcome != "completed" || d.Measurement != "reported" || d.InputTokens != in || d.OutputTokens != out {
				t.Errorf("request %s was answered with %d and %d tokens, the event says %+v", id, in, out, d)
			}
		}
	})
}

// startEnvoy runs an Envoy that is not Tollgate's child.
func startEnvoy(t *testing.T, g *gate) {
	t.Helper()
	config := filepath.Join(g.dir, "envoy.yaml")
	if err := os.WriteFile(config, []byte(g.cli("envoy", "bootstrap", "--static")), 0o600); err != nil {
		t.Fatal(err)
	}
	var out output
	cmd := exec.Command(g.b.envoy, "-c", config, "--disable-hot-restart", "--concurrency", "2", "-l", "warning")
	cmd.Dir = g.dir // where its admin socket goes
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("what Envoy said last:\n%s", out.tail(100))
		}
	})
}

// killUnderLoad calls restart three times while requests go on, and sees to it
// that each request which the backend saw has exactly one event in the end. It
// returns what was answered with 200, by request id.
func killUnderLoad(t *testing.T, g *gate, restart func()) map[string]answer {
	t.Helper()
	const callers, kills = 12, 3
	k := g.key("--name", "load")

	var mu sync.Mutex
	answered := map[string]answer{} // guarded by mu
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(answered)
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	for caller := range callers {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				res := g.chat(k.Key, chatBody(chatModel, ""), fmt.Sprintf("x-backend-delay: %dms", (7*caller+13*n)%60))
				if res.status != http.StatusOK {
					time.Sleep(20 * time.Millisecond) // as a client would back off
					continue
				}
				mu.Lock()
				answered[res.header.Get("x-request-id")] = res
				mu.Unlock()
			}
		})
	}
	for range kills {
		next := count() + 100
		within(t, time.Minute, "under load", func() error {
			if n := count(); n < next {
				return fmt.Errorf("%d requests, want %d", n, next)
			}
			return nil
		})
		restart()
	}
	next := count() + 50
	within(t, time.Minute, "answering again", func() error {
		if count() < next {
			return errors.New("too few")
		}
		return nil
	})
	close(stop)
	load.Wait()

	seen := map[string]bool{}
	for _, r := range g.backend.Seen() {
		id := r.Header.Get("x-tollgate-request-id")
		if id == "" || seen[id] {
			t.Fatalf("the backend saw request %q, twice or without an id", id)
		}
		seen[id] = true
	}
	within(t, time.Minute, "complete", func() error {
		times := map[string]int{}
		for _, e := range g.events() {
			if times[e.Data.RequestID]++; times[e.Data.RequestID] > 1 {
				t.Fatalf("request %s has two events", e.Data.RequestID)
			}
		}
		missing := 0
		for id := range seen {
			if times[id] == 0 {
				missing++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d requests have no event", missing, len(seen))
		}
		return nil
	})
	t.Logf("%d requests reached the backend, %d were answered", len(seen), len(answered))
	return answered
}
