package envoy_test

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/dialect"
	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/events/natstest/freeaddr"
)

// ownErrors are Envoy's own errors by what brings them about, with the request's id as
// ID, and the message as MESSAGE.
var ownErrors = map[string]struct {
	status int
	retry  string            // retry-after
	bodies map[string]string // by dialect; "": of all others
}{
	"down": {503, "1", map[string]string{
		"":          `{"error":{"message":"MESSAGE","type":"server_error","param":null,"code":null}}`,
		"anthropic": `{"type":"error","error":{"type":"api_error","message":"MESSAGE"},"request_id":"ID"}`,
		"baseten":   `{"error":{"message":"MESSAGE","code":"unavailable"}}`,
		"cohere":    `{"id":"ID","message":"MESSAGE"}`,
		"minds":     `{"statusCode":503,"statusMessage":"Service Unavailable","message":"MESSAGE"}`,
		"minibase":  `{"success":false,"error":"MESSAGE","code":"unavailable"}`,
		"minimax":   `{"base_resp":{"status_code":1000,"status_msg":"MESSAGE"}}`,
	}},
	"slow": {504, "1", map[string]string{
		"":          `{"error":{"message":"MESSAGE","type":"server_error","param":null,"code":null}}`,
		"anthropic": `{"type":"error","error":{"type":"timeout_error","message":"MESSAGE"},"request_id":"ID"}`,
		"baseten":   `{"error":{"message":"MESSAGE","code":"unavailable"}}`,
		"cohere":    `{"id":"ID","message":"MESSAGE"}`,
		"minds":     `{"statusCode":504,"statusMessage":"Gateway Timeout","message":"MESSAGE"}`,
		"minibase":  `{"success":false,"error":"MESSAGE","code":"unavailable"}`,
		"minimax":   `{"base_resp":{"status_code":1001,"status_msg":"MESSAGE"}}`,
	}},
	"large": {413, "", map[string]string{
		"":          `{"error":{"message":"MESSAGE","type":"invalid_request_error","param":null,"code":"request_too_large"}}`,
		"anthropic": `{"type":"error","error":{"type":"request_too_large","message":"MESSAGE"},"request_id":"ID"}`,
		"baseten":   `{"error":{"message":"MESSAGE","code":"request_too_large"}}`,
		"cohere":    `{"id":"ID","message":"MESSAGE"}`,
		"minds":     `{"statusCode":413,"statusMessage":"Request Entity Too Large","message":"MESSAGE"}`,
		"minibase":  `{"success":false,"error":"MESSAGE","code":"request_too_large"}`,
		"minimax":   `{"base_resp":{"status_code":2013,"status_msg":"MESSAGE"}}`,
	}},
}

// sentences are what the messages of Envoy's own errors begin with.
var sentences = map[string]string{
	"down": "The model's server could not be reached", "broken": "The model's server could not be reached", "slow": "The model took too long",
	"large": "The request's body is larger", "unchecked": "The gateway can't check keys",
}

// What Envoy itself answers has the form of the route's dialect, also where it never
// got to a Check's answer, and what came to no route has OpenAI's.
func TestOwnErrorsSpeakTheDialect(t *testing.T) {
	t.Parallel()
	g := newGate(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("x-case") == "broken" {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
	}, func(o *envoytest.Options) {
		closed := freeaddr.Take(t)
		o.Spec.Clusters = append(o.Spec.Clusters, envoy.Cluster{Name: "down", Endpoints: []envoy.Endpoint{endpoint(t, "http://"+closed)}})
		o.Spec.Routes = nil
		for _, name := range dialect.Names() {
			o.Spec.Routes = append(o.Spec.Routes,
				envoy.Route{Prefix: "/slow/" + name, Dialect: name, MaxDuration: 500 * time.Millisecond, MaxBody: 1 << 10},
				envoy.Route{Prefix: "/" + name, Dialect: name, MaxBody: 1 << 10})
		}
	})
	g.checks.hook = func(_ context.Context, r *dialect.Request, d *authz.Decision) {
		switch kind := headerOf(r, "x-case"); {
		case d.Admission == nil:
			return
		case kind == "unchecked":
			d.Cluster = "nowhere" // the Check ends with an error, as where it finds no replica
			return
		case kind == "down":
			d.Cluster = kind
		}
		d.SetHeaders = append(d.SetHeaders, dialect.Header{Name: "x-tollgate-request-id", Value: d.Admission.ID})
	}
	for _, name := range dialect.Names() {
		for kind, sentence := range sentences {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				body := "{}"
				if kind == "large" {
					body = strings.Repeat("x", 1<<20)
				}
				path := "/" + name + "/x"
				if kind == "slow" {
					path = "/slow" + path
				}
				a := g.post(t, path, body, "x-case: "+kind, `x-request-id: "}%PROTOCOL%`)
				like := kind
				if kind == "broken" || kind == "unchecked" {
					like = "down"
				}
				want := ownErrors[like]
				form := want.bodies[name]
				if form == "" {
					form = want.bodies[""]
				}
				before, after, _ := strings.Cut(strings.ReplaceAll(form, "ID", a.header.Get("x-request-id")), "MESSAGE")
				message := strings.TrimSuffix(strings.TrimPrefix(a.body, before), after)
				if a.status != want.status || before+message+after != a.body || !strings.HasPrefix(message, sentence) {
					t.Errorf("%d %s\nwant %d %s", a.status, a.body, want.status, form)
				}
				h := a.header
				if h.Get("retry-after") != want.retry || h.Get("content-type") != "application/json" || len(h.Get("x-request-id")) < len("adm-1") ||
					strings.ContainsAny(h.Get("x-request-id"), `"%`) || h.Get("content-length") != strconv.Itoa(len(a.body)) {
					t.Errorf("headers: %v", h)
				}
				if id := h.Get("request-id"); (id != "") != (name == "anthropic") || id != "" && id != h.Get("x-request-id") {
					t.Errorf("request-id: %q", id)
				}
			})
		}
	}
	wantError(t, g.post(t, "/nowhere", "{}"), 404, "invalid_request_error", "")
	// Whoever names a dialect by itself is not heard.
	wantError(t, g.post(t, "/openai/x", "{}", "x-case: down", "tollgate.dialect: minds", "x-tollgate-dialect: minds"), 503, "server_error", "")
}

// So do errors of what Tollgate answers by its own handler, when it is away.
func TestManagedIsAway(t *testing.T) {
	t.Parallel()
	g := newGate(t, func(http.ResponseWriter, *http.Request) {}, func(o *envoytest.Options) {
		o.Spec.Managed = []envoy.Managed{{Path: "/keys", Dialect: "minds"}, {Path: "/metrics", Dialect: "baseten"}}
	})
	if err := g.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	const said = "The gateway can't answer this at the moment. Try again in a second."
	for path, want := range map[string]string{
		"/keys":    `{"statusCode":503,"statusMessage":"Service Unavailable","message":"` + said + `"}`,
		"/metrics": `{"error":{"message":"` + said + `","code":"unavailable"}}`,
	} {
		if a := g.do(t, http.MethodGet, path, nil); a.status != 503 || a.body != want || a.header.Get("retry-after") != "1" {
			t.Errorf("%s: %d %s, %v; want %s", path, a.status, a.body, a.header, want)
		}
	}
}
