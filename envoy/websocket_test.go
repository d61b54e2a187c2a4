package envoy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/dialect"
	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

// echo is an upstream that switches protocols and sends back what comes, until
// it is told to "bye". (What is inside of a WebSocket is nothing to Envoy.)
func echo(asked *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("x-case") == "refuse" {
			http.Error(w, "not today", http.StatusBadRequest)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Query: %s\r\n\r\n", r.URL.RawQuery)
		_ = rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil || line == "bye\n" {
				return
			}
			_, _ = rw.WriteString(line)
			_ = rw.Flush()
		}
	}
}

// socket is a client's end.
type socket struct {
	net.Conn
	t      testing.TB
	r      *bufio.Reader
	answer *http.Response
}

func (g *gate) connect(t testing.TB, method, path string, headers ...string) *socket {
	t.Helper()
	conn, err := net.Dial("tcp", g.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer good\r\n%s\r\n\r\n", method, path,
		strings.Join(append([]string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGVzdHRlc3R0ZXN0dGVzdA=="}, headers...), "\r\n"))
	s := &socket{Conn: conn, t: t, r: bufio.NewReader(conn)}
	if s.answer, err = http.ReadResponse(s.r, &http.Request{Method: method}); err != nil { //nolint:bodyclose // the connection is closed
		t.Fatal(err)
	}
	return s
}

func (s *socket) echoes(text string) {
	s.t.Helper()
	fmt.Fprintln(s, text)
	if line, err := s.r.ReadString('\n'); err != nil || line != text+"\n" {
		s.t.Fatalf("got %q (%v), want %q", line, err, text)
	}
}

// ends waits until the other side has hung up.
func (s *socket) ends() {
	s.t.Helper()
	if _, err := io.Copy(io.Discard, s.r); errors.Is(err, context.DeadlineExceeded) || err != nil && strings.Contains(err.Error(), "timeout") {
		s.t.Fatalf("the WebSocket goes on: %v", err)
	}
}

func newSocketGate(t *testing.T) (*gate, *atomic.Int64) {
	asked := new(atomic.Int64)
	g := newGate(t, echo(asked), func(o *envoytest.Options) {
		o.Spec.Routes = append(o.Spec.Routes,
			envoy.Route{Prefix: "/v1/realtime", WebSocket: true},
			envoy.Route{Prefix: "/short/realtime", WebSocket: true, MaxDuration: time.Second})
	})
	return g, asked
}

func TestWebSocket(t *testing.T) {
	g, asked := newSocketGate(t)
	settled := func(s *socket) authz.Observation {
		t.Helper()
		return g.settled.of(t, s.answer.Header.Get("x-request-id"))
	}

	const pause = 50 * time.Millisecond
	s := g.connect(t, http.MethodGet, "/v1/realtime?model=m")
	if s.answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v", s.answer)
	}
	s.echoes("one")
	time.Sleep(pause) // what is measured
	s.echoes("two")
	if r := g.checks.last(); headerOf(&r, "upgrade") != "websocket" || r.HeadersOnly || r.Path != "/v1/realtime?model=m" {
		t.Errorf("the Check saw %+v", r)
	}
	if n := g.settled.count(t); n != 0 {
		t.Errorf("%d settlements while the WebSocket runs", n)
	}
	s.Close()
	if o := settled(s); o.Status != http.StatusSwitchingProtocols || o.Duration < pause || o.Duration > 20*time.Second || o.Reported || o.Upstream == "" {
		t.Errorf("the client hung up: %+v", o)
	} else {
		t.Logf("the client hung up: %+v", o)
	}

	s = g.connect(t, http.MethodGet, "/v1/realtime?model=m")
	s.echoes("hello")
	fmt.Fprintln(s, "bye")
	s.ends()
	if o := settled(s); o.Status != http.StatusSwitchingProtocols {
		t.Errorf("the upstream hung up: %+v", o)
	} else {
		t.Logf("the upstream hung up: %+v", o)
	}

	s = g.connect(t, http.MethodGet, "/short/realtime?model=m")
	s.echoes("hello")
	s.ends()
	if o := settled(s); o.Status != http.StatusSwitchingProtocols || o.Duration < 900*time.Millisecond || o.Duration > 5*time.Second {
		t.Errorf("at MaxDuration: %+v", o)
	} else {
		t.Logf("at MaxDuration: %+v", o)
	}

	s = g.connect(t, http.MethodGet, "/v1/realtime?model=m", "X-Case: refuse")
	if s.answer.StatusCode != http.StatusBadRequest {
		t.Errorf("the upstream refused: %v", s.answer)
	}
	if o := settled(s); o.Status != http.StatusBadRequest {
		t.Errorf("the upstream refused: %+v", o)
	}

	g.checks.hook = func(_ context.Context, _ *dialect.Request, d *authz.Decision) {
		d.Path = "/v1/realtime?a=b%20c&model=org%2Fm%3A1+x&x=%2F"
	}
	s = g.connect(t, http.MethodGet, "/v1/realtime?a=b%20c&model=m&x=%2F")
	if q := s.answer.Header.Get("x-query"); q != "a=b%20c&model=org%2Fm%3A1+x&x=%2F" {
		t.Errorf("the upstream got the query %q: %v", q, s.answer)
	}
	s.Close()
	settled(s)
	if n, made := g.settled.count(t), g.checks.n.Load(); int64(n) != made || asked.Load() != made {
		t.Errorf("%d settled, %d at the upstream, %d admitted", n, asked.Load(), made)
	}
}

// No upgrade passes but on the path of a WebSocket, and there none but that.
func TestUpgradeElsewhere(t *testing.T) {
	g, asked := newSocketGate(t)
	for _, c := range []struct {
		name, method, path string
		headers            []string
	}{
		{"another path", http.MethodGet, "/v1/models", nil},
		{"another path, posted", http.MethodPost, "/v1/chat/completions", []string{"Content-Length: 2\r\n\r\n{}"}},
		{"a path that begins like it", http.MethodGet, "/v1/realtimes", nil},
		{"another protocol", http.MethodGet, "/v1/realtime", []string{"Upgrade: h2c"}},
		{"a tunnel", http.MethodConnect, "gateway:80", nil},
	} {
		s := g.connect(t, c.method, c.path, c.headers...)
		if s.answer.StatusCode < 400 {
			t.Errorf("%s: %v", c.name, s.answer)
		}
		s.Close()
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d upgrades reached the upstream", n)
	}
	eventually(t, "every admission settled", func() bool { return int64(g.settled.count(t)) == g.checks.n.Load() })
}
