//go:build linux

package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"tollgate/examples/backend"
)

// testEstimates hangs up in the middle of streams whose chunks carry 1 to 8
// tokens. What the events say in all is within 10 % of what the callers read, by
// what whole streams have taught before, also before a restart.
func testEstimates(t *testing.T, b *bench) {
	const lessons, hangUps = 120, 100
	g := startGate(t, b)
	k := g.key("--name", "lessons")
	inParallel(lessons, func(n int) {
		body := fmt.Sprintf(`{"model":%q,"stream":true,"messages":[{"role":"user","content":"lesson %d"}]}`, chatModel, n)
		if res := g.chat(k.Key, body); res.status != http.StatusOK {
			t.Errorf("%v", res)
		}
	})
	g.eventsOf(k, lessons)

	for _, when := range []string{"after lessons", "after a restart"} {
		if when == "after a restart" {
			if code := g.stop(syscall.SIGTERM); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			g.start("up")
			g.waitReady()
		}
		k := g.key("--name", when)
		var read atomic.Int64
		inParallel(hangUps, func(n int) { read.Add(int64(hangUp(t, g, k.Key, n, 1+rand.IntN(10)))) })
		said, input := 0, 0
		for _, e := range g.eventsOf(k, hangUps) {
			d := e.Data
			if d.Measurement == "reported" {
				t.Errorf("%s: a stream went to its end: %+v", when, d)
			}
			said, input = said+d.OutputTokens, input+d.InputTokens
		}
		off := float64(said)/float64(read.Load()) - 1
		t.Logf("%s: callers read %d tokens, the events say %d: %+.1f %%; prompts had %d, the events say %d",
			when, read.Load(), said, 100*off, hangUps*backend.ChatTokens("x 1"), input)
		if off < -0.1 || off > 0.1 {
			t.Errorf("%s: the estimate is off by %+.1f %%", when, 100*off)
		}
		if input < hangUps {
			t.Errorf("%s: %d tokens of input in %d requests", when, input, hangUps)
		}
	}
}

// inParallel calls f for 0 to n-1, a few at a time.
func inParallel(n int, f func(int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	all.Wait()
}

// hangUp reads so many events of a stream that has more, and returns how many
// tokens they carried.
func hangUp(t *testing.T, g *gate, key string, n, events int) (tokens int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body := fmt.Sprintf(`{"model":%q,"stream":true,"messages":[{"role":"user","content":"x %d"}]}`, chatModel, n)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.gateway+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + key, "Content-Type": "application/json",
		// Slow enough that nothing more passes before Envoy knows.
		"x-backend-tokens": "150", "x-backend-interval": "150ms",
	} {
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for range events {
		var chunk struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
		}
		if !lines.Scan() || json.Unmarshal([]byte(strings.TrimPrefix(lines.Text(), "data: ")), &chunk) != nil || len(chunk.Choices) == 0 || !lines.Scan() {
			t.Errorf("no event but %q", lines.Text())
			break
		}
		tokens += backend.Tokens(chunk.Choices[0].Delta.Content)
	}
	return tokens
}
