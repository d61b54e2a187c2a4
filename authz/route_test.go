package authz

import (
	"net/http"
	"strings"
	"testing"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/reason"
)

const hostsCatalog = `
plans: [{id: p}]
workspaces: [{id: demo, plan: p}]
models: [{id: plain, upstreamModel: up}]
routes:
  - {dialect: openai}
  - {dialect: anthropic}
  - {dialect: azure, hosts: [azure.example.com]}
  - {dialect: openai, hosts: ["*.example.com"], maxBody: 1KiB}
  - {dialect: anthropic, hosts: ["claude.example.com", "*.claude.example.com"]}
  - {dialect: minds, hosts: [minds.example.com]}
`

// TestHosts: a path means what the route says that names the host most exactly, and
// of those one that asks for a header which the request has.
func TestHosts(t *testing.T) {
	a, _ := newAuthorizer(t)
	tables := compiled(t, hostsCatalog)
	a.Tables = func() *catalog.Tables { return tables }
	version := dialect.Header{Name: "anthropic-version", Value: "2023-06-01"}
	for _, c := range []struct {
		host, method, path string
		headers            []dialect.Header
		dialect            string
		route              int // its index; -1: none has it
	}{
		{"", "GET", "/v1/models", nil, "openai", 0},
		{"any", "GET", "/v1/models", nil, "openai", 0},
		{"any", "GET", "/v1/models", []dialect.Header{version}, "anthropic", 1},
		{"any", "GET", "/v1/models/plain", []dialect.Header{version}, "anthropic", 1},
		{"api.example.com", "GET", "/v1/models", nil, "openai", 3},
		{"API.Example.com.:8080", "GET", "/v1/models", nil, "openai", 3},
		// The host counts before the header.
		{"api.example.com", "GET", "/v1/models", []dialect.Header{version}, "openai", 3},
		{"claude.example.com", "GET", "/v1/models", []dialect.Header{version}, "anthropic", 4},
		{"claude.example.com", "GET", "/v1/models", nil, "openai", 3},
		{"x.claude.example.com", "GET", "/v1/models", []dialect.Header{version}, "anthropic", 4},
		{"example.com", "GET", "/v1/models", nil, "openai", 0},
		{"azure.example.com", "GET", "/openai/models", nil, "azure", 2},
		{"any", "GET", "/openai/models", nil, "", -1},
		{"azure.example.com", "GET", "/openai/nothing", nil, "azure", -1},
		{"minds.example.com", "GET", "/api/v1/nothing", nil, "minds", -1},
		{"any", "GET", "/api/v1/nothing", nil, "", -1},
		// What nobody has is refused as by the one that has its like.
		{"any", "GET", "/v1/messages/batches", []dialect.Header{version}, "anthropic", -1},
		{"any", "GET", "/v1/messages/batches", nil, "anthropic", -1},
		{"any", "GET", "/v1/files", []dialect.Header{version}, "anthropic", -1},
		{"any", "GET", "/v1/files", nil, "", -1},
		{"any", "DELETE", "/v1/models/plain", nil, "openai", -1},
		{"any", "DELETE", "/v1/models/plain", []dialect.Header{version}, "anthropic", -1},
		{"any", "GET", "/v1/responses/resp_1", nil, "openai", -1},
		{"api.example.com", "GET", "/v1/messages", nil, "anthropic", -1},
		{"x.example.com", "GET", "/v1/models/a/b:cancel", []dialect.Header{version}, "openai", 3},
		{"x.example.com", "POST", "/v1/models/a", []dialect.Header{version}, "openai", -1},
	} {
		req := &dialect.Request{Method: c.method, Path: c.path, Host: c.host, Headers: append([]dialect.Header{{Name: "authorization", Value: "Bearer good"}}, c.headers...)}
		var d Decision
		check := check{Authorizer: a, now: start, req: req, d: &d, tables: tables}
		found := check.findRoute()
		if found != (c.route >= 0) || found && check.route != &tables.Routes[c.route] || d.Dialect != c.dialect {
			t.Errorf("%s%s %v: %s, %v", c.host, c.path, c.headers, d.Dialect, check.route)
		}
	}
}

// TestAnthropic is a request of that dialect from the check to the headers on its
// answer, and one for which it has no tokens.
func TestAnthropic(t *testing.T) {
	a, _ := newAuthorizer(t)
	tables := compiled(t, "plans: [{id: p, limits: {requestsPerMinute: 2, tokensPerMinute: 1000}}]\nworkspaces: [{id: demo, plan: p}]\n"+
		"models: [{id: plain}]\nroutes: [{dialect: anthropic}]")
	a.Tables = func() *catalog.Tables { return tables }
	send := func(path string) *Decision {
		var d Decision
		a.Check(t.Context(), start, &dialect.Request{Method: http.MethodPost, Path: path, Headers: []dialect.Header{{Name: "x-api-key", Value: "good"}},
			Body: []byte(`{"model":"plain","max_tokens":100,"messages":[{"role":"user","content":"Hello"}]}`)}, &d)
		return &d
	}
	value := func(headers []dialect.Header, name string) string {
		for _, h := range headers {
			if h.Name == name {
				return h.Value
			}
		}
		return ""
	}
	d := send("/v1/messages/count_tokens")
	if d.Admission == nil || d.Admission.Reserved.Tokens != 0 {
		t.Fatalf("counting tokens: %+v", d)
	}
	if u := Measure(d.Admission, Observation{Status: 200, Bytes: 20, Complete: true, Upstream: "u"}, a.Estimator); u.Tokens != (Tokens{}) || u.Outcome != Completed {
		t.Errorf("counting tokens used %+v", u)
	}
	d = send("/v1/messages")
	if d.Admission == nil || d.Admission.Reserved.Tokens < 100 {
		t.Fatalf("%+v", d)
	}
	for name, want := range map[string]string{
		"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-tokens-limit": "1000", "request-id": d.Admission.ID, "x-request-id": d.Admission.ID,
		"x-ratelimit-limit-requests": "",
	} {
		if got := value(d.ResponseHeaders, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	d = send("/v1/messages?beta=true")
	if d.Reason != reason.RateLimitExceeded || d.Response.Status != http.StatusTooManyRequests || !strings.HasPrefix(string(d.Response.Body), `{"type":"error","error":{"type":"rate_limit_error"`) {
		t.Errorf("%v %+v", d.Reason, d.Response)
	}
	if value(d.Response.Headers, "anthropic-ratelimit-requests-limit") != "2" || value(d.Response.Headers, "request-id") == "" || value(d.Response.Headers, "retry-after") == "" {
		t.Errorf("%v", d.Response.Headers)
	}
}

// TestStatedElsewhere: tokens come from the members that the path names, where the
// answer has no usage that every service has.
func TestStatedElsewhere(t *testing.T) {
	d, _ := dialect.Lookup("cohere")
	p, _, _ := d.Match(http.MethodPost, "/v2/chat")
	a := &Admission{Dialect: "cohere", Path: p.Name(), OutputEstimate: 50}
	in, out := p.Stated.Input[1], p.Stated.Output[1]
	for _, c := range []struct {
		told []Label
		want Tokens
		how  Measurement
	}{
		{[]Label{{in, "7"}, {out, "12.0"}}, Tokens{Input: 7, Output: 12}, Reported},
		{[]Label{{out, "0"}}, Tokens{}, Reported},
		{[]Label{{in, "-7"}}, Tokens{}, Estimated},
		{[]Label{{in, "1e99"}}, Tokens{}, Estimated},
		{nil, Tokens{}, Estimated},
	} {
		o := Observation{Status: 200, Complete: true, Upstream: "u", Told: c.told}
		if u := Measure(a, o, new(Estimator)); u.Tokens != c.want || u.Measurement != c.how {
			t.Errorf("%v: %+v %s", c.told, u.Tokens, u.Measurement)
		}
	}
	cut := Observation{Status: 200, Flags: "DC", Events: 3, Upstream: "u", Told: []Label{{in, "7"}}}
	if u := Measure(a, cut, new(Estimator)); u.Tokens != (Tokens{Input: 7, Output: 3}) || u.Measurement != Estimated || u.Outcome != ClientClosed {
		t.Errorf("hung up when only what went in was told: %+v", u)
	}
	o := Observation{Status: 200, Complete: true, Upstream: "u", Reported: true, Tokens: Tokens{Input: 1}, Told: []Label{{in, "7"}}}
	if u := Measure(a, o, new(Estimator)); u.Tokens != (Tokens{Input: 1}) {
		t.Errorf("the usual way: %+v", u.Tokens)
	}
}
