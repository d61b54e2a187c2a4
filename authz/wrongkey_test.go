package authz

import (
	"strings"
	"testing"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/reason"
)

// TestEveryDialectSaysWhichKeyIsNeeded, and which was presented, on each of its paths
// that a key opens.
func TestEveryDialectSaysWhichKeyIsNeeded(t *testing.T) {
	a, _ := newAuthorizer(t)
	a.Keys.(keyring).add("nothing", key.Record{Workspace: "other", Actions: []key.Action{"other"}})
	seen := 0
	for _, name := range dialect.Names() {
		parsed, err := catalog.Parse("c", []byte("plans: [{id: free}]\nworkspaces: [{id: other, plan: free}]\nroutes: [{dialect: "+name+", upstream: 'http://127.0.0.1:9'}]\n"))
		if err != nil {
			t.Fatal(err)
		}
		tables, err := catalog.Compile(parsed, catalog.Source{})
		if err != nil {
			t.Fatal(err)
		}
		a.Tables = func() *catalog.Tables { return tables }
		for i := range tables.Routes[0].Dialect.Paths {
			p := &tables.Routes[0].Dialect.Paths[i]
			if p.Answer == dialect.AnswerManaged {
				continue // the management API's, which has tests of its own
			}
			req := &dialect.Request{Method: p.Method, Path: strings.NewReplacer("{", "", "}", "", "...", "").Replace(p.Pattern)}
			for _, scheme := range []string{"Bearer ", "Api-Key "} {
				req.Headers = []dialect.Header{{Name: "authorization", Value: scheme + "nothing"}, {Name: "content-type", Value: "application/json"}}
				if name == "anthropic" { // which its list of models is told from OpenAI's by
					req.Headers = append(req.Headers, dialect.Header{Name: "anthropic-version", Value: "2023-06-01"})
				}
				var d Decision
				if a.Check(t.Context(), start, req, &d); d.Reason != reason.KeyMissing && d.Reason != reason.KeyInvalid {
					break
				}
			}
			var d Decision
			a.Check(t.Context(), start, req, &d)
			body := string(d.Response.Body)
			if d.Reason != reason.ActionDenied || !strings.Contains(body, "needs") || !strings.Contains(body, "what was presented is") {
				t.Errorf("%s %s %s: %v %s", name, p.Method, p.Pattern, d.Reason, body)
			}
			seen++
		}
	}
	if seen < 15 {
		t.Errorf("only %d paths were tried", seen)
	}
}
