//go:build linux

package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// testWebSocket goes through OpenAI's realtime path: one check at the handshake,
// one event at the end with its duration, and a slot held in between.
func testWebSocket(t *testing.T, b *bench) {
	const most = 2 * time.Second
	seen := make(chan *http.Request, 10)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	}))
	t.Cleanup(upstream.Close)
	g := newGate(t, b)
	catalog := filepath.Join(g.dir, "websocket.yaml")
	text := fmt.Sprintf("workspaces: [{id: demo, plan: open}]\nplans: [{id: open}]\nroutes: [{dialect: openai, maxWebSocketDuration: %v}]\n"+
		"models: [{id: org/speech, upstreamModel: speech-1, upstreams: [{url: %q}]}]\n", most, upstream.URL+"/base")
	if err := os.WriteFile(catalog, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.env = append(g.env, "TOLLGATE_CATALOG="+catalog)
	g.start("up")
	g.waitReady()
	k := g.key("--name", "speech", "--concurrent-requests", "1", "--tokens-per-minute", "10")

	connect := func() (conn net.Conn, r *bufio.Reader, status int, id string) {
		t.Helper()
		conn, err := net.Dial("tcp", g.gateway)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprintf(conn, "GET /v1/realtime?model=org%%2Fspeech&intent=talk HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n"+
			"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGVzdHRlc3R0ZXN0dGVzdA==\r\n\r\n", k.Key)
		r = bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close() // it has none: what follows is read from r
		return conn, r, res.StatusCode, res.Header.Get("x-request-id")
	}
	conn, r, status, id := connect()
	if status != http.StatusSwitchingProtocols {
		t.Fatal(status)
	}
	if up := <-seen; up.URL.String() != "/base/v1/realtime?model=speech-1&intent=talk" || up.Header.Get("authorization") != "" || up.Header.Get("x-tollgate-model") != "org/speech" {
		t.Errorf("the upstream got %s %v", up.URL, up.Header)
	}
	fmt.Fprintln(conn, "hello")
	if line, err := r.ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if _, _, status, _ := connect(); status != http.StatusTooManyRequests {
		t.Errorf("a second one beside it: %d", status)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Errorf("until the end: %v", err)
	}
	e, ok := g.eventsOf(k, 1)[id]
	if d := e.Data; !ok || d.Outcome != "completed" || d.Measurement != "estimated" || d.Status != http.StatusSwitchingProtocols ||
		d.DurationMs < int(most.Milliseconds())-100 || d.DurationMs > 20_000 || d.InputTokens+d.OutputTokens != 0 || d.Model != "org/speech" {
		t.Errorf("the event of %s: %+v", id, e)
	}
	if _, _, status, _ := connect(); status != http.StatusSwitchingProtocols {
		t.Errorf("after its end: %d", status)
	}

	// A plain request, and an upgrade where there is none.
	for _, path := range []string{"/v1/realtime?model=org/speech", "/v1/realtime"} {
		if res := g.try(http.MethodGet, "http://"+g.gateway+path, k.Key, ""); res.status != http.StatusBadRequest {
			t.Errorf("%s: %v", path, res)
		}
	}
	if res := g.try(http.MethodGet, "http://"+g.gateway+"/v1/models", k.Key, "", "Connection: Upgrade", "Upgrade: websocket"); res.status < 400 {
		t.Errorf("an upgrade on another path: %v", res)
	}
}
