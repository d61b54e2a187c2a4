// Package baseten stands in for models that are served the way Baseten serves them:
// a path for each model, whatever it takes as its input.
package baseten

import (
	"io"
	"net/http"
	"regexp"

	"tollgate/examples/standin"
)

// keys is the format that the catalog gives this example's keys.
var keys = regexp.MustCompile(`\b[0-9A-Za-z]{8}\.[0-9A-Za-z]{32}\b`)

// New makes the stand-in, which has no credential of its own. report is told of what
// must not reach it.
func New(_ string, report func(wrong string)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /models/{model}/predict", predict)
	mux.HandleFunc("POST /models/{model}/wake", wake)
	return &standin.Strict{Keys: keys, Report: report, Service: mux}
}

// predict answers with what it was given.
func predict(w http.ResponseWriter, r *http.Request) {
	input, err := io.ReadAll(r.Body)
	if err != nil {
		standin.JSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	standin.JSON(w, http.StatusOK, map[string]any{"model": r.PathValue("model"), "input": string(input)})
}

// wake starts a model that sleeps, which takes a while after the answer.
func wake(w http.ResponseWriter, _ *http.Request) {
	standin.JSON(w, http.StatusAccepted, map[string]any{})
}
