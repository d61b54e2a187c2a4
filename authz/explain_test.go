package authz

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/reason"
)

// TestExplainSaysWhatCheckDoes: for every situation, in every state of the
// limits, an explanation by the key's id and one by its secret give the reason,
// the status and the sentence that the check then gives, and asking any number of
// times uses nothing up.
func TestExplainSaysWhatCheckDoes(t *testing.T) {
	a, l := newAuthorizer(t)
	keys := a.Keys.(keyring)
	for _, secret := range []string{
		"good", "ann", "bob", "gone-user", "gone-workspace", "late", "other", "revoked", "expired", "account", "one-model", "raised", brokenSecret, "stranger", "",
	} {
		for _, model := range []string{"meta-llama/Llama", "small/one", "closed", "idle", "theirs", "no/such", ""} {
			// Until the limits refuse, and once more.
			for n := range 8 {
				body := chat(model)
				if model == "" {
					body = `{}`
				}
				// What the explanation looks at: nothing of a prompt, no maximum.
				check := &dialect.Request{Method: "POST", Path: "/v1/chat/completions", Body: []byte(fmt.Sprintf(`{"model":%q}`, model))}
				if model == "" {
					check.Body = []byte(body)
				}
				if secret != "" {
					check.Headers = []dialect.Header{{Name: "authorization", Value: "Bearer " + secret}}
				}
				questions := []Question{{Secret: secret, Model: model, Method: "POST", Path: check.Path}}
				if rec := keys[key.DigestOf(secret)]; rec != nil {
					questions = append(questions, Question{Record: rec, Model: model, Path: check.Path}, Question{Record: rec, Model: model, Dialect: "openai"})
				}
				var said []*Explanation
				for range 3 {
					for i := range questions {
						said = append(said, a.Explain(t.Context(), start, &questions[i]))
					}
				}
				var d Decision
				a.Check(t.Context(), start, check, &d)
				for _, e := range said {
					if e.Reason != d.Reason || !saysAs(e, d.Response) {
						t.Fatalf("%q for %q, the %d.: explained as %+v, checked as %v, %+v", secret, model, n+1, e, d.Reason, d.Response)
					}
				}
			}
		}
	}
	if len(l.open) == 0 {
		t.Error("nothing was ever admitted")
	}
}

// saysAs: an explanation has the status of an answer, and the sentence in it.
func saysAs(e *Explanation, got *dialect.Response) bool {
	if got == nil {
		return e.Status == 0 && e.Detail == ""
	}
	var body struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	err := json.Unmarshal(got.Body, &body)
	return err == nil && e.Status == got.Status && e.Detail != "" && e.Detail == body.Error.Message
}

// TestExplainTellsTheDialectsStatus: a used up budget is not told alike everywhere.
func TestExplainTellsTheDialectsStatus(t *testing.T) {
	for name, want := range map[string]int{"anthropic": 402, "openai": 429} {
		b := newTollbooth(t)
		tables := compiled(t, strings.Replace(pricedCatalog, "{dialect: openai}", "{dialect: "+name+"}", 1))
		b.Tables = func() *catalog.Tables { return tables }
		q := &Question{Secret: "demo", Model: "dear", MaxTokens: 50} // exactly the budget
		if e := b.Explain(t.Context(), start, q); e.Reason != reason.None || e.Status != 0 {
			t.Errorf("%s: %+v", name, e)
		}
		q.MaxTokens++
		if e := b.Explain(t.Context(), start, q); e.Reason != reason.BudgetExceeded || e.Status != want || !strings.Contains(e.Detail, "budget of 1 USD") {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// TestExplainWithoutAPath says whose fault it is that there is none to ask about.
func TestExplainWithoutAPath(t *testing.T) {
	for routes, want := range map[string]string{
		"routes: [{dialect: openai}, {dialect: openai, hosts: [b.example.com]}, {dialect: minds}]": "The catalog has no route with the dialect cohere. It has routes with openai, minds.",
		"routes: []": "The catalog has no routes. Add one.",
	} {
		a, _ := newAuthorizer(t)
		tables := compiled(t, "plans: [{id: p}]\nworkspaces: [{id: demo, plan: p}]\n"+routes)
		a.Tables = func() *catalog.Tables { return tables }
		if e := a.Explain(t.Context(), start, &Question{Secret: "good", Dialect: "cohere"}); e.Reason != reason.RouteUnknown || e.Status != 404 || e.Detail != want {
			t.Errorf("%s: %+v", routes, e)
		}
	}
}

// TestExplainKnowsEveryPath: the request that stands for a question is one that
// its path takes, whatever dialect it is of.
func TestExplainKnowsEveryPath(t *testing.T) {
	a, _ := newAuthorizer(t)
	text := "plans: [{id: p}]\nworkspaces: [{id: demo, plan: p}]\nmodels: [{id: meta-llama/Llama}, {id: plain}]\nroutes:\n"
	for _, name := range dialect.Names() {
		text += "  - {dialect: " + name + "}\n"
	}
	tables := compiled(t, text)
	a.Tables = func() *catalog.Tables { return tables }
	rec := a.Keys.(keyring)[key.DigestOf("good")]
	rec.Actions = []key.Action{key.Infer, key.Wake, key.Manage, key.Metrics}
	for _, name := range dialect.Names() {
		d, _ := dialect.Lookup(name)
		if d.Root != "" && !slices.ContainsFunc(d.Paths, func(p dialect.Path) bool { return p.Answer != dialect.AnswerManaged }) {
			continue // no Check is made there
		}
		if e := a.Explain(t.Context(), start, &Question{Record: rec, Dialect: name, Model: "plain"}); e.Dialect != name || e.Reason != reason.None {
			t.Errorf("%s: %+v", name, e)
		}
		for i := range d.Paths {
			p := &d.Paths[i]
			if p.Answer == dialect.AnswerManaged {
				continue
			}
			q := &Question{Record: rec, Method: p.Method, Path: fill(p.Pattern, "plain"), Model: "plain"}
			e := a.Explain(t.Context(), start, q)
			if e.Reason != reason.None || e.Dialect == "" {
				t.Errorf("%s %s of %s: %v %s", p.Method, p.Pattern, name, e.Reason, e.Detail)
			}
			if p.ModelIn != dialect.ModelNone && e.Model != "plain" {
				t.Errorf("%s %s of %s: the model is %q", p.Method, p.Pattern, name, e.Model)
			}
			// A maximum is read where the path has one.
			bound := *rec
			bound.Limits.TokensPerMinute = 1000
			q.Record, q.MaxTokens = &bound, 1001
			want := reason.None
			if len(p.MaxOutput) > 0 {
				want = reason.TokenRequestTooLarge
			}
			if e := a.Explain(t.Context(), start, q); e.Reason != want {
				t.Errorf("%s %s of %s: with too many tokens: %v %s", p.Method, p.Pattern, name, e.Reason, e.Detail)
			}
		}
	}
	for pattern, want := range map[string]string{"/a/{model...}/b": "/a/meta-llama/L%20x/b", "/a/{model}": "/a/meta-llama%2FL%20x", "/a": "/a"} {
		if got := fill(pattern, "meta-llama/L x"); got != want {
			t.Errorf("%s is filled as %s", pattern, got)
		}
	}
}

func TestExplainTellsWhatRemains(t *testing.T) {
	a, _ := newAuthorizer(t)
	a.Tables = withLimits(t)
	keys := a.Keys.(keyring)
	rec := keys[key.DigestOf("ann")]
	q := &Question{Record: rec, Model: "small/one"}
	first := a.Explain(t.Context(), start, q)
	var d Decision
	a.Check(t.Context(), start, post("ann", chat("small/one")), &d)
	if d.Admission == nil {
		t.Fatal(string(d.Response.Body))
	}
	taken := d.Admission.Reserved.Tokens
	after := a.Explain(t.Context(), start.Add(time.Second), q)
	if first.Reason != reason.None || first.Plan != "lite" || first.User != "ann" || first.Key != rec.ID || first.Workspace != "demo" {
		t.Errorf("explained as %+v", first)
	}
	for i, want := range []struct {
		scope            limit.Scope
		name             string
		before, now      int64 // requests left
		slots, slotsLeft int64
		tokens           int64
	}{
		{limit.Key, "", 5, 4, 2, 1, 1000},
		{limit.User, "", 7, 6, 0, 0, 0},
		{limit.Workspace, "", 9, 8, 0, 0, 0},
		{limit.Model, "small/*", 0, 0, 0, 0, 100},
	} {
		f, s := first.Limits[i], after.Limits[i]
		if s.Scope != want.scope || s.Name != want.name || f.Requests.Remaining != want.before || s.Requests.Remaining != want.now ||
			f.Concurrent.Limit != want.slots || f.Concurrent.Remaining != want.slots || s.Concurrent.Remaining != want.slotsLeft ||
			f.Tokens.Remaining != want.tokens || want.tokens > 0 && s.Tokens.Remaining != want.tokens-taken {
			t.Errorf("%v: %+v, then %+v", want.scope, f, s)
		}
		if s.Requests.Limit > 0 && s.Requests.Reset <= 0 {
			t.Errorf("%v: it is not told when it resets", want.scope)
		}
	}
	if len(first.Limits) != 4 {
		t.Errorf("limits %+v", first.Limits)
	}
	for range 4 {
		a.Check(t.Context(), start, post("ann", chat("meta-llama/Llama")), &d)
	}
	if e := a.Explain(t.Context(), start, q); e.Reason != reason.ConcurrencyLimitExceeded || e.Detail == "" {
		t.Errorf("with both slots taken: %+v", e)
	}
}

func compiled(t testing.TB, text string) *catalog.Tables {
	t.Helper()
	parsed, err := catalog.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := catalog.Compile(parsed, catalog.Source{})
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// withLimits are tables with a limit of every scope.
func withLimits(t testing.TB) func() *catalog.Tables {
	t.Helper()
	tables := compiled(t, `
plans:
  - id: lite
    limits:
      perKey: {requestsPerMinute: 5, tokensPerMinute: 1000, concurrentRequests: 2}
      perUser: {requestsPerMinute: 7}
      perWorkspace: {requestsPerMinute: 9}
      perModel: {"small/*": {tokensPerMinute: 100}}
workspaces: [{id: demo, plan: lite}]
users: [{id: ann, workspace: demo}]
models: [{id: small/one}, {id: meta-llama/Llama}]
routes: [{dialect: openai}]
`)
	return func() *catalog.Tables { return tables }
}
