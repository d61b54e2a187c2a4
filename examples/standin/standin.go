// Package standin is what the examples' upstreams have in common. Each of them
// stands in for a public service, in that service's shapes and with nothing behind
// it; and each is strict about what Tollgate promises to an upstream: the caller's
// key and the caller's own x-tollgate- headers stay behind, the operator's
// credential and Tollgate's headers are there.
package standin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// maxBody is the most bytes of a body that a stand-in reads.
const maxBody = 8 << 20

// Strict answers 500 to what must never reach an upstream, and tells of it.
type Strict struct {
	// Authorization is the whole header that a request must have, which is the
	// operator's credential. "": none may have one.
	Authorization string
	// Keys is what a whole key of a caller looks like: no part of a request may match it.
	Keys *regexp.Regexp
	// Report is told what was wrong, never the key itself; it is called by many at
	// the same time.
	Report func(wrong string)
	// Service is what answers the requests that are as they must be. It gets the
	// whole body.
	Service http.Handler
}

func (s *Strict) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		JSON(w, http.StatusBadRequest, map[string]string{"error": "the body can't be read: " + err.Error()})
		return
	}
	if wrong := s.wrong(r, body); wrong != "" {
		wrong = r.Method + " " + s.Keys.ReplaceAllString(r.URL.Path, "KEY") + ": " + wrong
		s.Report(wrong)
		JSON(w, http.StatusInternalServerError, map[string]string{"error": "the upstream saw what it must not: " + wrong})
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.Service.ServeHTTP(w, r)
}

// told are the headers that Tollgate sets, and whether every request has them.
var told = map[string]bool{
	"X-Tollgate-Request-Id": true, "X-Tollgate-Workspace": true, "X-Tollgate-Key-Id": true, "X-Tollgate-Plan": true,
	"X-Tollgate-User": false, "X-Tollgate-Model": false,
}

// wrong says what a request has that it must not have, or lacks; "": nothing.
func (s *Strict) wrong(r *http.Request, body []byte) string {
	if got := strings.Join(r.Header.Values("Authorization"), ", "); got != s.Authorization {
		return "the Authorization header is not the operator's credential"
	}
	for _, name := range []string{"X-Api-Key", "Api-Key", "Proxy-Authorization", "Cookie"} {
		if r.Header.Get(name) != "" {
			return "a header that may carry a key: " + name
		}
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Tollgate-") {
			if _, known := told[name]; !known || len(values) != 1 {
				return "a header that Tollgate didn't set: " + name
			}
		}
		if slices.ContainsFunc(values, s.Keys.MatchString) {
			return "a caller's key, in the header " + name
		}
	}
	for name, always := range told {
		if always && r.Header.Get(name) == "" {
			return "the header is missing: " + name
		}
	}
	if s.Keys.MatchString(r.RequestURI) {
		return "a caller's key, in the path or the query"
	}
	if s.Keys.Match(body) {
		return "a caller's key, in the body"
	}
	return ""
}

// JSON answers v.
func JSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, fmt.Sprintf("an answer that can't be written: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // whoever asked may have gone
}

// Words is how many words a text has, which is what the stand-ins count as tokens.
func Words(text string) int { return len(strings.Fields(text)) }
