package envoy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"tollgate/authz/catalog"
	"tollgate/envoy"
	"tollgate/envoy/envoytest"
)

// echoPath is an upstream that answers with the path that it was asked for.
func echoPath(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "https://upstream.example")
	_, _ = io.WriteString(w, r.URL.Path)
}

// atHost sends a request for a host.
func (g *gate) atHost(t *testing.T, method, host, path string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, g.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	return send(t, req)
}

const withKey = "authorization: Bearer good"

// Envoy takes a request's host for the same route as a Check does, however it is
// written.
func TestHosts(t *testing.T) {
	hosts := [][]string{nil, {"api.example.com"}, {"*.example.com", "other.org"}, {"*.deep.example.com"}}
	names := []string{"all", "exact", "wild", "deep"}
	g := newGate(t, echoPath, func(o *envoytest.Options) {
		o.Spec.Routes = nil
		for i, name := range names {
			o.Spec.Routes = append(o.Spec.Routes, envoy.Route{Prefix: "/v1", Hosts: hosts[i], Rewrite: "/" + name})
		}
		o.Spec.Routes = append(o.Spec.Routes, envoy.Route{Prefix: "/only", Hosts: hosts[1]}, envoy.Route{Prefix: "/everywhere"})
	})
	for _, host := range []string{
		"api.example.com", "API.Example.COM", "api.example.com:8080", "api.example.com.", "Api.example.com.:443", "x.example.com", "x.EXAMPLE.com:1",
		"example.com", "a.b.example.com", "a.deep.example.com", "deep.example.com", "A.B.Deep.Example.com.:80", "other.org", "x.other.org", "127.0.0.1", "[::1]:80", "localhost",
		"badexample.com", "-.example.com",
	} {
		best, want := 0, ""
		for i := range hosts {
			if rank := (&catalog.Route{Hosts: hosts[i]}).Serves(catalog.HostName(host)); rank > best {
				best, want = rank, names[i]
			}
		}
		if a := g.atHost(t, http.MethodGet, host, "/v1/x", withKey); a.body != "/"+want+"/x" {
			t.Errorf("%s: %d %s, want %s", host, a.status, a.body, want)
		}
		// The Check is told the host in the same words, or in others that mean the same.
		if seen := g.checks.last().Host; catalog.HostName(seen) != catalog.HostName(host) {
			t.Errorf("%s is checked as %s", host, seen)
		}
		if a := g.atHost(t, http.MethodGet, host, "/everywhere", withKey); a.body != "/everywhere" {
			t.Errorf("%s, what is for all hosts: %d %s", host, a.status, a.body)
		}
		if a := g.atHost(t, http.MethodGet, host, "/only", withKey); (a.status == http.StatusOK) != (want == "exact") {
			t.Errorf("%s, what is for another host: %d %s", host, a.status, a.body)
		}
	}
}

// A route that asks for a header goes before one that doesn't, on its own host.
func TestRouteByHeader(t *testing.T) {
	g := newGate(t, echoPath, func(o *envoytest.Options) {
		o.Spec.Routes = []envoy.Route{
			{Prefix: "/v1/models", Rewrite: "/plain"},
			{Prefix: "/v1/models", Header: "anthropic-version", Rewrite: "/versioned"},
			{Prefix: "/v1/models", Hosts: []string{"one.example.com"}, Rewrite: "/one"},
		}
	})
	for _, c := range []struct{ host, header, want string }{
		{"h", withKey, "/plain"}, {"h", "anthropic-version: 2023-06-01", "/versioned"},
		{"one.example.com", withKey, "/one"}, {"one.example.com", "anthropic-version: 2023-06-01", "/versioned"},
	} {
		if a := g.atHost(t, http.MethodGet, c.host, "/v1/models", withKey, c.header); a.body != c.want {
			t.Errorf("%s, %s: %d %s, want %s", c.host, c.header, a.status, a.body, c.want)
		}
	}
}

// Pages of a listed origin may ask and call; a preflight needs no key and makes no
// Check. Nobody else gets a header of it, and nowhere are credentials allowed.
func TestCORS(t *testing.T) {
	const page = "https://app.example.com"
	g := newGate(t, echoPath, func(o *envoytest.Options) {
		allowed := &envoy.CORS{Origins: []string{page, "http://localhost:3000"}, Methods: []string{"GET", "POST"}, MaxAge: 10 * time.Minute}
		o.Spec.Routes = []envoy.Route{
			{Prefix: "/v1"},
			{Prefix: "/open", CORS: allowed},
			{Prefix: "/any", CORS: &envoy.CORS{Origins: []string{"*"}, Methods: []string{"POST"}}},
			{Prefix: "/v1", Hosts: []string{"web.example.com"}, CORS: allowed},
		}
	})
	allow := func(a answer) string { return a.header.Get("Access-Control-Allow-Origin") }
	preflight := func(host, path, origin string) answer {
		return g.atHost(t, http.MethodOptions, host, path, "origin: "+origin, "access-control-request-method: POST", "access-control-request-headers: authorization,content-type,x-stainless-os")
	}
	for _, c := range []struct{ host, path, origin, want string }{
		{"h", "/open/x", page, page}, {"h", "/open/x", "http://localhost:3000", "http://localhost:3000"}, {"web.example.com", "/v1/x", page, page},
		{"h", "/any", "https://whoever.example", "https://whoever.example"},
		{"h", "/open/x", "https://evil.example", ""}, {"h", "/open/x", page + ".evil.example", ""}, {"h", "/open/x", "http://app.example.com", ""}, {"h", "/open/x", "null", ""},
		{"h", "/v1/x", page, ""},
	} {
		before := g.checks.n.Load()
		a := preflight(c.host, c.path, c.origin)
		if allow(a) != c.want || (a.status == http.StatusOK) != (c.want != "") || g.checks.n.Load() != before {
			t.Errorf("preflight of %s at %s%s: %d %v", c.origin, c.host, c.path, a.status, a.header)
		}
		if a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: credentials are allowed: %v", c.path, a.header)
		}
	}
	a := preflight("h", "/open/x", page)
	for name, want := range map[string]string{"Access-Control-Allow-Methods": "GET, POST", "Access-Control-Max-Age": "600"} {
		if a.header.Get(name) != want {
			t.Errorf("%s: %q", name, a.header.Get(name))
		}
	}
	if h := a.header.Get("Access-Control-Allow-Headers"); !strings.HasPrefix(h, "authorization, ") || !strings.HasSuffix(h, ", *") {
		t.Errorf("headers: %q", h)
	}

	// The answers themselves, a refusal's too, for pages read those.
	for _, key := range []string{"Bearer good", "Bearer bad"} {
		for _, size := range []string{"", strings.Repeat("x", 1<<14)} {
			a := g.do(t, http.MethodPost, "/open/x", strings.NewReader(size), "origin: "+page, "authorization: "+key)
			if allow(a) != page || !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "retry-after-ms") || (a.status == http.StatusOK) != (key == "Bearer good") {
				t.Errorf("%s, %d bytes: %d %v", key, len(size), a.status, a.header)
			}
		}
	}
	if a := g.do(t, http.MethodGet, "/open/x", nil, "origin: https://evil.example"); allow(a) == "https://evil.example" {
		t.Errorf("another page's call: %v", a.header)
	}
	if a := g.atHost(t, http.MethodOptions, "h", "/open/x", "origin: "+page); a.status != http.StatusUnauthorized {
		t.Errorf("OPTIONS that is no preflight: %d", a.status)
	}
}
