package envoy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"tollgate/authz"
)

// usageCases are answers of model APIs and what they state.
var usageCases = []struct {
	name, kind, body string
	want             authz.Tokens
	none             bool // states no tokens
	events           int64
}{
	{name: "chat", kind: "application/json",
		body: `{"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":3}},"system_fingerprint":"x"}`,
		want: authz.Tokens{Input: 11, Output: 7, CacheRead: 4, Reasoning: 3}},
	{name: "embeddings", kind: "application/json",
		body: `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-0.2]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}`,
		want: authz.Tokens{Input: 8}},
	{name: "transcription", kind: "application/json",
		body: `{"text":"hello","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}`,
		want: authz.Tokens{Input: 14, Output: 45}},
	{name: "transcription by duration", kind: "application/json", body: `{"text":"hello","usage":{"type":"duration","seconds":4}}`, none: true},
	{name: "responses", kind: "application/json; charset=utf-8",
		body: `{"id":"resp_1","object":"response","output":[{"type":"message","content":[{"type":"output_text","text":"x"}]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":5},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":9},"total_tokens":123},"user":null}`,
		want: authz.Tokens{Input: 36, Output: 87, CacheRead: 5, Reasoning: 9}},
	{name: "anthropic", kind: "application/json",
		body: `{"id":"msg_1","type":"message","content":[{"type":"text","text":"x"}],"model":"m","usage":{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":20},"output_tokens":40}}`,
		want: authz.Tokens{Input: 60, Output: 40, CacheRead: 30, CacheCreation: 20}},
	{name: "only a total", kind: "application/json", body: `{"usage":{"total_tokens":50}}`, want: authz.Tokens{Input: 50}},
	{name: "zero is stated", kind: "application/json", body: `{"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`},
	{name: "usage first, spaced", kind: "application/json",
		body: "\n{ \"usage\" : { \"prompt_tokens\" : 5 ,\n \"completion_tokens\" : 6 } , \"choices\" : [ { } ] }\n",
		want: authz.Tokens{Input: 5, Output: 6}},
	{name: "usage in text", kind: "application/json",
		body: `{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":9}} \\"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`,
		want: authz.Tokens{Input: 1, Output: 2}},
	{name: "an escaped quote", kind: "application/json", body: `{"a":"\"","usage":{"prompt_tokens":3},"b":"\""}`, want: authz.Tokens{Input: 3}},
	{name: "an escaped backslash", kind: "application/json", body: `{"a":"\\","usage":{"prompt_tokens":3},"b":"\\"}`, want: authz.Tokens{Input: 3}},
	{name: "usage deeper", kind: "application/json",
		body: `{"data":[{"usage":{"prompt_tokens":9}}],"x":{"usage":{"prompt_tokens":9}},"kind":"usage","y":{"prompt_tokens":9}}`, none: true},
	{name: "usage as a string", kind: "application/json", body: `{"usage":"{\"prompt_tokens\":9}"}`, none: true},
	{name: "usage is null", kind: "application/json", body: `{"usage":null,"prompt_tokens":9}`, none: true},
	{name: "numbers that are no counts", kind: "application/json",
		body: `{"usage":{"prompt_tokens":-1,"completion_tokens":1.5,"total_tokens":99999999999999999999}}`, none: true},
	{name: "counts as doubles are written", kind: "application/json", body: `{"usage":{"prompt_tokens":12.0,"completion_tokens":1.2e1,"total_tokens":24}}`,
		want: authz.Tokens{Input: 12, Output: 12}},
	{name: "one of them is no count", kind: "application/json", body: `{"usage":{"prompt_tokens":"12","completion_tokens":5}}`, none: true},
	{name: "one of them is too large", kind: "application/json", body: `{"usage":{"prompt_tokens":9999999999999999,"completion_tokens":5}}`, none: true},
	{name: "a part is no count", kind: "application/json",
		body: `{"usage":{"prompt_tokens":12,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":-1}}}`, none: true},
	{name: "some are null", kind: "application/json",
		body: `{"usage":{"prompt_tokens":12,"input_tokens":null,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":null}}}`, want: authz.Tokens{Input: 12, Output: 5}},
	{name: "an array of answers", kind: "application/json", body: `[{"usage":{"prompt_tokens":9}}]`, none: true},
	{name: "not JSON", kind: "text/plain", body: `{"usage":{"prompt_tokens":9}}`, none: true},
	{name: "broken JSON", kind: "application/json", body: `}]"usage":{"prompt_tokens":9}}`, none: true},
	{name: "chat stream", kind: "text/event-stream",
		body: sse(`{"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"data: a"}}],"usage":null}`,
			`{"id":"c1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}`, "[DONE]"),
		want: authz.Tokens{Input: 11, Output: 7, CacheRead: 4, Reasoning: 3}, events: 1},
	{name: "chat stream without usage", kind: "text/event-stream",
		body: "data:{\"choices\":[]}\r\n\r\ndata:{\"choices\":[]}\r\n\r\ndata:[DONE]\r\n\r\n", none: true, events: 2},
	{name: "responses stream", kind: "text/event-stream",
		body: "event: response.created\n" + sse(`{"type":"response.created","response":{"id":"resp_1","object":"response","usage":null}}`) +
			"event: response.completed\n" + sse(`{"type":"response.completed","response":{"id":"resp_1","object":"response","status":"completed","output":[],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":5},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":9},"total_tokens":123}}}`),
		want: authz.Tokens{Input: 36, Output: 87, CacheRead: 5, Reasoning: 9}, events: 2},
	{name: "anthropic stream", kind: "text/event-stream; charset=utf-8",
		body: "event: message_start\n" + sse(`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","usage":{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":30,"output_tokens":1}}}`) +
			"event: message_delta\n" + sse(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":40}}`) +
			"event: message_stop\n" + sse(`{"type":"message_stop"}`),
		want: authz.Tokens{Input: 60, Output: 40, CacheRead: 30, CacheCreation: 20}, events: 3},
}

func sse(events ...string) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString("data: " + e + "\n\n")
	}
	return b.String()
}

// Every API's usage is read as stated, and every byte of an answer reaches the
// client before the next one exists: the upstream writes a byte only when the
// client has the one before. So each split of an answer is tried, too.
func TestUsageByteByByte(t *testing.T) {
	arrived := make(chan struct{})
	g := newGate(t, func(w http.ResponseWriter, r *http.Request) {
		c := usageCases[atoi(r.Header.Get("x-case"))]
		w.Header().Set("content-type", c.kind)
		w.WriteHeader(http.StatusOK)
		flusher := http.NewResponseController(w)
		for i := range len(c.body) {
			_, _ = io.WriteString(w, c.body[i:i+1])
			_ = flusher.Flush()
			select {
			case <-arrived:
			case <-r.Context().Done():
				return
			}
		}
	}, nil)
	for i, c := range usageCases {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL+"/v1/x", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer good")
			req.Header.Set("X-Case", fmt.Sprint(i))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got := make([]byte, len(c.body))
			for at := range got {
				if _, err := io.ReadFull(resp.Body, got[at:at+1]); err != nil {
					t.Fatalf("byte %d: %v", at, err)
				}
				arrived <- struct{}{}
			}
			if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 || string(got) != c.body {
				t.Errorf("the body was changed to %q + %q (%v)", got, rest, err)
			}
			o := g.settled.of(t, resp.Header.Get("x-request-id"))
			if o.Reported == c.none || o.Tokens != c.want {
				t.Errorf("reported %v, tokens %+v; want %v, %+v", o.Reported, o.Tokens, !c.none, c.want)
			}
			if o.Events != c.events || o.Bytes != int64(len(c.body)) || !o.Complete || o.Status != 200 || o.Flags != "" {
				t.Errorf("observed %+v; want %d events, %d bytes", o, c.events, len(c.body))
			}
		})
	}
}

// Where in a long answer the usage stands makes no difference.
func TestUsageOfLongAnswers(t *testing.T) {
	long := `"data":[{"embedding":[` + strings.Repeat("0.123456,", 300_000) + `1]},{"text":"` + strings.Repeat(`\"{[`, 100_000) + `"}]`
	usage := `"usage":{"prompt_tokens":77,"total_tokens":77}`
	bodies := []string{"{" + usage + "," + long + "}", "{" + long + "," + usage + "}", "{" + long + "," + usage + "," + strings.Replace(long, "data", "more", 1) + "}"}
	g := newGate(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "application/json")
		_, _ = io.WriteString(w, bodies[atoi(r.Header.Get("x-case"))])
	}, nil)
	for i, body := range bodies {
		a := g.post(t, "/v1/embeddings", "{}", fmt.Sprint("x-case: ", i))
		if a.body != body {
			t.Errorf("body %d was changed", i)
		}
		if o := g.settled.of(t, a.token()); !o.Reported || o.Tokens.Input != 77 || o.Bytes != int64(len(body)) {
			t.Errorf("body %d: %+v", i, o)
		}
	}
}

// A compressed answer, which the upstream was told not to send, goes by unread.
func TestUsageOfCompressedAnswer(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, r *http.Request) {
		if v := r.Header.Get("accept-encoding"); v != "" {
			t.Errorf("the upstream was asked for %q", v)
		}
		w.Header().Set("content-type", "application/json")
		w.Header().Set("content-encoding", "br")
		_, _ = io.WriteString(w, `{"usage":{"prompt_tokens":1}}`)
	}, nil)
	a := g.post(t, "/v1/x", "{}", "accept-encoding: br")
	if o := g.settled.of(t, a.token()); o.Reported || !o.Complete {
		t.Errorf("%+v", o)
	}
}

func atoi(s string) int {
	n := 0
	_, _ = fmt.Sscan(s, &n)
	return n
}
