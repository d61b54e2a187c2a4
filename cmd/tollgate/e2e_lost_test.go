//go:build linux

package main_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// testLostRequests hangs up as early as a client can: some of it falls between
// Tollgate's answer to the Check and Envoy's reading it, so that the request goes
// nowhere and nothing is there to settle it with. What such an admission holds must
// come back soon, not when the sweep finds it an hour later.
func testLostRequests(t *testing.T, b *bench) {
	g := startGate(t, b)
	k := g.key("--name", "impatient", "--concurrent-requests", "100")
	body := chatBody(chatModel, "")
	request := fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		k.Key, len(body), body)
	for i := range 400 {
		conn, err := net.Dial("tcp", g.gateway)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i%40) * 150 * time.Microsecond) // each moment of the first 6 ms, in turn
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	within(t, time.Minute, "without open admissions", func() error {
		if open := g.metric("tollgate_admissions_open"); open != 0 {
			return fmt.Errorf("%v admissions are open", open)
		}
		return nil
	})
	if res := g.chat(k.Key, body); res.status != http.StatusOK {
		t.Errorf("a request after the hang-ups: %v", res)
	}
	reached := map[string]bool{}
	for _, r := range g.backend.Seen() {
		reached[r.Header.Get("x-tollgate-request-id")] = true
	}
	lost := 0
	seen := map[string]bool{}
	for _, e := range g.events() {
		if seen[e.ID] {
			t.Errorf("two events for %s", e.ID)
		}
		seen[e.ID] = true
		if e.Data.Outcome == "not_sent" {
			lost++
			if reached[e.ID] {
				t.Errorf("%s reached the backend, and is not_sent", e.ID)
			}
			if e.Data.InputTokens != 0 || e.Data.OutputTokens != 0 {
				t.Errorf("a request that went nowhere used tokens: %+v", e.Data)
			}
		}
	}
	t.Logf("%d admissions of 400 hang-ups, %d of them went nowhere", len(seen)-1, lost)
}
