package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"tollgate/authz/key"
)

// source finds two variables and a file.
var testSource = Source{
	Env: func(name string) (string, bool) {
		v, ok := map[string]string{"UPSTREAM_KEY": "sk-up-1", "UPSTREAM_URL": "https://models.internal/api/", "EMPTY": " ", "LINES": "a\nb", "BAD_URL": "http://u:sk-up-2@h"}[name]
		return v, ok
	},
	File: func(path string) ([]byte, error) {
		if path == "/run/key" {
			return []byte("sk-file\n"), nil
		}
		return nil, fs.ErrNotExist
	},
}

func mustCompile(t testing.TB, text string) *Tables {
	t.Helper()
	tables, err := Compile(mustParse(t, text), testSource)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

func TestCompileSample(t *testing.T) {
	tables := mustCompile(t, strings.Replace(string(sample(t)), "dialect: minds", "dialect: openai", 1))
	w := tables.Workspaces["demo"]
	if w == nil || w.Plan != tables.Plans["lite"] || w.Suspended || w.Format.String() != "minds_{hex:48}" ||
		!slices.Equal(w.KeyDefaults.Actions, []key.Action{key.Infer, key.Manage}) || w.Multiplier.String() != "0.4" {
		t.Errorf("workspace %+v", w)
	}
	if u := tables.User("demo", "550e8400-e29b-41d4-a716-446655440000"); u == nil || u.Role != Admin {
		t.Errorf("user %+v", u)
	}
	if tables.User("demo", "x") != nil || tables.User("x", "550e8400-e29b-41d4-a716-446655440000") != nil {
		t.Error("a user that doesn't exist")
	}
	p := w.Plan
	if (p.PerKey != key.Limits{RequestsPerMinute: 60, TokensPerMinute: 10000, ConcurrentRequests: 8}) || p.PerWorkspace.RequestsPerMinute != 600 ||
		p.Budget.Amount.String() != "10" || p.Budget.Period != Month || p.Resources["minds"] != 3 {
		t.Errorf("plan %+v", p)
	}
	m := tables.Model("meta-llama/Llama-3.1-8B-Instruct", "demo")
	if m == nil || !m.Deployed || m.Cluster != "model:meta-llama/Llama-3.1-8B-Instruct" || m.UpstreamModel != "llama-3.1-8b" ||
		len(m.Rates) != 1 || m.Rates[0].Rates[1].Unit != "cacheReadInput" || m.Rates[0].Rates[1].Price.String() != "0.075" || m.Credential.Header != "authorization" || m.Credential.Value() != "Bearer sk-up-1" {
		t.Errorf("model %+v", m)
	}
	if want := (Upstream{URL: "http://127.0.0.1:9100", Scheme: "http", Host: "127.0.0.1", Port: 9100, Weight: 1}); m.Upstreams[0] != want {
		t.Errorf("upstream %+v, want %+v", m.Upstreams[0], want)
	}
	r := tables.Routes[0]
	if r.Dialect == nil || r.Dialect.Name != "podstack" || r.Upstream != nil || r.Cluster != "" || r.Observe != nil ||
		r.MaxDuration != time.Hour || r.MaxBody != 16<<20 || r.MaxMultipart != 32<<20 {
		t.Errorf("route %+v", r)
	}
	if r = tables.Routes[1]; r.Cluster != "route:openai" || r.Upstream.Port != 9200 {
		t.Errorf("route %+v", r)
	}
	if s := tables.Settings; s.ModelHeader != "x-tollgate-model" || !slices.Equal(s.TagHeaders, []string{"x-tag"}) ||
		s.Billing != (Billing{}) {
		t.Errorf("settings %+v", s)
	}
}

func TestCompileDefaults(t *testing.T) {
	tables := mustCompile(t, `
plans: [{id: p, limits: {requestsPerMinute: 7}}]
workspaces: [{id: w, plan: p}, {id: v, plan: p, multiplier: "2", keyDefaults: {actions: []}}]
users: [{id: u, workspace: w}]
models:
  - id: gate-only
  - {id: mesh, cluster: mine, deployed: false}
routes: [{dialect: openai, maxBody: 1MiB, maxDuration: 90s, mode: observe, observe: {workspace: v}}]
settings: {modelHeader: X-Model, billing: {unsettled: charge}}
`)
	w := tables.Workspaces["w"]
	if w.Format.String() != key.DefaultFormat || !slices.Equal(w.KeyDefaults.Actions, []key.Action{key.Infer}) || w.Multiplier.String() != "1" {
		t.Errorf("workspace %+v", w)
	}
	if v := tables.Workspaces["v"]; v.Multiplier.String() != "2" || len(v.KeyDefaults.Actions) != 0 {
		t.Errorf("workspace %+v", v)
	}
	if w.Users["u"].Role != Member || w.Plan.PerKey.RequestsPerMinute != 7 || w.Plan.Budget != nil {
		t.Errorf("user %+v, plan %+v", w.Users["u"], w.Plan)
	}
	if m := tables.Models["gate-only"]; !m.Deployed || m.Cluster != "" || m.UpstreamModel != "gate-only" || m.Credential != nil {
		t.Errorf("model %+v", m)
	}
	if m := tables.Models["mesh"]; m.Deployed || m.Cluster != "mine" {
		t.Errorf("model %+v", m)
	}
	if r := tables.Routes[0]; r.MaxBody != 1<<20 || r.MaxMultipart != 1<<20 || r.MaxDuration != 90*time.Second || r.Observe.Workspace != "v" || r.Observe.May(key.Manage) || !r.Observe.May(key.Infer) {
		t.Errorf("route %+v", r)
	}
	if s := tables.Settings; s.ModelHeader != "x-model" || s.Billing != (Billing{ChargeUnsettled: true}) {
		t.Errorf("settings %+v", s)
	}
}

// TestModelsOfWorkspaces: a model outside of a workspace is as one that doesn't
// exist.
func TestModelsOfWorkspaces(t *testing.T) {
	tables := mustCompile(t, `
plans: [{id: p, models: [b, c/*]}]
workspaces: [{id: w, plan: p}, {id: v, plan: p}]
models:
  - {id: c/all}
  - {id: b, workspaces: [w]}
  - {id: a, workspaces: [w, v]}
  - {id: none, workspaces: []}
`)
	for workspace, want := range map[string][]string{"w": {"a", "b", "c/all"}, "v": {"a", "c/all"}, "unknown": nil} {
		var got []string
		for _, m := range tables.ModelsFor(workspace) {
			got = append(got, m.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s sees %v, want %v", workspace, got, want)
		}
		if workspace == "unknown" {
			continue
		}
		for id := range tables.Models {
			if seen := tables.Model(id, workspace) != nil; seen != slices.Contains(want, id) {
				t.Errorf("%s sees %s: %v", workspace, id, seen)
			}
		}
	}
	if tables.Model("x", "w") != nil {
		t.Error("a model that doesn't exist")
	}
	p := tables.Plans["p"]
	if !p.Allows("b") || !p.Allows("c/all") || p.Allows("a") || !(&Plan{}).Allows("a") {
		t.Error("what the plan opens")
	}
}

func TestModelLimits(t *testing.T) {
	p := mustCompile(t, `
plans:
  - id: p
    limits:
      perModel:
        "*": {requestsPerMinute: 1}
        "a/*": {requestsPerMinute: 2}
        "a/b/*": {requestsPerMinute: 3}
        a/b/c: {requestsPerMinute: 4}
`).Plans["p"]
	for model, want := range map[string]struct {
		pattern string
		limit   int64
	}{"x": {"*", 1}, "a": {"*", 1}, "ab": {"*", 1}, "a/x": {"a/*", 2}, "a/b": {"a/*", 2}, "a/b/x": {"a/b/*", 3}, "a/b/c": {"a/b/c", 4}, "a/b/c/d": {"a/b/*", 3}} {
		if pattern, l := p.ModelLimits(model); pattern != want.pattern || l.RequestsPerMinute != want.limit {
			t.Errorf("%s: %q, %d; want %q, %d", model, pattern, l.RequestsPerMinute, want.pattern, want.limit)
		}
	}
	if pattern, l := (&Plan{}).ModelLimits("a"); pattern != "" || l != (key.Limits{}) {
		t.Error("limits from nowhere")
	}
	if n := testing.AllocsPerRun(100, func() { p.ModelLimits("a/b/c/d") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCredentials(t *testing.T) {
	for spec, want := range map[string]string{
		"env:UPSTREAM_KEY": "authorization=Bearer sk-up-1",
		"file:/run/key":    "authorization=Bearer sk-file",
		"{from: env:UPSTREAM_KEY, scheme: Api-Key}":                      "authorization=Api-Key sk-up-1",
		"{from: env:UPSTREAM_KEY, scheme: ''}":                           "authorization=sk-up-1",
		"{from: env:UPSTREAM_KEY, header: X-Api-Key}":                    "x-api-key=sk-up-1",
		"{from: env:UPSTREAM_KEY, header: X-Api-Key, scheme: Something}": "x-api-key=Something sk-up-1",
	} {
		c := mustCompile(t, "models: [{id: m, credential: "+spec+"}]").Models["m"].Credential
		if got := c.Header + "=" + c.Value(); got != want {
			t.Errorf("%s is %s, want %s", spec, got, want)
		}
		if text := fmt.Sprintf("%v %+v %#v %s", c, c, *c, Model{Credential: c}.Credential); strings.Contains(text, "sk-") {
			t.Errorf("printed: %s", text)
		}
	}
}

func TestCompileSaysWhatIsMissing(t *testing.T) {
	for text, want := range map[string]string{
		"models: [{id: m, credential: 'env:NOPE'}]":                                    `model "m": credential: the environment variable NOPE is not set: set it before Tollgate starts`,
		"models: [{id: m, credential: 'env:EMPTY'}]":                                   `model "m": credential: env:EMPTY is empty: put the upstream's key there`,
		"models: [{id: m, credential: 'env:LINES'}]":                                   `model "m": credential: env:LINES is not one line of printable ASCII, so it can't go into a header`,
		"models: [{id: m, credential: 'file:/x'}]":                                     `model "m": credential: the file can't be read: file does not exist`,
		"models: [{id: m, upstreams: [{url: 'env:NOPE'}]}]":                            `model "m": upstream: the environment variable NOPE is not set: set it before Tollgate starts`,
		"models: [{id: m, upstreams: [{url: 'env:BAD_URL'}]}]":                         `model "m": upstream: the environment variable BAD_URL: a URL must not hold a user or password: use credential`,
		"models: [{id: m, upstreams: [{url: 'http://h'}, {url: 'env:UPSTREAM_URL'}]}]": `model "m": upstreams http://h and https://models.internal/api differ in scheme or path: they must serve the same API`,
		"routes: [{dialect: openai, upstream: 'env:NOPE'}]":                            `route of dialect "openai": upstream: the environment variable NOPE is not set: set it before Tollgate starts`,
	} {
		if _, err := Compile(mustParse(t, text), testSource); err == nil || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
	if _, err := Compile(mustParse(t, "models: [{id: m, credential: 'file:/x'}]"), Source{}); err == nil {
		t.Error("a file was found without looking")
	}
	// What didn't come from a text is looked at too.
	_, err := Compile(&Catalog{Workspaces: []WorkspaceSpec{{ID: "w", Plan: "p"}}}, Source{})
	var all *Error
	if want := `workspaces[0].plan: there is no plan "p"; declare it under plans`; !errors.As(err, &all) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestURLs(t *testing.T) {
	for text, want := range map[string]Upstream{
		"http://h":                    {URL: "http://h", Scheme: "http", Host: "h", Port: 80},
		"https://models.internal/v1/": {URL: "https://models.internal/v1", Scheme: "https", Host: "models.internal", Port: 443, Path: "/v1"},
		"http://[::1]:9100/":          {URL: "http://[::1]:9100", Scheme: "http", Host: "::1", Port: 9100},
		"http://10.0.0.1:65535/a/b":   {URL: "http://10.0.0.1:65535/a/b", Scheme: "http", Host: "10.0.0.1", Port: 65535, Path: "/a/b"},
	} {
		got, err := parseURL(text)
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "h", "h:80", "//h", "ftp://h", "http:", "http://", "http:h", "http://:80", "http://u@h", "http://u:p@h", "http://h?", "http://h?a=b",
		"http://h#", "http://h#a", "http://h:0", "http://h:65536", "http://h:x", "http://h:", "http://a b", "http://h/a%2fb", "http://h/a b",
		"http://h/../a", "http://h//a", "http://h/a\\b", "http://-h", "http://h_-", "http://[fe80::1%25eth0]", "http://h\n", "http://é", "http://h/é",
	} {
		if u, err := parseURL(text); err == nil {
			t.Errorf("%q is accepted as %+v", text, u)
		}
	}
}
