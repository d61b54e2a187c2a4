//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// toldCatalog has every dialect, one of which observes.
const toldCatalog = `
workspaces: [{id: demo, plan: open}]
users: [{id: ada, workspace: demo}]
plans: [{id: open}]
routes:
  - {dialect: openai}
  - {dialect: podstack, mode: observe}
  - {dialect: anthropic}
  - {dialect: azure}
  - {dialect: cohere}
  - {dialect: baseten}
  - {dialect: minibase}
  - {dialect: minimax}
  - {dialect: minds}
models: [{id: abcd1234, upstreams: [{url: "BACKEND"}]}]
`

// testTold: what people are told when something does not pass, in each dialect's
// words, by explain before and by the audit trail after.
func testTold(t *testing.T, b *bench) {
	g := newGate(t, b)
	if err := os.WriteFile(filepath.Join(g.dir, "catalog.yaml"), []byte(strings.ReplaceAll(toldCatalog, "BACKEND", g.backendURL)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start("up")
	g.waitReady()
	account := g.key("--name", "account", "--actions", "manage")
	inference := g.key("--name", "inference", "--actions", "infer")
	t.Run("wrong keys", func(t *testing.T) { wrongKeys(t, g, account, inference) })
	t.Run("observe", func(t *testing.T) { observes(t, g) })
	t.Run("explain", func(t *testing.T) { explains(t, g, account, inference) })
	t.Run("audit", func(t *testing.T) { audits(t, g, account, inference) })
}

// wrongKeys: which kind is needed, and which was presented.
func wrongKeys(t *testing.T, g *gate, account, inference newKey) {
	form := "content-type: application/x-www-form-urlencoded"
	for _, c := range []struct {
		dialect, method, path, body, header string
		key                                 newKey
		where                               string // of the sentence in the body
		says                                []string
	}{
		{"openai", "POST", "/v1/chat/completions", chatBody("abcd1234", ""), "", account, "error.message", []string{"needs an inference key", "is an account token"}},
		{"podstack", "POST", "/inference/v1/chat/completions", chatBody("abcd1234", ""), "", account, "error.message", []string{"needs an inference key", "is an account token"}},
		{"anthropic", "POST", "/v1/messages", chatBody("abcd1234", ""), "anthropic-version: 2023-06-01", account, "error.message", []string{"needs an inference key", "is an account token"}},
		{"azure", "POST", "/openai/deployments/abcd1234/chat/completions?api-version=2024-10-21", chatBody("abcd1234", ""), "", account, "error.message", []string{"needs an inference key", "is an account token"}},
		{"cohere", "POST", "/v2/chat", chatBody("abcd1234", ""), "", account, "message", []string{"needs an inference key", "is an account token"}},
		{"baseten", "POST", "/models/abcd1234/predict", "{}", "", account, "error.message", []string{"needs an inference key", "is an account token"}},
		{"baseten", "POST", "/models/abcd1234/wake", "{}", "", inference, "error.message", []string{"wake", "is an inference key"}},
		{"minibase", "POST", "/api.php", "action=mt_inference&model_id=abcd1234&prompt=hi", form, account, "", []string{"needs an inference key", "is an account token"}},
		{"minimax", "POST", "/v1/text/chatcompletion_v2", chatBody("abcd1234", ""), "", account, "base_resp.status_msg", []string{"needs an inference key", "is an account token"}},
		{"minds", "GET", "/api/v1/api-keys", "", "", inference, "message", []string{"action manage", "is an inference key"}},
	} {
		var headers []string
		if c.header != "" {
			headers = append(headers, c.header)
		}
		res := g.try(c.method, "http://"+g.gateway+c.path, c.key.Key, c.body, headers...)
		sentence := res.body
		if c.where != "" {
			var member any = decodeJSON[map[string]any](t, res.body)
			for name := range strings.SplitSeq(c.where, ".") {
				object, _ := member.(map[string]any)
				member = object[name]
			}
			sentence, _ = member.(string)
		}
		for _, word := range c.says {
			if res.status != http.StatusForbidden || !strings.Contains(sentence, word) {
				t.Errorf("%s %s is told %v, want %q", c.dialect, c.path, res, word)
			}
		}
	}
}

// observes: without a key it passes, and the event says what would have been.
func observes(t *testing.T, g *gate) {
	res := g.try(http.MethodPost, "http://"+g.gateway+"/inference/v1/chat/completions", "", chatBody("abcd1234", ""))
	if res.status != http.StatusOK {
		t.Fatalf("without a key: %v", res)
	}
	within(t, time.Minute, "observed", func() error {
		for line := range strings.SplitSeq(strings.TrimSpace(g.cli("events", "list", "-o", "json")), "\n") {
			var e struct {
				Data struct {
					RequestID string `json:"requestId"`
					Key       string `json:"key"`
					Observed  string `json:"observed"`
					Workspace string `json:"workspace"`
				} `json:"data"`
			}
			if line == "" || json.Unmarshal([]byte(line), &e) != nil || e.Data.RequestID != res.header.Get("x-request-id") {
				continue
			}
			if e.Data.Key != "" || e.Data.Observed != "key_missing" || e.Data.Workspace != "demo" {
				t.Errorf("the event says %s", line)
			}
			return nil
		}
		return fmt.Errorf("no event of %s", res.header.Get("x-request-id"))
	})
}

// explains: as the gate decides, and using nothing up.
func explains(t *testing.T, g *gate, account, inference newKey) {
	once := g.key("--name", "once", "--actions", "infer", "--requests-per-minute", "1")
	for range 3 {
		if said := g.cli("explain", once.ID, "--model", "abcd1234"); !strings.Contains(said, "allow") {
			t.Fatalf("explain says %s", said)
		}
	}
	for _, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
		if res := g.chat(once.Key, chatBody("abcd1234", "")); res.status != want {
			t.Errorf("the gate says %v, want %d", res, want)
		}
	}
	for id, reason := range map[string]string{once.ID: "rate_limit_exceeded", account.ID: "action_denied"} {
		if said := g.cli("explain", id, "--model", "abcd1234", "-o", "json"); !strings.Contains(said, `"reason":"`+reason+`"`) {
			t.Errorf("explain says %s, want %s", said, reason)
		}
	}
	// A key explains itself.
	res := g.try(http.MethodPost, "http://"+g.api+"/api/v1/explain", inference.Key, `{"model":"none"}`)
	if !strings.Contains(res.body, `"reason":"model_unknown"`) || strings.Contains(res.body, inference.Key) {
		t.Errorf("it is told %v", res)
	}
}

// audits: who did what and from where, what was refused at the gateway too.
func audits(t *testing.T, g *gate, account, inference newKey) {
	g.try(http.MethodPatch, "http://"+g.api+"/api/v1/api-keys/"+account.ID, account.Key, `{"name":"renamed"}`)
	type entry struct {
		Data struct {
			Action, Remote string
			Status         int
			Actor          struct{ Kind, Key string }
			Target         struct{ ID string }
			Before, After  json.RawMessage
		}
	}
	find := func(fits func(entry) bool) entry {
		t.Helper()
		trail := g.cli("audit", "--since", "1h", "-o", "json")
		if strings.Contains(trail, account.Key) || strings.Contains(trail, inference.Key) {
			t.Error("a key is in the trail")
		}
		for line := range strings.SplitSeq(strings.TrimSpace(trail), "\n") {
			if e := decodeJSON[entry](t, line); fits(e) {
				return e
			}
		}
		t.Fatalf("it isn't in the trail: %s", trail)
		return entry{}
	}
	find(func(e entry) bool {
		return e.Data.Action == "key.create" && e.Data.Target.ID == account.ID && e.Data.Actor.Kind == "operator"
	})
	e := find(func(e entry) bool { return e.Data.Action == "key.update" })
	if e.Data.Actor.Key != account.ID || string(e.Data.Before) != `{"name":"account"}` || string(e.Data.After) != `{"name":"renamed"}` {
		t.Errorf("a change is told as %+v", e.Data)
	}
	e = find(func(e entry) bool { return e.Data.Action == "key.read" && e.Data.Status == http.StatusForbidden })
	if e.Data.Actor.Key != inference.ID || !strings.HasPrefix(e.Data.Remote, "127.0.0.1:") {
		t.Errorf("a refusal at the gateway is told as %+v", e.Data)
	}
}
