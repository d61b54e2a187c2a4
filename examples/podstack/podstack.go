// Package podstack stands in for Podstack's model servers, which speak the OpenAI
// API: it is the example backend, strict about what must not reach it.
package podstack

import (
	"net/http"
	"regexp"

	"tollgate/examples/backend"
	"tollgate/examples/standin"
)

// keys is the format that the catalog gives this example's keys.
var keys = regexp.MustCompile(`ps_[0-9A-Za-z]{8}_[0-9A-Za-z]{24,}`)

// New makes the stand-in, which has no credential of its own. report is told of what
// must not reach it.
func New(_ string, report func(wrong string)) http.Handler {
	return &standin.Strict{Keys: keys, Report: report, Service: backend.New(backend.Options{})}
}
