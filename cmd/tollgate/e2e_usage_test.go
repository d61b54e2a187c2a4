//go:build linux

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tollgate/examples/backend"
)

// testEvents compares what the backend stated, and did, with the events.
func testEvents(t *testing.T, g *gate) {
	k := g.key("--name", "events")
	began := time.Now().Add(-time.Millisecond) // as exact as an event's time is
	type want struct {
		outcome, measurement string
		status, in, out      int
		cached               int
	}
	wanted := map[string]want{} // by request id
	remember := func(res answer, w want) {
		t.Helper()
		id := res.header.Get("x-request-id")
		if id == "" || id == "backend-own-id" || res.status != w.status {
			t.Errorf("want status %d and our x-request-id: %v", w.status, res)
		}
		wanted[id] = w
	}

	in := backend.ChatTokens("hi")
	for n := range 5 {
		res := g.chat(k.Key, chatBody(chatModel, ""), fmt.Sprintf("x-backend-tokens: %d", 11*n), fmt.Sprintf("x-backend-cached: %d", n))
		remember(res, want{"completed", "reported", 200, in, 11 * n, min(n, in)})
	}
	remember(g.chat(k.Key, chatBody(chatModel, `,"n":3,"max_tokens":4`)), want{"completed", "reported", 200, in, 12, 0})
	remember(g.try(http.MethodPost, "http://"+g.gateway+"/v1/completions", k.Key,
		fmt.Sprintf(`{"prompt":["a b","c"],"max_tokens":2,"model":%q}`, chatModel)), want{"completed", "reported", 200, 3, 2, 0})
	for _, status := range []int{500, 503, 599} {
		res := g.chat(k.Key, chatBody(chatModel, ""), fmt.Sprintf("x-backend-status: %d", status))
		remember(res, want{outcome: "upstream_error", status: status})
	}
	// What the caller got wrong is an answer like any other.
	remember(g.chat(k.Key, fmt.Sprintf(`{"model":%q,"messages":[]}`, chatModel)), want{outcome: "completed", status: 400})
	remember(g.chat(k.Key, chatBody(downModel, "")), want{outcome: "not_sent", status: 503})

	sent := time.Now()
	events := g.eventsOf(k, len(wanted))
	for id, w := range wanted {
		e, ok := events[id]
		if !ok {
			t.Errorf("no event for request %s, want %+v", id, w)
			continue
		}
		d := e.Data
		if d.Outcome != w.outcome || d.Status != w.status || d.InputTokens != w.in || d.OutputTokens != w.out || d.CacheReadInputTokens != w.cached ||
			(w.measurement != "" && d.Measurement != w.measurement) {
			t.Errorf("want %+v, the event says %+v", w, d)
		}
		if e.SpecVersion != "1.0" || e.Type != "tollgate.usage.v1" || e.ID != id || e.Subject != "demo" || d.Workspace != "demo" ||
			!strings.HasPrefix(e.Source, "//") || !strings.HasSuffix(e.Source, "/tollgate") ||
			e.Time.After(sent) || e.Time.Before(began) {
			t.Errorf("the envelope: %+v", e)
		}
	}
	testUpstreamSees(t, g, k, wanted)
	testTail(t, g, k)
}

// testUpstreamSees looks at the same requests from the backend's side.
func testUpstreamSees[V any](t *testing.T, g *gate, k newKey, wanted map[string]V) {
	t.Helper()
	res := g.chat(k.Key, chatBody(chatModel, ""), "x-tollgate-user: forged", "x-tollgate-anything: forged", "X-Api-Key: "+k.Key)
	if res.status != http.StatusOK {
		t.Fatalf("the same key in two headers: %v", res)
	}
	known := 0
	for _, r := range g.backend.Seen() {
		for name, values := range r.Header {
			if text := strings.Join(values, ","); strings.Contains(text, k.Key) || strings.Contains(text, "forged") {
				t.Errorf("the backend got %s: %s", name, strings.ReplaceAll(text, k.Key, "KEY"))
			}
		}
		if r.Header.Get("x-tollgate-key-id") != k.ID {
			continue
		}
		known++
		if r.Header.Get("x-tollgate-request-id") == "" || r.Header.Get("x-tollgate-workspace") != "demo" ||
			r.Header.Get("x-tollgate-model") != chatModel || r.Header.Get("x-tollgate-plan") != "open" {
			t.Errorf("the backend got %v", r.Header)
		}
	}
	if want := len(wanted) - 1 + 1; known != want { // all but the one that nobody listens to, and this one
		t.Errorf("the backend saw %d requests of the key, want %d", known, want)
	}
}

// testTail sees an event come while it looks.
func testTail(t *testing.T, g *gate, k newKey) {
	t.Helper()
	var out output
	tail := g.command("events", "tail", "-o", "json")
	tail.Stdout, tail.Stderr = &out, &out
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = tail.Process.Kill()
		_ = tail.Wait()
	}()
	within(t, time.Minute, "told by events tail", func() error {
		res := g.chat(k.Key, chatBody(chatModel, ""))
		id := res.header.Get("x-request-id")
		deadline := time.Now().Add(2 * time.Second)
		for time.Now().Before(deadline) {
			if strings.Contains(out.String(), id) {
				return nil
			}
			time.Sleep(20 * time.Millisecond)
		}
		return fmt.Errorf("request %s: %q", id, out.tail(3))
	})
}

// testConsumer lets nats-py in, while requests go on that it must not hear of but
// by its own consumer.
func testConsumer(t *testing.T, g *gate) {
	const events = 3
	credential := g.cli("consumer", "create", "billing", "-o", "json")
	other := decodeJSON[struct{ Durable string }](t, g.cli("consumer", "create", "somebody-else", "-o", "json"))
	k := g.key("--name", "consumed")
	for range events {
		g.chat(k.Key, chatBody(chatModel, ""))
	}
	g.eventsOf(k, events)

	ctx, cancel := context.WithCancel(t.Context())
	background := make(chan struct{})
	go func() {
		defer close(background)
		for ctx.Err() == nil {
			g.chat(k.Key, chatBody(chatModel, ""))
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	out := g.python("consumer.py", credential, fmt.Sprint(events), other.Durable)
	cancel()
	<-background

	stored := map[string]event{}
	for _, e := range g.events() {
		stored[e.ID] = e
	}
	for line := range strings.Lines(out) {
		got := decodeJSON[struct {
			Subject string
			Event   json.RawMessage
		}](t, line)
		e := decodeJSON[event](t, string(got.Event))
		if _, ok := stored[e.ID]; !ok {
			t.Errorf("nats-py got an event that the list has not: %s", line)
		}
		if want := "tollgate.usage.v1." + e.Data.Workspace + "." + e.Data.Key + "."; !strings.HasPrefix(got.Subject, want) {
			t.Errorf("subject %s, want %s…", got.Subject, want)
		}
	}
	for id, e := range stored {
		if e.Data.Key == "forged" || e.Type != "tollgate.usage.v1" {
			t.Errorf("a consumer could write event %s: %+v", id, e)
		}
	}

	g.cli("consumer", "delete", "billing")
	password := decodeJSON[struct{ Password string }](t, credential).Password
	if found := contains(t, g.data, password); len(found) > 0 {
		t.Errorf("the consumer's password stands in %v", found)
	}
}
