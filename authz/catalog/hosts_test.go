package catalog

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tollgate/authz/dialect"
)

func TestHostName(t *testing.T) {
	for host, want := range map[string]string{
		"api.example.com": "api.example.com", "API.Example.COM:8080": "api.example.com", "api.example.com.": "api.example.com",
		"api.example.com.:443": "api.example.com", "127.0.0.1:80": "127.0.0.1", "[::1]:80": "[::1]", "[::1]": "[::1]", "": "", ":80": "", "a:b": "a",
	} {
		if got := HostName(host); got != want {
			t.Errorf("%q is %q, want %q", host, got, want)
		}
	}
}

func TestServes(t *testing.T) {
	exact, near, far, all := &Route{Hosts: []string{"x.org", "a.b.example.com"}}, &Route{Hosts: []string{"*.b.example.com"}},
		&Route{Hosts: []string{"*.example.com"}}, &Route{}
	for host, want := range map[string][4]bool{
		"a.b.example.com": {true, true, true, true}, "x.b.example.com": {false, true, true, true}, "b.example.com": {false, false, true, true},
		"example.com": {false, false, false, true}, ".example.com": {false, false, false, true}, "badexample.com": {false, false, false, true},
		"x.org": {true, false, false, true}, "": {false, false, false, true},
	} {
		before := 1 << 20
		for i, r := range []*Route{exact, near, far, all} {
			rank := r.Serves(host)
			if (rank > 0) != want[i] {
				t.Errorf("%s, route %d: %d", host, i, rank)
			}
			if rank > 0 {
				if rank >= before {
					t.Errorf("%s: what names it less exactly is not ranked lower", host)
				}
				before = rank
			}
		}
	}
}

func TestHostsProblems(t *testing.T) {
	for text, want := range map[string]string{
		"{dialect: openai, hosts: []}":                                                 "routes[0].hosts: is empty",
		"{dialect: openai, hosts: [api.example.com, '*.example.com', localhost]}":      "",
		"{dialect: openai, hosts: [API.Example.com, api.example.com]}":                 `"api.example.com" stands twice`,
		"{dialect: openai, hosts: ['api.example.com:443']}":                            "without a scheme and a port",
		"{dialect: openai, hosts: ['https://api.example.com']}":                        "without a scheme and a port",
		"{dialect: openai, hosts: ['*']}":                                              "want a host such as",
		"{dialect: openai, hosts: ['a.*.example.com']}":                                "want a host such as",
		"{dialect: openai, hosts: [example.com.]}":                                     "want a host such as",
		"{dialect: openai, hosts: ['']}":                                               "routes[0].hosts[0]: is missing",
		"{dialect: openai}, {dialect: anthropic}":                                      "",
		"{dialect: openai}, {dialect: openai, hosts: [a]}":                             "",
		"{dialect: openai, hosts: [a, b]}, {dialect: openai, hosts: [c, B]}":           `routes[1].dialect: there is another route of this dialect, routes[0], for the host "c`,
		"{dialect: openai, hosts: [a]}, {dialect: openai, hosts: ['*.a']}":             "",
		"{dialect: openai}, {dialect: openai}":                                         "routes[1].dialect: there is another route of this dialect, routes[0], for all hosts",
		"{dialect: openai, cors: {}}":                                                  "routes[0].cors.origins: is missing",
		"{dialect: openai, cors: {origins: ['*']}}":                                    "",
		"{dialect: openai, cors: {origins: ['*', 'https://a.b']}}":                     "let it stand alone",
		"{dialect: openai, cors: {origins: ['https://a.b', 'http://localhost:3000']}}": "",
		"{dialect: openai, cors: {origins: ['https://a.b/']}}":                         "browsers write an origin",
		"{dialect: openai, cors: {origins: ['https://A.b']}}":                          "browsers write an origin",
		"{dialect: openai, cors: {origins: ['https://a.b:443']}}":                      "browsers write an origin",
		"{dialect: openai, cors: {origins: [a.b]}}":                                    "want an origin",
		"{dialect: openai, cors: {origins: ['https://a.b', 'https://a.b']}}":           "stands twice",
		"{dialect: openai, cors: {origins: ['https://a.b'], maxAge: 2d}}":              "want a duration",
		"{dialect: openai, cors: {origins: ['https://a.b'], credentials: true}}":       "unknown field",
	} {
		_, err := Parse("c", []byte("routes: ["+text+"]"))
		if want = strings.ReplaceAll(want, `"c`, `"`); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// Two dialects with the same path can't be for the same hosts, and the error names
// both.
func TestCollidingRoutes(t *testing.T) {
	first, _ := dialect.Lookup("openai")
	for _, name := range dialect.Names() {
		d, _ := dialect.Lookup(name)
		p, _ := dialect.Collision(first, d)
		_, err := Parse("c", []byte("routes: [{dialect: openai}, {dialect: "+name+"}]"))
		if (p != nil) != (err != nil) {
			t.Errorf("openai and %s: %v", name, err)
		}
	}
	s := newSource("", nil)
	s.apart([]RouteSpec{{Dialect: "openai"}, {Dialect: "openai"}, {Dialect: "podstack"}})
	if err := s.err(); err == nil || strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("%v", err)
	}
}

// What is made at an upstream is told apart by its dialect and its id: so there can't
// be two upstreams with ids of their own.
func TestObjectsAreInOnePlace(t *testing.T) {
	for text, refused := range map[string]bool{
		"{dialect: minds, upstream: 'http://u', hosts: [a]}, {dialect: minds, upstream: 'http://v', hosts: [b]}":   true,
		"{dialect: minds, upstream: 'http://u', hosts: [a]}, {dialect: minds, hosts: [b]}":                         true,
		"{dialect: minds, upstream: 'http://u', hosts: [a]}, {dialect: minds, upstream: 'http://u', hosts: [b]}":   false,
		"{dialect: openai, upstream: 'http://u', hosts: [a]}, {dialect: openai, upstream: 'http://v', hosts: [b]}": false,
	} {
		_, err := Parse("c", []byte("routes: ["+text+"]"))
		if refused != (err != nil) || refused && !strings.Contains(err.Error(), "routes[1].upstream: differs from that of routes[0]") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestCompileHosts(t *testing.T) {
	c, err := Parse("c", []byte("routes: [{dialect: minds, upstream: 'http://u', hosts: [Api.Example.com, b], cors: {origins: ['https://a.b']}}, "+
		"{dialect: minds, upstream: 'http://u', hosts: [c], cors: {origins: ['https://a.b'], maxAge: 1h}}, {dialect: openai}]"))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := Compile(c, Source{})
	if err != nil {
		t.Fatal(err)
	}
	r := tables.Routes
	if !slices.Equal(r[0].Hosts, []string{"api.example.com", "b"}) || r[0].CORS.MaxAge != DefaultCORSMaxAge || r[1].CORS.MaxAge != time.Hour || r[2].CORS != nil || r[2].Hosts != nil {
		t.Errorf("%+v", r)
	}
	if r[0].Cluster == r[1].Cluster || !strings.HasPrefix(r[0].Cluster, RouteCluster("")) {
		t.Errorf("clusters %s and %s", r[0].Cluster, r[1].Cluster)
	}
	stored, err := Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Parse("stored", stored); err != nil || again.Routes[1].CORS.MaxAge != "1h" {
		t.Errorf("%v: %s", err, stored)
	}
	if got := (&Route{Hosts: []string{"*.example.com"}}).SomeHost(); (&Route{Hosts: []string{"*.example.com"}}).Serves(got) == 0 {
		t.Errorf("%s is no host of the route", got)
	}
}
