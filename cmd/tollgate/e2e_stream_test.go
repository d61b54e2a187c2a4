//go:build linux

package main_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// testStreams asks for the same stream in the three ways in which a caller can
// stand on its usage. The event is exact each time; the usage is in the stream for
// the one who asked for it, and for nobody else.
func testStreams(t *testing.T, b *bench) {
	g := startGate(t, b)
	k := g.key("--name", "streams")
	// The backend's own word, without a gate.
	direct := readStream(t, g, g.backendURL, "", chatBody(chatModel, `,"stream":true,"stream_options":{"include_usage":true}`))
	if direct.usage == nil {
		t.Fatal("the backend states no usage: the test shows nothing")
	}
	ids := map[string]bool{}
	for name, c := range map[string]struct {
		extra string
		asked bool
	}{
		"asked for":                {`,"stream":true,"stream_options":{"include_usage":true}`, true},
		"not asked for":            {`,"stream":true`, false},
		"asked to be left out":     {`,"stream":true,"stream_options":{"include_usage":false}`, false},
		"with an option beside it": {`,"stream":true,"stream_options":{"include_obfuscation":false}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := readStream(t, g, "http://"+g.gateway, k.Key, chatBody(chatModel, c.extra))
			if got.text != direct.text {
				t.Errorf("the text is %q, want %q", got.text, direct.text)
			}
			if (got.usage != nil) != c.asked {
				t.Errorf("the usage in the stream: %v; asked for: %v", got.usage, c.asked)
			}
			if !got.done {
				t.Error("no [DONE]")
			}
			ids[got.id] = true
		})
	}
	for id, e := range g.eventsOf(k, len(ids)) {
		if !ids[id] {
			t.Errorf("an event for %s, which no answer named in x-request-id", id)
		}
		if e.Data.Measurement != "reported" || !e.Data.Stream || e.Data.InputTokens != direct.usage.Prompt || e.Data.OutputTokens != direct.usage.Completion {
			t.Errorf("event %+v, want %+v", e.Data, *direct.usage)
		}
	}

	// Told, not judged: two cores and the race detector are no clock.
	var with, without []time.Duration
	for range 50 {
		without = append(without, readStream(t, g, g.backendURL, "", chatBody(chatModel, `,"stream":true`)).first)
		with = append(with, readStream(t, g, "http://"+g.gateway, k.Key, chatBody(chatModel, `,"stream":true`)).first)
	}
	slices.Sort(with)
	slices.Sort(without)
	t.Logf("time to the first event, median of %d: %v with the gate, %v without", len(with), with[len(with)/2], without[len(without)/2])
}

type streamed struct {
	id, text string
	usage    *streamUsage // nil: none was in the stream
	done     bool
	first    time.Duration // from the request to the first event
}

type streamUsage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
}

func readStream(t *testing.T, g *gate, base, key, body string) streamed {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	sent := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s := streamed{id: resp.Header.Get("X-Request-Id")}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if s.first == 0 {
			s.first = time.Since(sent)
		}
		if data == "[DONE]" {
			s.done = true
			continue
		}
		var chunk struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
			Usage *streamUsage `json:"usage"`
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		for _, c := range chunk.Choices {
			s.text += c.Delta.Content
		}
		if chunk.Usage != nil {
			s.usage = chunk.Usage
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return s
}
