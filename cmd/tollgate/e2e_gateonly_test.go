//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"tollgate/examples/backend"
)

// testGateOnly runs `tollgate serve` for Envoys that somebody else wrote the
// configuration of: those of examples/gate-only, and what becomes of them when
// parts are left out. Only addresses are changed.
func testGateOnly(t *testing.T, b *bench) {
	g := newGate(t, b)
	second := backend.New(backend.Options{Keep: 100})
	embeddings := httptest.NewServer(second)
	t.Cleanup(embeddings.Close)
	catalog := root(t, "examples", "gate-only", "catalog.yaml")
	g.env = append(g.env, "TOLLGATE_CATALOG="+catalog)
	g.start("serve")
	within(t, time.Minute, "ready", func() error {
		if res := g.try(http.MethodGet, "http://"+g.api+"/readyz", "", ""); res.status != http.StatusOK {
			return fmt.Errorf("readyz: %v", res)
		}
		return nil
	})
	proxy := func(t *testing.T, file string, change func(config map[string]any)) *gate {
		at := *g // the same Tollgate, behind another Envoy, failing this test
		at.t, at.gateway = t, freeAddr(t)
		at.startForeign(file, embeddings.URL, change)
		return &at
	}

	t.Run("the body in the Check only", func(t *testing.T) { testCheckOnly(t, proxy(t, "check.yaml", nil), second) })
	t.Run("no body in the Check", func(t *testing.T) {
		testNoBody(t, proxy(t, "check.yaml", func(config map[string]any) {
			delete(filter(t, config, "envoy.filters.http.ext_authz"), "with_request_body")
		}))
	})

	// The same catalog, without the line that says that nobody settles.
	text, err := os.ReadFile(catalog)
	if err != nil {
		t.Fatal(err)
	}
	var settled map[string]any
	if err := yaml.Unmarshal(text, &settled); err != nil {
		t.Fatal(err)
	}
	delete(settled["routes"].([]any)[0].(map[string]any), "settlement")
	g.cli("apply", "-f", writeYAML(t, g.dir, "settled-catalog.yaml", settled))

	t.Run("with settlement", func(t *testing.T) { testSettled(t, proxy(t, "settled.yaml", nil)) })
	t.Run("with settlement, but without formats", func(t *testing.T) {
		testDegraded(t, proxy(t, "settled.yaml", func(config map[string]any) { delete(config, "layered_runtime") }), "completed", "reported")
	})
	t.Run("with settlement, but without the tap", func(t *testing.T) {
		testDegraded(t, proxy(t, "settled.yaml", func(config map[string]any) { dropFilter(config, "tollgate.tap") }), "completed", "estimated")
	})
	t.Run("with settlement, but without both", func(t *testing.T) {
		testDegraded(t, proxy(t, "settled.yaml", func(config map[string]any) {
			delete(config, "layered_runtime")
			dropFilter(config, "tollgate.tap")
		}), "unknown", "estimated")
	})
}

// testCheckOnly: decisions, routing by header and to a cluster, limits by what was
// reserved, and an event at once.
func testCheckOnly(t *testing.T, g *gate, second *backend.Backend) {
	k := g.key("--name", "check-only")
	const reserved = 50
	body := chatBody(chatModel, fmt.Sprintf(`,"max_tokens":%d`, reserved))
	res := g.chat(k.Key, body, "x-tollgate-cluster: embeddings", "x-tollgate-user: forged", "x-tollgate-model: forged")
	if res.status != http.StatusOK {
		t.Fatalf("by the model header: %v", res)
	}
	seen := g.backend.Seen()
	if h := seen[len(seen)-1].Header; h.Get("x-tollgate-model") != chatModel || h.Get("x-tollgate-user") != "" || h.Get("authorization") != "" {
		t.Errorf("the backend got %v", h)
	}
	for _, e := range g.eventsOf(k, 1) {
		d := e.Data
		if d.Outcome != "unknown" || d.Measurement != "estimated" || d.Status != 0 || d.OutputTokens != reserved || d.InputTokens == 0 ||
			d.RequestID != res.header.Get("x-request-id") {
			t.Errorf("%+v", e)
		}
	}
	res = g.try(http.MethodPost, "http://"+g.gateway+"/v1/embeddings", k.Key, fmt.Sprintf(`{"input":"a b","model":%q}`, embeddingModel))
	if seen := second.Seen(); res.status != http.StatusOK || len(seen) != 1 || seen[0].Header.Get("x-tollgate-key-id") != k.ID {
		t.Errorf("to a cluster of ours: %v, seen there: %v", res, seen)
	}
	g.eventsOf(k, 2)

	for name, c := range map[string]struct {
		res    answer
		status int
		code   string
	}{
		"no key":    {g.chat("", body), 401, "invalid_api_key"},
		"wrong key": {g.chat(k.Key+"x", body), 401, "invalid_api_key"},
		"no model":  {g.chat(k.Key, chatBody("no/such", "")), 404, "model_not_found"},
	} {
		if code, _ := c.res.refusal(t); c.res.status != c.status || code != c.code {
			t.Errorf("%s: %v", name, c.res)
		}
	}

	// Nothing is given back, and no slot is kept.
	tight := g.key("--name", "tight", "--tokens-per-minute", "120", "--concurrent-requests", "1")
	for range 2 {
		if res := g.chat(tight.Key, body); res.status != http.StatusOK {
			t.Fatalf("within the limit: %v", res)
		}
	}
	if code, _ := g.chat(tight.Key, body).refusal(t); code != "rate_limit_exceeded" {
		t.Errorf("a third request that may use %d of 120 tokens: %s", reserved, code)
	}
	g.eventsOf(tight, 2)
}

// testNoBody: what is wrong is the proxy, and the refusal says so.
func testNoBody(t *testing.T, g *gate) {
	k := g.key("--name", "no body")
	res := g.chat(k.Key, chatBody(chatModel, ""))
	if _, message := res.refusal(t); res.status != http.StatusBadRequest || !strings.Contains(message, "with_request_body") {
		t.Errorf("%v", res)
	}
	if res := g.try(http.MethodGet, "http://"+g.gateway+"/v1/models", k.Key, ""); res.status != http.StatusOK || !strings.Contains(res.body, chatModel) {
		t.Errorf("what needs no body: %v", res)
	}
	if res := g.try(http.MethodGet, "http://"+g.gateway+"/v1/models", "", ""); res.status != http.StatusUnauthorized {
		t.Errorf("no key: %v", res)
	}
}

// testSettled: what the backend stated is in the events, of streams too.
func testSettled(t *testing.T, g *gate) {
	k := g.key("--name", "settled", "--concurrent-requests", "1")
	type want struct {
		status  int
		in, out int
	}
	in := backend.ChatTokens("hi")
	wanted := map[string]want{}
	for _, c := range []struct {
		extra  string
		header string
		want   want
	}{
		{"", "x-backend-tokens: 23", want{200, in, 23}},
		{`,"stream":true,"stream_options":{"include_usage":true}`, "x-backend-tokens: 17", want{200, in, 17}},
		{`,"stream":true`, "x-backend-tokens: 19", want{200, in, 19}},
		{"", "x-backend-status: 500", want{status: 500}},
	} {
		var res answer
		within(t, time.Minute, "the slot given back", func() error {
			if res = g.chat(k.Key, chatBody(chatModel, c.extra), c.header); res.status != c.want.status {
				return fmt.Errorf("%v", res)
			}
			return nil
		})
		wanted[res.header.Get("x-request-id")] = c.want
		if strings.Contains(c.extra, "stream") && strings.Contains(res.body, `"usage":{`) != strings.Contains(c.extra, "include_usage") {
			t.Errorf("%s: the client got %s", c.extra, res.body)
		}
	}
	for id, e := range g.eventsOf(k, len(wanted)) {
		w, d := wanted[id], e.Data
		if d.Status != w.status || d.InputTokens != w.in || d.OutputTokens != w.out || w.status == 200 && (d.Outcome != "completed" || d.Measurement != "reported") {
			t.Errorf("want %+v, the event says %+v", w, d)
		}
	}
}

// testDegraded: what an Envoy can't tell is estimated, and never taken for a
// request that was not sent.
func testDegraded(t *testing.T, g *gate, outcome, measurement string) {
	k := g.key("--name", "degraded")
	res := g.chat(k.Key, chatBody(chatModel, `,"max_tokens":40`), "x-backend-tokens: 7")
	if res.status != http.StatusOK {
		t.Fatal(res)
	}
	for _, e := range g.eventsOf(k, 1) {
		d := e.Data
		if d.Outcome != outcome || d.Measurement != measurement || d.InputTokens == 0 ||
			measurement == "reported" && d.OutputTokens != 7 || measurement == "estimated" && d.OutputTokens != 40 {
			t.Errorf("%+v", d)
		}
	}
}

// startForeign runs an Envoy with a configuration of examples/gate-only, at the
// gate's address and for its Tollgate, until the end of the test.
func (g *gate) startForeign(file, embeddings string, change func(config map[string]any)) {
	t := g.t
	t.Helper()
	text, err := os.ReadFile(root(t, "examples", "gate-only", file))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	delete(config, "admin")
	resources := config["static_resources"].(map[string]any)
	move(t, resources["listeners"].([]any)[0], g.gateway)
	places := map[string]string{"tollgate": g.grpc, "llama": hostOf(t, g.backendURL), "embeddings": hostOf(t, embeddings)}
	for _, c := range resources["clusters"].([]any) {
		name := c.(map[string]any)["name"].(string)
		move(t, c, places[name])
	}
	if change != nil {
		change(config)
	}
	cmd := exec.Command(g.b.envoy, "-c", writeYAML(t, t.TempDir(), file, config), "--concurrency", "1", "--disable-hot-restart", "-l", "warn")
	cmd.Dir = root(t) // the configuration names files of the project
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said output
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("what Envoy said last:\n%s", said.tail(30))
		}
	})
	within(t, time.Minute, "serving", func() error {
		if res := g.try(http.MethodGet, "http://"+g.gateway+"/v1/models", "", ""); res.status != http.StatusUnauthorized {
			return fmt.Errorf("%v", res)
		}
		return nil
	})
}

// move gives the one socket_address below a value another host and port.
func move(t *testing.T, at any, hostPort string) {
	t.Helper()
	u, err := url.Parse("tcp://" + hostPort)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	walk(at, func(m map[string]any) {
		if address, ok := m["socket_address"].(map[string]any); ok {
			address["address"], address["port_value"] = u.Hostname(), port
			moved++
		}
	})
	if moved != 1 {
		t.Fatalf("%d addresses where one was expected", moved)
	}
}

func hostOf(t *testing.T, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// filter is the typed_config of a filter.
func filter(t *testing.T, config map[string]any, name string) map[string]any {
	t.Helper()
	var found map[string]any
	walk(config, func(m map[string]any) {
		if m["name"] == name && m["typed_config"] != nil {
			found = m["typed_config"].(map[string]any)
		}
	})
	if found == nil {
		t.Fatalf("no filter %s", name)
	}
	return found
}

func dropFilter(config map[string]any, name string) {
	walk(config, func(m map[string]any) {
		filters, _ := m["http_filters"].([]any)
		for i, f := range filters {
			if f.(map[string]any)["name"] == name {
				m["http_filters"] = append(filters[:i:i], filters[i+1:]...)
				return
			}
		}
	})
}

// walk visits every object of a document.
func walk(at any, visit func(map[string]any)) {
	switch v := at.(type) {
	case map[string]any:
		visit(v)
		for _, below := range v {
			walk(below, visit)
		}
	case []any:
		for _, below := range v {
			walk(below, visit)
		}
	}
}

func writeYAML(t *testing.T, dir, name string, document any) string {
	t.Helper()
	text, err := yaml.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
