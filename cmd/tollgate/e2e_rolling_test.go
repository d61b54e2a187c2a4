//go:build linux

package main_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tollgate/envoy"
)

// testRolling restarts two replicas, one after the other, behind one Envoy that
// knows both, while 20,000 requests go through it: none may fail, each must have
// exactly one event, and what was open at a replica that went counts on at the
// other.
func testRolling(t *testing.T, b *bench) {
	d := newDeployment(t, b, 2, faultBound, true)
	a, o := d.replicas[0], d.replicas[1]
	restart := func(r *replica) {
		t.Helper()
		if code := r.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d at SIGTERM", code)
		}
		r.start("serve")
		r.waitServing()
	}

	t.Run("what dialects have of the management API", func(t *testing.T) { testManaged(t, d) })

	t.Run("20,000 requests", func(t *testing.T) {
		const requests, callers = 20_000, 24
		k := a.key("--name", "rolling")
		var sent, failed atomic.Int64
		var mu sync.Mutex
		passed := map[string]bool{} // guarded by mu
		var load sync.WaitGroup
		for range callers {
			load.Go(func() {
				for sent.Add(1) <= requests {
					res := a.chat(k.Key, chatBody(chatModel, ""))
					if res.status != http.StatusOK {
						if failed.Add(1) <= 5 {
							t.Errorf("%v", res)
						}
						continue
					}
					mu.Lock()
					passed[res.header.Get("x-request-id")] = true
					mu.Unlock()
				}
			})
		}
		under := func(n int64) {
			t.Helper()
			within(t, 2*time.Minute, "under load", func() error {
				if sent.Load() < n {
					return fmt.Errorf("%d requests", sent.Load())
				}
				return nil
			})
		}
		under(requests / 5)
		restart(a)
		under(3 * requests / 5)
		restart(o)
		if sent.Load() >= requests {
			t.Error("the requests were over before the replicas were restarted: the test shows nothing")
		}
		load.Wait()
		if n := failed.Load(); n != 0 {
			t.Errorf("%d of %d requests failed; Envoy counted:\n%s", n, requests, a.proxyStats())
		}
		onceEach(t, a, passed)
		t.Logf("%d requests over two restarts: %d failed", requests, failed.Load())
	})

	t.Run("slots and reservations are handed over", func(t *testing.T) {
		if code := o.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d", code)
		}
		k := a.key("--name", "slots", "--concurrent-requests", "2")
		streams := []*stream{openStream(t, a, k.Key), openStream(t, a, k.Key)}
		full := func(when string) {
			t.Helper()
			if res := a.chat(k.Key, chatBody(chatModel, "")); res.status != http.StatusTooManyRequests {
				t.Fatalf("%s: a third request at the same time: %v", when, res)
			}
		}
		full("at the replica that has the two")
		o.start("serve")
		o.waitServing()
		if code := a.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d", code)
		}
		within(t, time.Minute, "the other one answers", func() error {
			if res := a.chat(k.Key, chatBody(chatModel, "")); res.status != http.StatusTooManyRequests {
				return fmt.Errorf("%v", res)
			}
			return nil
		})
		full("after the hand-over")
		passed := map[string]bool{}
		for _, s := range streams {
			passed[s.finish(t)] = true
		}
		within(t, time.Minute, "free again", func() error {
			res := a.chat(k.Key, chatBody(chatModel, ""))
			if res.status != http.StatusOK {
				return fmt.Errorf("%v", res)
			}
			passed[res.header.Get("x-request-id")] = true
			return nil
		})
		a.start("serve")
		a.waitServing()
		onceEach(t, o, passed)
		// Back where they were opened, nothing is held any more either.
		if code := o.stop(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d", code)
		}
		two := []*stream{openStream(t, a, k.Key), openStream(t, a, k.Key)}
		full("back at the first")
		for _, s := range two {
			s.finish(t)
		}
	})
}

// proxyStats are the counters of Envoy's calls to Tollgate.
func (r *replica) proxyStats() string {
	return r.proxyAdmin("/stats?usedonly&filter=ext_authz|cluster.tollgate.*(timeout|fail|retry|reset|reject|health|overflow|rq_[0-9])")
}

// proxyAdmin is what Envoy's own page of this path says.
func (r *replica) proxyAdmin(page string) string {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.dir, "envoy", envoy.AdminSocket))
	}
	admin := http.Client{Transport: &http.Transport{DialContext: dial}}
	res, err := admin.Get("http://admin" + page)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// onceEach waits until each request has an event, and sees to it that none has two.
func onceEach(t *testing.T, r *replica, passed map[string]bool) {
	t.Helper()
	within(t, 90*time.Second, "one event of each request", func() error {
		times, err := r.usage()
		if err != nil {
			return err
		}
		missing := 0
		for id := range passed {
			switch times[id] {
			case 0:
				missing++
			case 1:
			default:
				t.Fatalf("request %s has %d events", id, times[id])
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d requests have no event", missing, len(passed))
		}
		return nil
	})
}

// stream is an answer under way.
type stream struct {
	res  *http.Response
	body *bufio.Reader
}

// openStream begins a slow answer and waits for its first event.
func openStream(t *testing.T, r *replica, key string) *stream {
	t.Helper()
	var s *stream
	within(t, time.Minute, "a stream", func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.gateway+"/v1/chat/completions",
			strings.NewReader(chatBody(chatModel, `,"stream":true`)))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("x-backend-interval", "100ms")
		req.Header.Set("x-backend-tokens", "2000")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		if res.StatusCode != http.StatusOK {
			res.Body.Close()
			return fmt.Errorf("status %d", res.StatusCode)
		}
		s = &stream{res, bufio.NewReader(res.Body)}
		_, err = s.body.ReadString('\n')
		return err
	})
	return s
}

// finish hangs up and returns the request's id.
func (s *stream) finish(t *testing.T) string {
	t.Helper()
	if err := s.res.Body.Close(); err != nil && !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Error(err)
	}
	return s.res.Header.Get("x-request-id")
}
