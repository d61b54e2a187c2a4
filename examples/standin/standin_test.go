package standin

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func TestStrict(t *testing.T) {
	const key, credential = "tg_abcdefgh_0123456789", "Bearer the-operators"
	for name, c := range map[string]struct {
		change func(*http.Request)
		target string
		body   string
		wrong  string // a part of what is reported; "": nothing is
	}{
		"as it must be":                {},
		"with what may be told beside": {change: set("X-Tollgate-User", "u", "X-Tollgate-Model", "m")},
		"the caller's key":             {change: set("Authorization", "Bearer "+key), wrong: "credential"},
		"both":                         {change: func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+key) }, wrong: "credential"},
		"no credential":                {change: func(r *http.Request) { r.Header.Del("Authorization") }, wrong: "credential"},
		"a key in another header":      {change: set("X-Api-Key", "x"), wrong: "X-Api-Key"},
		"a key in any header":          {change: set("X-Note", "mine is "+key), wrong: "X-Note"},
		"a key in the query":           {target: "/v1/x?key=" + key, wrong: "query"},
		"a key in the path":            {target: "/v1/" + key, wrong: "path"},
		"a key in the body":            {body: `{"key":"` + key + `"}`, wrong: "body"},
		"a forged header":              {change: set("X-Tollgate-Role", "admin"), wrong: "X-Tollgate-Role"},
		"two of one header":            {change: func(r *http.Request) { r.Header.Add("X-Tollgate-Workspace", "other") }, wrong: "X-Tollgate-Workspace"},
		"a header is missing":          {change: func(r *http.Request) { r.Header.Del("X-Tollgate-Key-Id") }, wrong: "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			var reported string
			s := &Strict{
				Authorization: credential, Keys: regexp.MustCompile(`tg_\w{8}_\w+`), Report: func(wrong string) { reported = wrong },
				Service: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { JSON(w, http.StatusOK, "well") }),
			}
			target := c.target
			if target == "" {
				target = "/v1/x"
			}
			r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(c.body))
			set("Authorization", credential, "X-Tollgate-Request-Id", "r", "X-Tollgate-Workspace", "w", "X-Tollgate-Key-Id", "k", "X-Tollgate-Plan", "p")(r)
			if c.change != nil {
				c.change(r)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if refused := w.Code == http.StatusInternalServerError; refused != (c.wrong != "") || refused != (reported != "") {
				t.Fatalf("%d %s, reported %q", w.Code, w.Body, reported)
			}
			if !strings.Contains(reported, c.wrong) {
				t.Errorf("reported %q, which does not name %q", reported, c.wrong)
			}
			if strings.Contains(reported+w.Body.String(), key) {
				t.Error("the key is shown")
			}
		})
	}
}

// set sets headers, given as names and values.
func set(pairs ...string) func(*http.Request) {
	return func(r *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			r.Header.Set(pairs[i], pairs[i+1])
		}
	}
}
