//go:build linux

package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// dialectErrors asks for a model at whose upstream nobody listens: what Envoy then
// answers by itself has the form that the callers of each service know.
func dialectErrors(t *testing.T, g *gate) {
	k := g.key("--name", "own errors")
	const (
		said   = "The model's server could not be reached, or broke off. Try again."
		openAI = `{"error":{"message":"` + said + `","type":"server_error","param":null,"code":null}}`
	)
	chat := chatBody(downModel, "")
	for _, c := range []struct{ path, body, header, want string }{
		{"/v1/chat/completions", chat, "", openAI},
		{"/openai/v1/chat/completions", chat, "", openAI},
		{"/v1/messages", chat, version, `{"type":"error","error":{"type":"api_error","message":"` + said + `"},"request_id":"ID"}`},
		{"/v1/text/chatcompletion_v2", chat, "", `{"base_resp":{"status_code":1000,"status_msg":"` + said + `"}}`},
		{"/api.php", "action=mt_inference&prompt=hi&model_id=" + downModel, "content-type: application/x-www-form-urlencoded", `{"success":false,"error":"` + said + `","code":"unavailable"}`},
		{"/v2/chat", chat, "", `{"id":"ID","message":"` + said + `"}`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.gateway+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		// The caller's own id for the request is nothing that Envoy's answer is written with.
		for _, line := range []string{"authorization: Bearer " + k.Key, "content-type: application/json", `x-request-id: "}`, c.header} {
			if name, value, ok := strings.Cut(line, ": "); ok {
				req.Header.Set(name, value)
			}
		}
		got, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(got.Body)
		got.Body.Close()
		res := answer{got.StatusCode, got.Header, string(text)}
		id := res.header.Get("x-request-id")
		if res.status != http.StatusServiceUnavailable || res.body != strings.Replace(c.want, "ID", id, 1) || res.header.Get("retry-after") != "1" ||
			len(id) != len("01a1fdc3-8817-7dba-8fcc-04684422cecb") {
			t.Errorf("%s: %v, want %s", c.path, res, c.want)
		}
	}
	for id, e := range g.eventsOf(k, 6) {
		if e.Data.Outcome != "not_sent" || e.Data.Status != http.StatusServiceUnavailable {
			t.Errorf("%s: %+v", id, e.Data)
		}
	}
	res := g.try(http.MethodPost, "http://"+g.gateway+"/nowhere", k.Key, "{}")
	if _, message := res.refusal(t); res.status != http.StatusNotFound || message == "" {
		t.Errorf("no route: %v", res)
	}
}

// dialectHangUp leaves a stream of Anthropic's once it has told what went in: that is
// charged as told, with the cache's part, and not as it was estimated.
func dialectHangUp(t *testing.T, g *gate) {
	k := g.key("--name", "hung up")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body := fmt.Sprintf(`{"model":"claude-x","max_tokens":100,"stream":true,"messages":[{"role":"user","content":%q}]}`, strings.Repeat("many words ", 500))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.gateway+"/v1/messages", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"x-api-key": k.Key, "anthropic-version": "2023-06-01", "content-type": "application/json", "x-hold": "1"} {
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for range 6 {
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	for _, e := range g.eventsOf(k, 1) {
		if d := e.Data; d.Outcome != "client_closed" || d.Measurement != "estimated" || d.InputTokens != 42 || d.CacheReadInputTokens != 30 || d.OutputTokens < 1 {
			t.Errorf("%+v", d)
		}
	}
}
