//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// spoken are answers of services that the example backend isn't, by the path that an
// upstream sees.
var spoken = map[string]string{
	"POST /v1/messages": `{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"Hi"}],` +
		`"stop_reason":"end_turn","usage":{"input_tokens":12,"cache_read_input_tokens":30,"cache_creation_input_tokens":5,"output_tokens":4}}`,
	"POST /v1/messages/count_tokens": `{"input_tokens":2095}`,
	"POST /v2/chat": `{"id":"c","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"text","text":"\"usage\":{\"billed_units\":{\"input_tokens\":9}}"}]},` +
		`"usage":{"billed_units":{"input_tokens":5,"output_tokens":418},"tokens":{"input_tokens":71,"output_tokens":418}}}`,
	"POST /v2/embed":  `{"id":"e","embeddings":{"float":[[0.1]]},"texts":["a"],"meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":2.0}}}`,
	"POST /v2/rerank": `{"id":"r","results":[{"index":0,"relevance_score":0.9}],"meta":{"billed_units":{"search_units":3}}}`,
}

// spokenEvents are the same as event streams.
var spokenEvents = map[string]string{
	"POST /v1/messages": "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\"cache_read_input_tokens\":30,\"output_tokens\":1}}}\n\n" +
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n" +
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n" +
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
	"POST /v2/chat": "event: content-delta\ndata: {\"type\":\"content-delta\",\"delta\":{\"message\":{\"content\":{\"text\":\"Hi\"}}}}\n\n" +
		"event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"input_tokens\":6,\"output_tokens\":7},\"tokens\":{\"input_tokens\":60,\"output_tokens\":7}}}}\n\n",
}

// speak is an upstream of all these services, and Azure's: it has the backend's
// paths below a deployment.
func speak(backend http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Method + " " + r.URL.Path
		text, other := spoken[name]
		if deployment, found := strings.CutPrefix(r.URL.Path, "/openai/deployments/"); found {
			for _, operation := range []string{"/chat/completions", "/embeddings"} {
				if strings.HasSuffix(deployment, operation) {
					r.URL.Path = "/v1" + operation
				}
			}
		}
		if !other {
			backend.ServeHTTP(w, r)
			return
		}
		var body struct {
			Stream bool `json:"stream"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("request-id", "the upstream's own")
		if body.Stream {
			w.Header().Set("Content-Type", "text/event-stream")
			text = spokenEvents[name]
		}
		if r.Header.Get("x-hold") != "" {
			begins, _, _ := strings.Cut(text, "event: message_delta")
			_, _ = w.Write([]byte(begins))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		_, _ = w.Write([]byte(text))
	})
}

// testDialects has services of several kinds at one gateway: told apart by their
// paths, a header, or the host.
func testDialects(t *testing.T, b *bench) {
	g := newGate(t, b)
	upstream := httptest.NewServer(speak(g.backend))
	t.Cleanup(upstream.Close)
	text := "workspaces: [{id: demo, plan: open}]\nplans: [{id: open, limits: {requestsPerMinute: 1000, tokensPerMinute: 100000}}]\n" +
		"routes:\n  - {dialect: openai}\n  - {dialect: anthropic, cors: {origins: ['https://app.example.com']}}\n  - {dialect: azure}\n  - {dialect: cohere}\n" +
		"  - {dialect: minimax}\n  - {dialect: minibase}\n" +
		"  - {dialect: podstack, hosts: [pod.example.com]}\nmodels:\n"
	for _, id := range []string{chatModel, embeddingModel, "claude-x", "command-x"} {
		text += fmt.Sprintf("  - {id: %q, upstreams: [{url: %q}], rates: {request: '0.002'}}\n", id, upstream.URL)
	}
	text += fmt.Sprintf("  - {id: %q, upstreams: [{url: 'http://%s'}]}\n", downModel, freeAddr(t))
	if err := os.WriteFile(filepath.Join(g.dir, "catalog.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start("up")
	g.waitReady()
	t.Run("Anthropic's", func(t *testing.T) { dialectAnthropic(t, g) })
	t.Run("Azure's, by the OpenAI SDK", func(t *testing.T) { dialectAzure(t, g) })
	t.Run("Cohere's, the sixth service", func(t *testing.T) { dialectCohere(t, g) })
	t.Run("Envoy's own errors", func(t *testing.T) { dialectErrors(t, g) })
	t.Run("a hang-up in the middle", func(t *testing.T) { dialectHangUp(t, g) })
	t.Run("hosts and pages", func(t *testing.T) { dialectHosts(t, g) })
	g.stop(syscall.SIGTERM)
}

const version = "anthropic-version: 2023-06-01"

func dialectAnthropic(t *testing.T, g *gate) {
	k := g.key("--name", "anthropic")
	at := "http://" + g.gateway
	message := `{"model":"claude-x","max_tokens":100,"messages":[{"role":"user","content":"Hello"}]%s}`
	send := func(path, body string) answer {
		res := g.try(http.MethodPost, at+path, "", body, "x-api-key: "+k.Key, version)
		if res.status != http.StatusOK || res.header.Get("request-id") != res.header.Get("x-request-id") || res.header.Get("anthropic-ratelimit-tokens-limit") != "100000" {
			t.Errorf("%s: %v", path, res)
		}
		if reset, err := time.Parse(time.RFC3339, res.header.Get("anthropic-ratelimit-requests-reset")); err != nil || time.Until(reset) > 2*time.Minute {
			t.Errorf("%s: %v %v", path, err, res)
		}
		return res
	}
	whole := send("/v1/messages", fmt.Sprintf(message, ""))
	stream := send("/v1/messages?beta=true", fmt.Sprintf(message, `,"stream":true`))
	if stream.body != spokenEvents["POST /v1/messages"] {
		t.Errorf("the stream was changed: %s", stream.body)
	}
	count := send("/v1/messages/count_tokens", fmt.Sprintf(message, ""))
	events := g.eventsOf(k, 3)
	for _, c := range []struct {
		of                    answer
		input, cached, output int
		measurement           string
	}{{whole, 47, 30, 4, "reported"}, {stream, 42, 30, 15, "reported"}, {count, 0, 0, 0, "reported"}} {
		e := events[c.of.header.Get("request-id")].Data
		if e.InputTokens != c.input || e.CacheReadInputTokens != c.cached || e.OutputTokens != c.output || e.Measurement != c.measurement ||
			e.Dialect != "anthropic" || e.Outcome != "completed" {
			t.Errorf("%+v", e)
		}
	}

	for _, c := range []struct {
		name, key, body, kind string
		status                int
	}{
		{"a wrong key", "wrong", fmt.Sprintf(message, ""), "authentication_error", 401},
		{"an unknown model", k.Key, `{"model":"none"}`, "not_found_error", 404},
		{"somebody's file", k.Key, fmt.Sprintf(message, `,"container":"c"`), "invalid_request_error", 400},
		{"more than the limit", k.Key, `{"model":"claude-x","max_tokens":100001}`, "invalid_request_error", 400},
	} {
		res := g.try(http.MethodPost, at+"/v1/messages", "", c.body, "x-api-key: "+c.key, version)
		body := decodeJSON[struct {
			Type      string
			Error     struct{ Type, Message string }
			RequestID string `json:"request_id"`
		}](t, res.body)
		if res.status != c.status || body.Type != "error" || body.Error.Type != c.kind || body.Error.Message == "" || body.RequestID != res.header.Get("request-id") {
			t.Errorf("%s: %v", c.name, res)
		}
	}

	// What isn't there is refused so too, also where no other path begins alike.
	for _, path := range []string{"/v1/messages/batches", "/v1/files"} {
		res := g.try(http.MethodGet, at+path, k.Key, "", version)
		if res.status != 404 || !strings.HasPrefix(res.body, `{"type":"error","error":{"type":"not_found_error"`) || !strings.Contains(res.body, res.header.Get("request-id")) {
			t.Errorf("%s: %v", path, res)
		}
	}

	// The list of models is OpenAI's too: the header says whose is meant.
	if res := g.try(http.MethodGet, at+"/v1/models", k.Key, "", version); res.status != 200 || !strings.Contains(res.body, `"has_more":false`) || !strings.Contains(res.body, `"claude-x"`) {
		t.Errorf("Anthropic's models: %v", res)
	}
	if res := g.try(http.MethodGet, at+"/v1/models", k.Key, ""); res.status != 200 || !strings.HasPrefix(res.body, `{"object":"list"`) {
		t.Errorf("OpenAI's models: %v", res)
	}
	if res := g.try(http.MethodGet, at+"/v1/models/claude-x", k.Key, "", version); !strings.HasPrefix(res.body, `{"type":"model","id":"claude-x"`) {
		t.Errorf("one of Anthropic's models: %v", res)
	}
}

func dialectAzure(t *testing.T, g *gate) {
	k := g.key("--name", "azure")
	ids := strings.Fields(g.python("azure.py", "http://"+g.gateway, k.Key, chatModel, embeddingModel))
	if len(ids) != 5 {
		t.Fatalf("requests %q", ids)
	}
	events := g.eventsOf(k, len(ids))
	for i, id := range ids {
		e := events[id].Data
		if e.Dialect != "azure" || e.Measurement != "reported" || e.InputTokens == 0 || (e.Model == chatModel) != (e.OutputTokens > 0) {
			t.Errorf("request %d: %+v", i, e)
		}
	}
}

func dialectCohere(t *testing.T, g *gate) {
	k := g.key("--name", "cohere")
	send := func(path, body string) string {
		t.Helper()
		res := g.try(http.MethodPost, "http://"+g.gateway+path, k.Key, body)
		if res.status != http.StatusOK {
			t.Fatalf("%s: %v", path, res)
		}
		return res.header.Get("x-request-id")
	}
	chat := send("/v2/chat", `{"model":"command-x","messages":[{"role":"user","content":"hi"}]}`)
	stream := send("/v2/chat", `{"model":"command-x","stream":true,"messages":[{"role":"user","content":"hi"}]}`)
	embed := send("/v2/embed", `{"model":"command-x","texts":["a"],"input_type":"classification"}`)
	rerank := send("/v2/rerank", `{"model":"command-x","query":"q","documents":["d"]}`)
	events := g.eventsOf(k, 4)
	for id, want := range map[string][2]int{chat: {5, 418}, stream: {6, 7}, embed: {2, 0}} {
		if e := events[id].Data; e.InputTokens != want[0] || e.OutputTokens != want[1] || e.Measurement != "reported" || e.Dialect != "cohere" {
			t.Errorf("%+v, want %v", e, want)
		}
	}
	found := false
	for line := range strings.Lines(g.cli("events", "list", "--since", "1h", "-o", "json")) {
		if strings.Contains(line, rerank) {
			found = strings.Contains(line, `"units":{"request":"3"}`) && strings.Contains(line, `"cost":"0.006"`)
			if !found {
				t.Errorf("three searches: %s", line)
			}
		}
	}
	if !found {
		t.Error("a rerank has no event with its searches")
	}
	res := g.try(http.MethodPost, "http://"+g.gateway+"/v2/chat", "wrong", `{"model":"command-x"}`)
	if body := decodeJSON[struct{ ID, Message string }](t, res.body); res.status != 401 || body.Message == "" || body.ID != res.header.Get("x-request-id") {
		t.Errorf("a wrong key: %v", res)
	}
}

func dialectHosts(t *testing.T, g *gate) {
	k := g.key("--name", "hosts")
	ask := func(host string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.gateway+"/inference/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("Authorization", "Bearer "+k.Key)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	for host, want := range map[string]int{"pod.example.com": 200, "POD.example.com.:8080": 200, "example.com": 404, g.gateway: 404} {
		if got := ask(host); got != want {
			t.Errorf("%s: %d, want %d", host, got, want)
		}
	}
	preflight := func(path, origin string) answer {
		return g.try(http.MethodOptions, "http://"+g.gateway+path, "", "", "origin: "+origin, "access-control-request-method: POST")
	}
	if res := preflight("/v1/messages", "https://app.example.com"); res.status != 200 || res.header.Get("access-control-allow-origin") != "https://app.example.com" {
		t.Errorf("a preflight: %v", res)
	}
	for path, origin := range map[string]string{"/v1/messages": "https://evil.example", "/v1/chat/completions": "https://app.example.com"} {
		if res := preflight(path, origin); res.status == 200 || res.header.Get("access-control-allow-origin") != "" {
			t.Errorf("%s for %s: %v", path, origin, res)
		}
	}
}
