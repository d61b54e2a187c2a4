package envoy_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"tollgate/authz"
)

// expect is what the tap should make of a body, by an event stream parser that has
// all of it before it and a JSON decoder.
func expect(body string) stream {
	s := stream{none: true}
	rest := strings.TrimPrefix(body, "\ufeff")
	s.body = body[:len(body)-len(rest)]
	event, data, inside := "", "", false
	end := func() {
		only := s.dispatch(data)
		if only {
			event = "«" + event + "»"
		}
		s.body += event
		event, data, inside = "", "", false
	}
	for rest != "" {
		n := strings.IndexAny(rest, "\r\n")
		line, ended := rest, 0
		if n >= 0 {
			line, ended = rest[:n], 1
			if strings.HasPrefix(rest[n:], "\r\n") {
				ended = 2
			}
		}
		whole := rest[:len(line)+ended]
		rest = rest[len(whole):]
		if !inside && (line == "" || line[0] == ':') {
			s.body += whole
			continue
		}
		event, inside = event+whole, true
		if line == "" {
			end()
		} else if value, ok := strings.CutPrefix(line, "data:"); ok {
			data += value + "\n"
		}
	}
	end()
	return s
}

// dispatch reads the data of an event, and tells whether it is the usage and
// nothing else.
func (s *stream) dispatch(data string) bool {
	var o struct {
		Choices json.RawMessage `json:"choices"`
		Usage   json.RawMessage `json:"usage"`
	}
	if json.Unmarshal([]byte(data), &o) != nil {
		if t := strings.TrimSpace(data); t != "" && t != "[DONE]" {
			s.events++
		}
		return false
	}
	var u *struct {
		In  *int64 `json:"prompt_tokens"`
		Out *int64 `json:"completion_tokens"`
	}
	object := json.Unmarshal(o.Usage, &u) == nil && u != nil
	if object && u.In != nil && u.Out != nil {
		s.none, s.want = false, authz.Tokens{Input: *u.In, Output: *u.Out}
	}
	var choices []any
	if object && json.Unmarshal(o.Choices, &choices) == nil && choices != nil && len(choices) == 0 {
		return true
	}
	s.events++
	return false
}

// drawBody draws an event stream. In objects a line of data may end at each "|".
func drawBody(t *rapid.T) string {
	objects := []string{
		`{"id":"c",|"choices":[|{"index":0,"delta":{"content":"a, b"}}|],|"usage":null}`,
		`{"id":"c",|"choices":|[|]|,"usage":|{"prompt_tokens":N,|"completion_tokens":N}|}`,
		`{"usage":{"prompt_tokens":N,"completion_tokens":N|},|"object":"x","choices":[ ]}`,
		`{"choices":[{}],|"usage":{|"prompt_tokens":N,"completion_tokens":N}}`,
		`{"choices":[],|"prompt_filter_results":[{"x":[]}]}`,
		`{"choices":[|],"usage":|null}`,
		`{"choices":[],"usage":{}}`,
		`{"x":{"choices":[],|"usage":{"prompt_tokens":N,"completion_tokens":N}}}`,
		`{"a":"\"choices\":[],\"usage\":{\"prompt_tokens\":N}","b":"\\",|"c":"}"}`,
		`[{"choices":[],"usage":{"prompt_tokens":N,"completion_tokens":N}}]`,
		`[DONE]`, ``, `some words`, `"usage":{"prompt_tokens":N}`,
	}
	lineEnd := rapid.SampledFrom([]string{"\n", "\n", "\n", "\r\n", "\r\n", "\r"})
	odds := func(n int) bool { return rapid.IntRange(1, n).Draw(t, "odds") == 1 }
	var b strings.Builder
	if odds(8) {
		b.WriteString("\ufeff")
	}
	for range rapid.IntRange(1, 6).Draw(t, "events") {
		for odds(3) {
			b.WriteString(rapid.SampledFrom([]string{":", ": data: {}", "event: x", "id", "data", "dat", "datas: {}", "retry: 1"}).Draw(t, "other") + lineEnd.Draw(t, "end"))
		}
		object := strings.ReplaceAll(rapid.SampledFrom(objects).Draw(t, "data"), "N", rapid.StringMatching(`[1-9][0-9]{0,5}|0`).Draw(t, "tokens"))
		data := rapid.SampledFrom([]string{"data:", "data: ", "data: ", "data: \t "})
		b.WriteString(data.Draw(t, "field"))
		for i, line := range strings.Split(object, "|") {
			if i > 0 && odds(4) {
				b.WriteString(lineEnd.Draw(t, "end") + data.Draw(t, "field"))
			}
			b.WriteString(line)
		}
		b.WriteString(rapid.SampledFrom([]string{"\n\n", "\r\n\r\n", "\r\r", "\n\r\n", "\r\n\n", "\n\r", "\r\r\n"}).Draw(t, "ends"))
	}
	s := b.String()
	if odds(4) { // the end is missing, but not that of the data
		s = strings.TrimRight(s, "\r\n")
	}
	return s
}

// Any event stream, in any pieces, comes to what a simple parser makes of it.
func TestTapAgainstModel(t *testing.T) {
	var list atomic.Pointer[[]stream]
	g := newTap(t, func(w http.ResponseWriter, r *http.Request) { upstreamOf(*list.Load())(w, r) })
	rapid.Check(t, func(rt *rapid.T) {
		s := expect(drawBody(rt))
		list.Store(&[]stream{s})
		n := len(s.sent())
		for _, strip := range []bool{false, true} {
			e := exchange{stream: s, strip: strip, first: rapid.IntRange(0, n).Draw(rt, "first"), size: rapid.IntRange(1, n).Draw(rt, "size")}
			e.run(g, 0)
			if w := e.wrong(t, g); w != "" {
				rt.Fatal(w)
			}
		}
	})
}
