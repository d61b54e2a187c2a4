// Package minibase stands in for the Minibase Inference Cloud: one path, api.php,
// that takes a form and answers in JSON.
package minibase

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"tollgate/examples/standin"
)

// keys is the default format of Tollgate's keys, which this example's callers have.
var keys = regexp.MustCompile(`tg_[0-9A-Za-z]{8}_[0-9A-Za-z]{32,}`)

// New makes the stand-in, which has no credential of its own. report is told of what
// must not reach it.
func New(_ string, report func(wrong string)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api.php", infer)
	return &standin.Strict{Keys: keys, Report: report, Service: mux}
}

// maxWords is the longest answer.
const maxWords = 16

// infer answers a prompt with its own words.
func infer(w http.ResponseWriter, r *http.Request) {
	refuse := func(why string) {
		standin.JSON(w, http.StatusBadRequest, map[string]any{"success": false, "error": why})
	}
	if err := r.ParseForm(); err != nil {
		refuse("the form can't be read: " + err.Error())
		return
	}
	f := r.PostForm
	for _, name := range []string{"action", "model_id", "prompt"} {
		if len(f[name]) != 1 || f.Get(name) == "" {
			refuse(name + " stands " + strconv.Itoa(len(f[name])) + " times in the form, not once")
			return
		}
	}
	if f.Get("action") != "mt_inference" {
		refuse("Invalid action")
		return
	}
	limit := maxWords
	if said := f.Get("max_tokens"); said != "" {
		n, err := strconv.Atoi(said)
		if err != nil || n < 1 {
			refuse("max_tokens is a number from 1")
			return
		}
		limit = min(n, limit)
	}
	words := strings.Fields("You asked: " + f.Get("prompt"))
	standin.JSON(w, http.StatusOK, map[string]any{
		"success": true, "model_id": f.Get("model_id"), "output": strings.Join(words[:min(len(words), limit)], " "),
	})
}
