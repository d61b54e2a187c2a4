//go:build linux

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// walkExampleBaseten: whatever a model takes goes through as it is, what is done is on
// somebody's account, and metrics are of one workspace.
func walkExampleBaseten(t *testing.T, w *exampleWalk) {
	ada, member := w.create("--user", "ada"), w.create("--user", "max", "--actions", "infer")
	call := func(status int, k newKey, path string, args ...string) string {
		t.Helper()
		return w.must(status, "@"+path, append(apiKey(k), args...)...)
	}
	// Bodies that nobody could read a model in, and the caller's forgeries.
	bodies := []string{`{"prompt":`, "a=1&model=efgh5678", `{"model":"efgh5678","model":"x"}`, "\x01\x02", strings.Repeat("x", 1<<20), ""}
	for i, body := range bodies {
		file := filepath.Join(t.TempDir(), "body")
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		res := call(200, ada, "/models/abcd1234/predict", append(forged(ada.Key), "-H", "Content-Type: application/octet-stream", "--data-binary", "@"+file)...)
		got := decodeJSON[struct{ Model, Input string }](t, res)
		if got.Model != "abcd1234" || got.Input != body {
			t.Errorf("body %d: %.200s", i, res)
		}
	}
	// Another model by another spelling of the path.
	for _, path := range []string{"/models/abcd1234/../efgh5678/predict", "/models/abcd1234%2f..%2fefgh5678/predict", "/models/abcd1234/predict/", "/models//predict"} {
		status, res := w.curl("@"+path, append(apiKey(w.create("--models", "abcd1234")), "--path-as-is", "-d", "x")...)
		if status == 200 {
			t.Errorf("%s: %s", path, res)
		}
	}
	// An inference key wakes nothing and exports nothing.
	call(200, member, "/models/abcd1234/predict", "-d", "x")
	if body := call(403, member, "/models/abcd1234/wake", "-X", "POST"); !strings.Contains(body, "wake") {
		t.Errorf("403: %s", body)
	}
	if body := call(403, member, "/metrics"); !strings.HasPrefix(body, `{"error":`) || !strings.Contains(body, "metrics") {
		t.Errorf("403: %s", body)
	}
	if body := w.must(401, "@/metrics"); !strings.HasPrefix(body, `{"error":`) {
		t.Errorf("401: %s", body)
	}

	// Every action with a personal key is on that person's account.
	byRequest := w.eventsOf(ada, len(bodies))
	for line := range strings.Lines(w.say("events", "list", "--since", "24h", "-o", "json")) {
		d := decodeJSON[struct {
			Data struct{ RequestID, User, Dialect string }
		}](t, line).Data
		if _, hers := byRequest[d.RequestID]; hers && (d.User != "ada" || d.Dialect != "baseten") {
			t.Errorf("%+v", d)
		}
	}
	w.must(200, "/api/v1/models/undeploy", append(apiKey(ada), "-H", "Content-Type: application/json", "-d", `{"model":"efgh5678"}`)...)
	if trail := w.say("audit", "--since", "1h", "-o", "json"); !regexp.MustCompile(`"user": ?"ada"[^\n]*efgh5678|efgh5678[^\n]*"user": ?"ada"`).MatchString(trail) {
		t.Errorf("the trail lacks what ada did: %s", trail)
	}

	// The series of a workspace have all of its use, and nothing of another's.
	w.say("workspace", "create", "other", "--plan", "pro")
	stranger := w.create("--workspace", "other", "--actions", "metrics")
	total := func(k newKey) (n int) {
		t.Helper()
		for _, sample := range regexp.MustCompile(`(?m)^tollgate_workspace_requests_total\S* (\d+)$`).FindAllStringSubmatch(call(200, k, "/metrics"), -1) {
			each, err := strconv.Atoi(sample[1])
			if err != nil {
				t.Fatal(err)
			}
			n += each
		}
		return n
	}
	used := 0
	for _, row := range decodeJSON[[]struct{ Requests int }](t, w.say("usage", "--group-by", "workspace", "--workspace", "demo", "-o", "json")) {
		used += row.Requests
	}
	within(t, time.Minute, "exported", func() error {
		if n := total(ada); n < used || n == 0 {
			return fmt.Errorf("%d requests, and the usage says %d", n, used)
		}
		return nil
	})
	if text := call(200, stranger, "/metrics"); strings.Contains(text, "abcd1234") || strings.Contains(text, "efgh5678") {
		t.Errorf("another workspace's series: %s", text)
	}
}
