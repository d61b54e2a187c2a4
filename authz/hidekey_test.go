package authz

import (
	"slices"
	"strings"
	"testing"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/reason"
)

// TestRefusalsDontRepeatTheKey: people paste a key where the model's name belongs, in
// the body or the path. No answer, which clients log, says it back to them.
func TestRefusalsDontRepeatTheKey(t *testing.T) {
	const secret = "abcdefgh.1234567890ABCDEFGHIJKL1234567890"
	a, _ := newAuthorizer(t)
	a.Keys.(keyring).add(secret, key.Record{})
	tables := *a.Tables()
	tables.Routes = slices.Concat(tables.Routes, compiled(t, "models:\n  - {id: m, cluster: c}\nroutes:\n  - {dialect: baseten}\n  - {dialect: azure}\n").Routes)
	a.Tables = func() *catalog.Tables { return &tables }
	at := func(path, body string) *dialect.Request {
		req := post(secret, body)
		req.Path = path
		return req
	}
	for name, c := range map[string]struct {
		req  *dialect.Request
		want reason.Reason
	}{
		"in the body":              {post(secret, chat(secret)), reason.ModelUnknown},
		"with more":                {post(secret, chat("models/"+secret)), reason.ModelUnknown},
		"in the path":              {at("/models/"+secret+"/predict", `{}`), reason.ModelUnknown},
		"in the path, encoded":     {at("/models/%61"+secret[1:]+"/predict", `{}`), reason.ModelUnknown},
		"in the path, and another": {at("/openai/deployments/"+secret+"/chat/completions?api-version=1", chat("small/one")), reason.ModelAmbiguous},
	} {
		var d Decision
		a.Check(t.Context(), start, c.req, &d)
		if d.Reason != c.want {
			t.Fatalf("%s: %v", name, d.Reason)
		}
		if body := string(d.Response.Body); strings.Contains(body, secret[8:]) || !strings.Contains(body, "in a header only") {
			t.Errorf("%s: %s", name, body)
		}
	}
}
