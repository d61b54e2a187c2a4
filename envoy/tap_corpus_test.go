package envoy_test

import (
	"strings"

	"tollgate/authz"
)

// A stream is an event stream as an upstream sends it and what the tap makes of
// it.
type stream struct {
	name string
	// body has the events that a client who didn't ask for them doesn't get in
	// «quotes», which are not sent.
	body   string
	want   authz.Tokens
	none   bool // states no tokens, or as want only what went in
	events int64
	// cut says that the body ends in the middle of what may be the usage chunk.
	cut bool
}

// sent is what the upstream sends.
func (s stream) sent() string { return strings.NewReplacer("«", "", "»", "").Replace(s.body) }

// stripped is what is left of it for a client who didn't ask for the usage.
func (s stream) stripped() string {
	left, rest, _ := strings.Cut(s.body, "«")
	for rest != "" {
		var kept string
		_, rest, _ = strings.Cut(rest, "»")
		kept, rest, _ = strings.Cut(rest, "«")
		left += kept
	}
	return left
}

const (
	hello = `{"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}`
	used  = `{"id":"c","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}`
	done  = "data: [DONE]\n\n"
)

var usedTokens = authz.Tokens{Input: 11, Output: 7}

// streams is every form of an event stream that the tap is known to have met or
// might meet.
var streams = []stream{
	{name: "usual", events: 2, want: usedTokens,
		body: sse(hello, hello) + "«" + sse(used) + "»" + done},
	{name: "all details", events: 1, want: authz.Tokens{Input: 11, Output: 7, CacheRead: 4, Reasoning: 3},
		body: sse(`{"choices":[{"delta":{"content":"a"}}],"usage":null}`) +
			"«" + sse(`{"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"prompt_tokens_details":{"audio_tokens":0,"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}`) + "»" + done},
	{name: "CRLF", events: 1, want: usedTokens,
		body: "data: " + hello + "\r\n\r\n«data: " + used + "\r\n\r\n»data: [DONE]\r\n\r\n"},
	{name: "CR", events: 1, want: usedTokens,
		body: "data: " + hello + "\r\r«data: " + used + "\r\r»data: [DONE]\r\r"},
	{name: "line ends mixed", events: 2, want: usedTokens,
		body: "data: " + hello + "\n\r\ndata: " + hello + "\r\n\n«data: " + used + "\r\r\n»data: [DONE]\n\r"},
	{name: "no space", events: 1, want: usedTokens, body: "data:" + hello + "\n\n«data:" + used + "\n\n»data:[DONE]\n\n"},
	{name: "many spaces", events: 1, want: usedTokens, body: "data:   " + hello + "\n\n«data: \t  " + used + "  \n\n»data:   [DONE]  \n\n"},
	{name: "JSON with spaces", events: 1, want: usedTokens,
		body: sse(hello) + "«" + sse(`{ "usage" : { "prompt_tokens" : 11 , "completion_tokens" : 7 } , "choices" : [ ] }`) + "»" + done},
	{name: "comments", events: 1, want: usedTokens,
		body: ": keep-alive\n\n:\n\n" + sse(hello) + ": data: {\n\n: x\n«" + sse(used) + "»: data: {}\n" + done + ":"},
	{name: "comment inside of the event", events: 1, want: usedTokens, body: sse(hello) + "«id: 1\n: c\n" + sse(used) + "»" + done},
	{name: "other fields", events: 1, want: usedTokens,
		body: "event: x\nid: 1\nretry: 10\n" + sse(hello) + "«event: x\nid\ndatas: {}\ndat: x\n" + sse(used) + "»id: 3\n" + done},
	{name: "fields after the data", events: 1, want: usedTokens,
		body: "data: " + hello + "\nid: 1\n\n«data: " + used + "\nid: 2\n\n»" + done},
	{name: "an event without data", events: 0, none: true, body: "event: ping\n\ndata\n\ndata:\n\nid: 7\n\n" + done},
	{name: "data over several lines", events: 1, want: usedTokens,
		body: "data: {\"choices\":\ndata: [{}]}\n\n«data:\ndata: {\"choices\":[\ndata: ],\"usage\":\ndata:{\"prompt_tokens\":11,\ndata: \"completion_tokens\":7}}\n\n»" + done},
	{name: "data over several CRLF lines", events: 0, want: usedTokens,
		body: "«data: {\"choices\":[],\r\ndata: \"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7\r\ndata: }}\r\n\r\n»data: [DONE]\r\n\r\n"},
	{name: "two objects in one event", events: 1, none: true, body: "data: {\"choices\":[]}\ndata: {\"usage\":null}\n\n" + done},
	{name: "a line break in a string", events: 1, none: true, body: "data: {\"choices\":[],\"x\":\"\ndata: \",\"usage\":{\"prompt_tokens\":9}}\n\n" + done},
	{name: "usage beside choices", events: 2, want: usedTokens,
		body: sse(hello, `{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":7}}`) + done},
	{name: "usage in every chunk", events: 2, want: usedTokens,
		body: sse(`{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":11,"completion_tokens":1}}`,
			`{"choices":[{"delta":{"content":"b"}}],"usage":{"prompt_tokens":11,"completion_tokens":2}}`) +
			"«" + sse(used) + "»" + done},
	{name: "usage first", events: 1, want: usedTokens,
		body: sse(`{"usage":{"prompt_tokens":11,"completion_tokens":7},"choices":[{"delta":{}}]}`) + done},
	{name: "no usage", events: 3, none: true,
		body: sse(`{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}`, `{"choices":[],"usage":null}`, hello) + done},
	{name: "no choices", events: 3, none: true, body: sse(`{}`, `{"choices":{}}`, `{"choices":null,"usage":"x"}`) + done},
	{name: "usage that isn't alone", events: 4, want: usedTokens,
		body: sse(`{"usage":{"prompt_tokens":11,"completion_tokens":7}}`, `{"choices":null,"usage":{"prompt_tokens":11,"completion_tokens":7}}`,
			`{"choices":[ 1 ],"usage":{"prompt_tokens":11,"completion_tokens":7}}`, `{"choices":[[]],"usage":{"prompt_tokens":11,"completion_tokens":7}}`) + done},
	{name: "usage of something else", events: 1, want: usedTokens, body: sse(`{"choices":[],"response":{"usage":{"input_tokens":11,"output_tokens":7}}}`) + done},
	{name: "look-alikes", events: 5, none: true,
		body: sse(`{"choices":[{"delta":{"content":"{\"choices\":[],\"usage\":{\"prompt_tokens\":9}}"}}]}`,
			`{"x":{"choices":[],"usage":{"prompt_tokens":9}},"y":"\\"}`,
			`{"choices":[],"x":[{"usage":{"prompt_tokens":9}}]}`,
			`[{"choices":[],"usage":{"prompt_tokens":9}}]`,
			`"{\"choices\":[],\"usage\":{\"prompt_tokens\":9}}"`) + done},
	{name: "text after the object", events: 1, want: usedTokens, body: sse(used+" x") + done},
	{name: "brackets in strings", events: 1, want: usedTokens,
		body: sse(`{"choices":[{"delta":{"content":"]}[{\\\""}}]}`) + "«" + sse(`{"id":"}]\"\\","choices":[],"obfuscation":"{[","usage":{"x":"prompt_tokens","prompt_tokens":11,"y":"}{\",\"","}":1,"completion_tokens":7}}`) + "»" + done},
	{name: "usage that states nothing", events: 0, none: true, body: "«" + sse(`{"choices":[],"usage":{}}`) + "»" + done},
	{name: "a usage of nothing first", events: 2, want: usedTokens,
		body: sse(`{"choices":[{"delta":{}}],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, hello) + "«" + sse(used) + "»" + done},
	{name: "zero is stated", events: 0, body: "«" + sse(`{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}`) + "»" + done},
	{name: "cache beside and inside of the prompt", events: 0, want: authz.Tokens{Input: 60, Output: 7, CacheRead: 30, CacheCreation: 20},
		body: "«" + sse(`{"choices":[],"usage":{"prompt_tokens":60,"completion_tokens":7,"cache_read_input_tokens":30,"cache_creation_input_tokens":20,"prompt_tokens_details":{"cached_tokens":30}}}`) + "»" + done},
	{name: "only a total", events: 1, want: authz.Tokens{Input: 50}, body: sse(`{"choices":[{"delta":{}}],"usage":{"total_tokens":50}}`) + done},
	{name: "byte order mark", events: 0, want: usedTokens, body: "\ufeff«" + sse(used) + "»" + done},
	{name: "half a byte order mark", events: 1, want: usedTokens, body: "\xef\xbb" + sse(hello) + "«" + sse(used) + "»" + done},
	{name: "no [DONE]", events: 1, want: usedTokens, body: sse(hello) + "«" + sse(used) + "»"},
	{name: "no last empty line", events: 1, want: usedTokens, body: sse(hello) + "«data: " + used + "\n»"},
	{name: "no last line end", events: 1, want: usedTokens, body: sse(hello) + "«data: " + used + "»"},
	{name: "no line end after [DONE]", events: 1, want: usedTokens, body: sse(hello) + "«" + sse(used) + "»data: [DONE]"},
	{name: "cut in a chunk", events: 2, none: true, body: sse(hello) + `data: {"id":"c","choices":[{"index":0,"del`},
	{name: "cut in the usage chunk", events: 2, none: true, cut: true, body: sse(hello) + `data: {"id":"c","choices":[],"usage":{"prompt_tok`},
	{name: "cut after the usage", events: 2, want: usedTokens, cut: true, body: sse(hello) + "data: " + strings.TrimSuffix(used, "}")},
	{name: "cut in a field", events: 1, none: true, cut: true, body: sse(hello) + "event: x\nda"},
	{name: "empty", none: true, body: ""},
	{name: "not events at all", events: 0, none: true, body: "{\"choices\":[],\n\"usage\":{\"prompt_tokens\":11}}\n\n"},
	{name: "Responses API", events: 3, want: authz.Tokens{Input: 36, Output: 87, CacheRead: 5, Reasoning: 9},
		body: "event: response.created\n" + sse(`{"type":"response.created","response":{"id":"r","usage":{"input_tokens":0,"output_tokens":0}}}`) +
			"event: response.output_text.delta\n" + sse(`{"type":"response.output_text.delta","delta":"usage\":{"}`) +
			"event: response.completed\n" + sse(`{"type":"response.completed","response":{"id":"r","output":[{"content":[{"text":"x"}]}],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":5},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":9},"total_tokens":123},"user":null}}`)},
	{name: "Anthropic", events: 4, want: authz.Tokens{Input: 60, Output: 40, CacheRead: 30, CacheCreation: 20},
		body: "event: message_start\n" + sse(`{"type":"message_start","message":{"id":"m","content":[],"usage":{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":30,"output_tokens":1}}}`) +
			"event: ping\n" + sse(`{"type": "ping"}`) +
			"event: message_delta\n" + sse(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":40}}`) +
			"event: message_stop\n" + sse(`{"type":"message_stop"}`)},
	{name: "Anthropic states the input twice", events: 3, want: authz.Tokens{Input: 61, Output: 40, CacheRead: 31, CacheCreation: 20},
		body: "event: message_start\n" + sse(`{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":30,"output_tokens":1}}}`) +
			"event: message_delta\n" + sse(`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":31,"output_tokens":40}}`) +
			"event: message_stop\n" + sse(`{"type":"message_stop"}`)},
	{name: "Anthropic breaks off", events: 1, none: true, want: authz.Tokens{Input: 10, Output: 1},
		body: "event: message_start\n" + sse(`{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}`)},
}
