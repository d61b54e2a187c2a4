//go:build linux

package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/examples/backend"
)

// testGate is everything that one running gate can be asked.
func testGate(t *testing.T, b *bench) {
	g := startGate(t, b)
	for _, point := range []struct {
		name string
		test func(*testing.T, *gate)
	}{
		{"2 key create prints a key once, list shows it without, revoke acts at once", testKeys},
		{"3 the OpenAI SDK with only base_url and api_key", testSDK},
		{"3 white space around a key is ignored", testWhiteSpace},
		{"3 a missing, wrong, malformed or revoked key is an AuthenticationError", testRefusals},
		{"3 duplicate or case-twin model members, no body, broken JSON: 400", testBodies},
		{"3 a 3 MB prompt and a tool schema 60 levels deep pass", testBigBodies},
		{"4 exactly one event per request, with the exact tokens", testEvents},
		{"4 an outside NATS client can read usage and nothing else", testConsumer},
		{"5 requests per minute", testRequestLimit},
		{"5 20 concurrent requests don't pass a token limit that has room for 3", testTokenLimit},
		{"5 what was not used is given back", testRefund},
	} {
		t.Run(point.name, func(t *testing.T) {
			at := *g // the same gate, failing this test
			at.t = t
			point.test(t, &at)
		})
	}
}

func testKeys(t *testing.T, g *gate) {
	made := g.key("--name", "prod")
	if made.Name != "prod" || made.CreatedAt == "" || made.Prefix == "" || !strings.HasPrefix(made.Key, made.Prefix) {
		t.Errorf("created %+v", made)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", made.CreatedAt); err != nil {
		t.Error(err)
	}
	if res := g.chat(made.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
		t.Fatalf("a new key: %v", res)
	}
	person := g.cli("key", "create", "--name", "for people")
	if line := strings.TrimSpace(person); strings.ContainsAny(line, " \n") || len(line) < 20 {
		t.Errorf("key create printed more than the key on stdout: %q", person)
	}

	type listed struct{ ID, Name, Key, Prefix, CreatedAt, LastUsedAt string }
	var found listed
	within(t, time.Minute, "last used", func() error {
		for _, k := range decodeJSON[[]listed](t, g.cli("key", "list", "-o", "json")) {
			if k.ID == made.ID {
				found = k
			}
		}
		if found.LastUsedAt == "" {
			return fmt.Errorf("%+v", found)
		}
		return nil
	})
	if found.Name != "prod" || found.Prefix != made.Prefix || found.CreatedAt != made.CreatedAt || found.Key != "" {
		t.Errorf("listed %+v", found)
	}
	for _, format := range [][]string{nil, {"-o", "json"}} {
		list := g.cli(append([]string{"key", "list"}, format...)...)
		if strings.Contains(list, made.Key) || strings.Contains(list, strings.TrimSpace(person)) {
			t.Error("key list shows a key")
		}
		if !strings.Contains(list, "prod") || !strings.Contains(list, made.Prefix) {
			t.Errorf("key list: %s", list)
		}
	}

	g.cli("key", "revoke", made.ID)
	for range 20 {
		if res := g.chat(made.Key, chatBody(chatModel, "")); res.status != http.StatusUnauthorized {
			t.Fatalf("a revoked key: %v", res)
		}
	}
	if _, stderr, code := g.tryCLI("key", "revoke", "00000000-0000-4000-8000-000000000000"); code == 0 || stderr == "" {
		t.Errorf("revoking no key: exit code %d, %q", code, stderr)
	}
	for _, place := range []string{g.data, g.dir} {
		if found := contains(t, place, made.Key); len(found) > 0 {
			t.Errorf("the key stands in %v", found)
		}
	}
	if strings.Contains(g.out.String(), made.Key) {
		t.Error("the key stands in the log")
	}
}

// told is a line of sdk.py.
type told struct {
	Call, RequestID, Model string
	Input, Output          int
}

func testSDK(t *testing.T, g *gate) {
	for _, base := range []string{"/v1", "/inference/v1"} {
		k := g.key("--name", "sdk")
		out := g.python("sdk.py", "http://"+g.gateway+base, k.Key, chatModel, embeddingModel, audioModel)
		calls := strings.Split(strings.TrimSpace(out), "\n")
		const streams = 3
		events := g.eventsOf(k, len(calls)+streams)
		for _, line := range calls {
			c := decodeJSON[told](t, line)
			e, ok := events[c.RequestID]
			if !ok {
				t.Errorf("%s: no event for x-request-id %q", c.Call, c.RequestID)
				continue
			}
			d := e.Data
			if d.Model != c.Model || d.InputTokens != c.Input || d.OutputTokens != c.Output ||
				d.Outcome != "completed" || d.Measurement != "reported" || d.Status != 200 || d.Stream {
				t.Errorf("%s: the backend stated %+v, the event says %+v", c.Call, c, d)
			}
		}
		n := 0
		for _, e := range events {
			if e.Data.Stream {
				n++
			}
		}
		if n != streams {
			t.Errorf("%d events of streams, want %d", n, streams)
		}
	}
}

// The SDK itself takes nothing but leading white space, so this is by hand, byte
// by byte.
func testWhiteSpace(t *testing.T, g *gate) {
	k := g.key("--name", "white space")
	g.python("sdk.py", "http://"+g.gateway+"/v1", "  "+k.Key, chatModel, embeddingModel, audioModel)
	for _, line := range []string{
		"Authorization: Bearer " + k.Key + "  ", "Authorization: Bearer \t " + k.Key + "\t", "Authorization:Bearer    " + k.Key,
		"authorization: bearer " + k.Key, "X-Api-Key:   " + k.Key + "  ",
	} {
		conn, err := net.Dial("tcp", g.gateway)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /v1/models HTTP/1.1\r\nHost: gate\r\n%s\r\nConnection: close\r\n\r\n", line)
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		conn.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%q: %d %s", strings.ReplaceAll(line, k.Key, "KEY"), res.StatusCode, body)
		}
	}
}

func testRefusals(t *testing.T, g *gate) {
	k, revoked := g.key("--name", "refusals"), g.key("--name", "revoked")
	g.cli("key", "revoke", revoked.ID)
	before := len(g.backend.Seen())
	for _, base := range []string{"/v1", "/inference/v1"} {
		g.python("refusals.py", "http://"+g.gateway+base, k.Key, revoked.Key, chatModel, coldModel)
	}
	if n := len(g.backend.Seen()) - before; n != 0 {
		t.Errorf("%d refused requests reached the backend", n)
	}
	g.eventsOf(k, 0)
}

func testBodies(t *testing.T, g *gate) {
	k := g.key("--name", "bodies")
	messages := `"messages":[{"role":"user","content":"hi"}]`
	before := len(g.backend.Seen())
	for name, body := range map[string]string{
		"two models":         fmt.Sprintf(`{"model":%q,%s,"model":%q}`, chatModel, messages, coldModel),
		"the same twice":     fmt.Sprintf(`{"model":%q,%s,"model":%q}`, chatModel, messages, chatModel),
		"a case twin":        fmt.Sprintf(`{"model":%q,%s,"Model":%q}`, chatModel, messages, coldModel),
		"an escaped twin":    fmt.Sprintf(`{"model":%q,%s,"mod\u0065l":%q}`, chatModel, messages, coldModel),
		"no body":            "",
		"no JSON":            "hello",
		"broken JSON":        chatBody(chatModel, "")[:40],
		"more than one":      chatBody(chatModel, "") + chatBody(coldModel, ""),
		"no object":          "[]",
		"no model":           "{" + messages + "}",
		"a model of no text": `{"model":7,` + messages + "}",
	} {
		res := g.chat(k.Key, body, "Content-Type: application/json")
		if body != "" {
			res = g.chat(k.Key, body)
		}
		if res.status != http.StatusBadRequest {
			t.Errorf("%s: %v, want 400", name, res)
			continue
		}
		if code, _ := res.refusal(t); code != "invalid_request" {
			t.Errorf("%s: code %q", name, code)
		}
	}
	if n := len(g.backend.Seen()) - before; n != 0 {
		t.Errorf("%d of them reached the backend", n)
	}
	g.eventsOf(k, 0)
}

func testBigBodies(t *testing.T, g *gate) {
	k := g.key("--name", "big")
	prompt := strings.Repeat("word ", 3_000_000/len("word "))
	res := g.chat(k.Key, fmt.Sprintf(`{"messages":[{"role":"user","content":%q}],"max_tokens":3,"model":%q}`, prompt, chatModel))
	if res.status != http.StatusOK {
		t.Fatalf("3 MB: %v", res)
	}
	if in, out := res.stated(t); in != backend.ChatTokens(prompt) || out != 3 {
		t.Errorf("3 MB: the backend saw %d tokens and made %d", in, out)
	}
	const depth = 60
	schema := strings.Repeat(`{"type":"object","properties":{"p":`, depth) + `{"type":"string"}` + strings.Repeat("}}", depth)
	tools := `,"tools":[{"type":"function","function":{"name":"f","parameters":` + schema + `}}]`
	deep := g.chat(k.Key, chatBody(chatModel, tools))
	if deep.status != http.StatusOK {
		t.Errorf("a schema of %d levels: %v", depth, deep)
	}
	events := g.eventsOf(k, 2)
	if e := events[res.header.Get("x-request-id")]; e.Data.InputTokens != backend.ChatTokens(prompt) {
		t.Errorf("3 MB: the event says %+v", e.Data)
	}
}

// testRequestLimit is one key's requests per minute, by hand and by the SDK.
func testRequestLimit(t *testing.T, g *gate) {
	byHand := g.key("--name", "by hand", "--requests-per-minute", "3")
	for want := 2; want >= 0; want-- {
		res := g.chat(byHand.Key, chatBody(chatModel, `,"max_tokens":1`))
		if res.status != http.StatusOK || res.header.Get("x-ratelimit-limit-requests") != "3" ||
			res.header.Get("x-ratelimit-remaining-requests") != fmt.Sprint(want) {
			t.Errorf("with %d remaining after it: %v", want, res)
		}
		if _, err := time.ParseDuration(res.header.Get("x-ratelimit-reset-requests")); err != nil {
			t.Error(err)
		}
	}
	for range 5 {
		if res := g.chat(byHand.Key, chatBody(chatModel, "")); res.status != http.StatusTooManyRequests {
			t.Errorf("over the limit: %v", res)
		}
	}
	g.eventsOf(byHand, 3) // a refused request is none

	bySDK := g.key("--name", "by SDK", "--requests-per-minute", "2")
	g.python("limits.py", "http://"+g.gateway+"/v1", bySDK.Key, chatModel, "2")

	// Requests that never were sent give their place back.
	notSent := g.key("--name", "not sent", "--requests-per-minute", "1")
	if res := g.chat(notSent.Key, chatBody(downModel, "")); res.status != http.StatusServiceUnavailable {
		t.Errorf("a backend that is down: %v", res)
	}
	within(t, time.Minute, "given back", func() error {
		if res := g.chat(notSent.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
			return fmt.Errorf("%v", res)
		}
		return nil
	})
}

// All requests are under way at the same time, and nothing has been settled: what
// holds the rest back is what the first three reserved.
func testTokenLimit(t *testing.T, g *gate) {
	const each, limit = 100, 400 // with the prompt, three are 300 to 400 and four above
	k := g.key("--name", "concurrent", "--tokens-per-minute", fmt.Sprint(limit))
	body := chatBody(chatModel, fmt.Sprintf(`,"max_tokens":%d`, each))
	var wg sync.WaitGroup
	answers := make([]answer, 20)
	for i := range answers {
		wg.Go(func() {
			answers[i] = g.chat(k.Key, body, "x-backend-delay: 2s", fmt.Sprintf("x-backend-tokens: %d", each))
		})
	}
	wg.Wait()
	passed, used := 0, 0
	for _, a := range answers {
		switch a.status {
		case http.StatusOK:
			passed++
			in, out := a.stated(t)
			used += in + out
		case http.StatusTooManyRequests:
			if code, _ := a.refusal(t); code != "rate_limit_exceeded" || a.header.Get("retry-after") == "" ||
				a.header.Get("retry-after-ms") == "" || a.header.Get("x-ratelimit-limit-tokens") != fmt.Sprint(limit) {
				t.Errorf("refused: %v", a)
			}
		default:
			t.Errorf("%v", a)
		}
	}
	if passed != 3 || used > limit {
		t.Errorf("%d passed with %d tokens, want 3 with at most %d", passed, used, limit)
	}
	g.eventsOf(k, 3)

	res := g.chat(k.Key, chatBody(chatModel, `,"max_tokens":5000`))
	if code, _ := res.refusal(t); res.status != http.StatusBadRequest || code != "token_request_too_large" {
		t.Errorf("more than the whole limit: %v", res)
	}
}

func testRefund(t *testing.T, g *gate) {
	k := g.key("--name", "refund", "--tokens-per-minute", "1000")
	body := chatBody(chatModel, `,"max_tokens":900`)
	for n := range 5 {
		within(t, time.Minute, "given back", func() error {
			if res := g.chat(k.Key, body, "x-backend-tokens: 10"); res.status != http.StatusOK {
				return fmt.Errorf("request %d: %v", n+1, res)
			}
			return nil
		})
	}
}
