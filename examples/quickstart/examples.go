package main

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tollgate/examples/backend"
	"tollgate/examples/baseten"
	"tollgate/examples/minds"
	"tollgate/examples/minibase"
	"tollgate/examples/minimax"
	"tollgate/examples/podstack"
)

// What an example's catalog may name, and what chooses the example.
const (
	exampleEnv    = "TOLLGATE_EXAMPLE"
	upstreamEnv   = "EXAMPLE_UPSTREAM"     // the URL of its upstream
	credentialEnv = "EXAMPLE_UPSTREAM_KEY" // the operator's credential there
	dataEnv       = "TOLLGATE_DATA"
)

// example is a directory below examples.
type example struct {
	name string
	// upstream makes its stand-in, which has one credential and reports what must
	// not reach it.
	upstream func(credential string, report func(wrong string)) http.Handler
}

var upstreams = map[string]func(credential string, report func(wrong string)) http.Handler{
	"quickstart": func(string, func(string)) http.Handler { return backend.New(backend.Options{}) },
	"minibase":   minibase.New,
	"podstack":   podstack.New,
	"baseten":    baseten.New,
	"minimax":    minimax.New,
	"minds":      minds.New,
}

// chosen is the example that the environment names, the quickstart where it names
// none.
func chosen() (example, error) {
	e := example{name: os.Getenv(exampleEnv)}
	if e.name == "" {
		e.name = "quickstart"
	}
	e.upstream = upstreams[e.name]
	if e.upstream == nil {
		return e, fmt.Errorf("there is no example %q; there are %s", e.name, strings.Join(slices.Sorted(maps.Keys(upstreams)), ", "))
	}
	return e, nil
}

// catalog is where its catalog is, from the directory above this binary.
func (e example) catalog() string { return filepath.Join("examples", e.name, "catalog.yaml") }

// data is a data directory of its own, because a catalog counts only into an empty
// one; "": Tollgate's default.
func (e example) data() string {
	if e.name == "quickstart" {
		return ""
	}
	return ".data-" + e.name
}

// credential is what the upstream takes for the operator's: the environment's, or
// one that is made up for this run.
func credential() string {
	if given := os.Getenv(credentialEnv); given != "" {
		return given
	}
	return "upstream-" + rand.Text()
}
