//go:build linux

package main_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// walkExamplePodstack: the numbers of the usage page are those that the backend
// stated, per key and by model, and a key may read its own.
func walkExamplePodstack(t *testing.T, w *exampleWalk) {
	k := w.create("--name", "numbers")
	ask := func(path, body string, args ...string) (input, output int) {
		t.Helper()
		a := answer{body: w.must(200, "@/inference/v1/"+path, append(append(bearer(k), "-H", "Content-Type: application/json", "-d", body), args...)...)}
		return a.stated(t)
	}
	var input, output int
	for range 3 {
		in, out := ask("chat/completions", chatBody(chatModel, ""), forged(k.Key)...)
		input, output = input+in, output+out
	}
	in, _ := ask("embeddings", `{"model":"`+embeddingModel+`","input":["one two","three"]}`)

	type sum struct {
		Model                               string
		Requests, InputTokens, OutputTokens int
	}
	var used struct {
		sum
		LastUsedAt string
		ByModel    []sum
	}
	within(t, time.Minute, "summed up", func() error {
		used = decodeJSON[struct {
			sum
			LastUsedAt string
			ByModel    []sum
		}](t, w.must(200, "/api/v1/api-keys/"+k.ID+"/usage", bearer(k)...))
		if used.Requests != 4 {
			return fmt.Errorf("%+v", used)
		}
		return nil
	})
	if used.InputTokens != input+in || used.OutputTokens != output || !strings.HasPrefix(used.LastUsedAt, "20") || len(used.ByModel) != 2 {
		t.Errorf("the backend stated %d and %d, the key's usage is %+v", input+in, output, used)
	}
	for _, m := range used.ByModel {
		want := sum{chatModel, 3, input, output}
		if m.Model == embeddingModel {
			want = sum{embeddingModel, 1, in, 0}
		}
		if m != want {
			t.Errorf("%+v, want %+v", m, want)
		}
	}
}
