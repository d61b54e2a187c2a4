//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"tollgate/examples/backend"
)

// testLiveConfiguration adds, changes and removes models while 10,000 requests go
// through the gate. None of them may fail, and the next request after an apply
// has answered reaches the new model, or is told that the old one is gone.
func testLiveConfiguration(t *testing.T, b *bench) {
	const total, workers = 10_000, 8
	g := startGate(t, b)
	k := g.key("--name", "load")
	first, second := backend.New(backend.Options{Keep: 1}), backend.New(backend.Options{Keep: 10})
	one, two := httptest.NewServer(first), httptest.NewServer(second)
	t.Cleanup(one.Close)
	t.Cleanup(two.Close)
	stable := catalogFor(g.backendURL, "http://"+freeAddr(t))
	file := filepath.Join(g.dir, "next.yaml")
	apply := func(models string, args ...string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(stable+models), 0o600); err != nil {
			t.Fatal(err)
		}
		g.cli(append([]string{"apply", "-f", file}, args...)...)
	}

	var sent, failed atomic.Int64
	var load sync.WaitGroup
	for range workers {
		load.Go(func() {
			for sent.Add(1) <= total {
				if res := g.chat(k.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
					if failed.Add(1) <= 5 {
						t.Errorf("a request while the configuration changed: %v", res)
					}
				}
			}
		})
	}
	rounds := 0
	for ; sent.Load() < total; rounds++ {
		model := fmt.Sprintf("round/%d", rounds)
		at := func(url string) string {
			return fmt.Sprintf("  - {id: %q, upstreamModel: %q, upstreams: [{url: %q}]}\n", model, chatModel, url)
		}
		apply(at(one.URL))
		if res := g.chat(k.Key, chatBody(model, "")); res.status != http.StatusOK {
			t.Fatalf("the next request after a model was added: %v", res)
		}
		before := len(second.Seen())
		apply(at(two.URL))
		if res := g.chat(k.Key, chatBody(model, "")); res.status != http.StatusOK {
			t.Fatalf("the next request after a model was changed: %v", res)
		}
		if len(second.Seen()) == before && before < 10 {
			t.Fatal("the next request after a model was changed went to its old upstream")
		}
		apply("", "--prune")
		if res := g.chat(k.Key, chatBody(model, "")); res.status != http.StatusNotFound {
			t.Fatalf("the next request after a model was removed: %v", res)
		}
	}
	load.Wait()
	if n := failed.Load(); n != 0 {
		t.Errorf("%d of %d requests failed while the configuration changed %d times", n, total, 3*rounds)
	}
	if rounds < 3 {
		t.Errorf("only %d rounds of changes fell into the load", rounds)
	}
	t.Logf("%d requests over %d changes of the configuration", total, 3*rounds)
}
