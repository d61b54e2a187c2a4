package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows says which packages of this module a package may import. They point one
// way: the domain knows nobody, the parts that speak to a disk, to NATS and to
// Envoy know the domain and not each other, and only the command sees all.
var arrows = map[string][]string{
	"authz/reason":              {},
	"authz/key":                 {},
	"authz/money":               {},
	"authz/limit":               {"authz/reason", "authz/money"},
	"authz/dialect":             {"authz/reason", "authz/key"},
	"authz/catalog":             {"authz/reason", "authz/key", "authz/limit", "authz/dialect", "authz/money"},
	"authz":                     {"authz/reason", "authz/key", "authz/limit", "authz/dialect", "authz/money", "authz/catalog"},
	"authz/manage":              {"authz/reason", "authz/key", "authz/limit", "authz/dialect", "authz/money", "authz/catalog", "authz"},
	"authz/dialect/dialecttest": {},
	"authz/manage/managetest":   {"authz", "authz/key", "authz/limit", "authz/catalog", "authz/manage"},

	"cache":           {"authz", "authz/key"},
	"events/journal":  {},
	"events/natsd":    {},
	"events/natstest": {"events/natstest/freeaddr"},
	"events":          {"authz", "authz/key", "authz/catalog", "authz/money", "authz/reason", "events/journal", "events/natsd"},
	"events/relay":    {"authz", "events"},
	"events/totals":   {"authz", "authz/money", "events"},
	"envoy":           {"authz", "authz/dialect", "authz/catalog", "authz/key", "authz/reason"},
	"envoy/envoytest": {
		"envoy", "events/natstest/freeaddr",
	},

	"events/natstest/freeaddr": {},
	"cmd/tollgate":             {"..."},
	"examples/backend":         {},
	"examples/backend/serve":   {"examples/backend"},
	"examples/standin":         {},
	"examples/minibase":        {"examples/standin"},
	"examples/podstack":        {"examples/standin", "examples/backend"},
	"examples/baseten":         {"examples/standin"},
	"examples/minimax":         {"examples/standin"},
	"examples/minds":           {"examples/standin"},
	"examples/quickstart": {
		"examples/backend", "examples/minibase", "examples/podstack", "examples/baseten", "examples/minimax", "examples/minds",
	},
}

// ioFree are the packages whose decisions must be reproducible from their
// arguments: no network, no disk, no clock that they read by themselves.
var ioFree = []string{"authz/reason", "authz/money", "authz/key", "authz/limit", "authz/dialect", "authz/catalog", "authz"}

// ioPackages are the imports that an ioFree package may not have, nor anything below.
var ioPackages = []string{"net", "os/exec", "google.golang.org/grpc", "github.com/nats-io/", "github.com/envoyproxy/", "github.com/dgraph-io/"}

func TestImportArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "tollgate/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := strings.TrimPrefix(fields[0], "tollgate/")
		seen[from] = true
		may, known := arrows[from]
		if !known {
			t.Errorf("%s is in no arrow: say in this test what it may import", from)
			continue
		}
		for _, imported := range fields[1:] {
			to, ours := strings.CutPrefix(imported, "tollgate/")
			if ours && !slices.Contains(may, to) && !slices.Contains(may, "...") {
				t.Errorf("%s imports %s: the arrow points the other way", from, to)
			}
			if slices.Contains(ioFree, from) {
				for _, forbidden := range ioPackages {
					if imported == forbidden || strings.HasPrefix(imported, forbidden) && strings.HasSuffix(forbidden, "/") {
						t.Errorf("%s imports %s: decisions do no I/O", from, imported)
					}
				}
			}
		}
	}
	for from := range arrows {
		if !seen[from] {
			t.Errorf("%s has arrows and does not exist: delete them", from)
		}
	}
}
