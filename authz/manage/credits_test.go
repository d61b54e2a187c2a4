package manage_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/manage"
	"tollgate/authz/money"
)

// spendings are what workspaces spent, ever and in every period.
type spendings struct {
	mu sync.Mutex
	of map[string]money.Amount
}

func (s *spendings) Spent(workspace, _ string, _ time.Time) money.Amount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[workspace]
}

func (s *spendings) add(t *testing.T, workspace, amount string) {
	t.Helper()
	a, err := money.Parse(amount)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[workspace] = s.of[workspace].Add(a)
}

// budgeted is gated with budgets.
func budgeted(t *testing.T) (*service, *spendings) {
	t.Helper()
	spent := &spendings{of: map[string]money.Amount{}}
	budgets := authz.NewBudgets(spent)
	budgets.Ready()
	s := serve(t, func(c *manage.Config) { c.Budgets = budgets })
	return s, spent
}

const demoCredits = "/api/v1/workspaces/demo/credits"

func (s *service) workspace(id string) manage.Workspace {
	s.t.Helper()
	var w manage.Workspace
	if err := json.Unmarshal([]byte(s.must(200, "GET", "/api/v1/workspaces/"+id, operator, "").body), &w); err != nil {
		s.t.Fatal(err)
	}
	return w
}

func (s *service) credit(want string) {
	s.t.Helper()
	is := "none"
	if c := s.workspace("demo").Credit; c != nil {
		is = c.Granted + " " + *c.Spent + " " + *c.Remaining
	}
	if is != want {
		s.t.Errorf("granted, spent and remaining: %s, want %s", is, want)
	}
}

// TestCreditLife: what was spent before the first grant does not count, grants and
// corrections add up, and only what is granted is left.
func TestCreditLife(t *testing.T) {
	s, spent := budgeted(t)
	s.credit("none")
	spent.add(t, "demo", "3.000000000000000000001")
	r := s.must(201, "POST", demoCredits, operator, `{"amount":"25.00","note":"invoice 7"}`)
	var g manage.Grant
	if err := json.Unmarshal([]byte(r.body), &g); err != nil {
		t.Fatal(err)
	}
	if g.Workspace != "demo" || g.Amount != "25" || *g.Note != "invoice 7" || g.Credit.Granted != "25" || *g.Credit.Remaining != "25" || g.ID == "" {
		t.Errorf("granted: %s", r.body)
	}
	trail := s.store.Trail()
	if e := trail[len(trail)-1]; e.Action != "workspace.credits" || e.Target.ID != "demo" || e.Target.Workspace != "demo" ||
		string(e.Before) != `{"granted":null}` || string(e.After) != `{"amount":"25","grant":"`+g.ID+`","granted":"25","note":"invoice 7"}` {
		t.Errorf("in the trail: %s %+v %s %s", e.Action, e.Target, e.Before, e.After)
	}
	s.credit("25 0 25")
	spent.add(t, "demo", "1.5")
	s.credit("25 1.5 23.5")
	s.must(201, "POST", demoCredits, operator, `{"amount":"0.25"}`)
	s.credit("25.25 1.5 23.75")
	s.must(201, "POST", demoCredits, operator, `{"amount":"-24"}`)
	s.credit("1.25 1.5 0") // taken back when it was spent already
	if r := s.must(400, "POST", demoCredits, operator, `{"amount":"-1.26"}`); !strings.Contains(r.body, "takes back more than the 1.25 USD") {
		t.Errorf("too much taken back: %s", r.body)
	}
	for path, body := range map[string]string{
		"": plainCatalog, "?prune=true": plainCatalog,
		// A text says nothing of credit.
		"?name=x": strings.Replace(plainCatalog, "{id: demo,", "{id: demo, credit: {granted: '1000'},", 1),
	} {
		s.apply(path, body)
		s.credit("1.25 1.5 0")
	}
	s.must(204, "DELETE", "/api/v1/workspaces/demo", operator, "")
	s.must(201, "POST", "/api/v1/workspaces", operator, `{"id":"demo","plan":"lite"}`)
	s.credit("none")
}

func TestCreditRefused(t *testing.T) {
	s, _ := budgeted(t)
	admin := s.create(operator, `{"workspace":"demo","user":"ada","actions":["infer","manage"]}`)
	s.must(403, "POST", demoCredits, admin.Key, `{"amount":"25"}`)
	s.must(404, "POST", "/api/v1/workspaces/none/credits", operator, `{"amount":"25"}`)
	for body, says := range map[string]string{
		`{}`:                               "amount: is missing",
		`{"amount":25}`:                    "amount: must be a string",
		`{"amount":"0.00"}`:                "amount: must not be 0",
		`{"amount":"-0"}`:                  "amount: must not be 0",
		`{"amount":"-1"}`:                  "amount: takes back more than the 0 USD",
		`{"amount":"--1"}`:                 "amount: want a decimal",
		`{"amount":"1e3"}`:                 "amount: want a decimal",
		`{"amount":"1234567890123456789"}`: "amount: 19 digits",
		`{"amount":"1","note":""}`:         "note: must have",
		`{"amount":"1","note":"a\nb"}`:     "note: must have",
		`{"amount":"1","note":"` + strings.Repeat("n", 257) + `"}`: "note: must have",
		`{"amount":"1","to":"x"}`:                                  "to: there is no such field",
	} {
		if r := s.must(400, "POST", demoCredits, operator, body); !strings.Contains(r.body, says) {
			t.Errorf("%s: %s, want %s", body, r.body, says)
		}
	}
	s.credit("none")
}

// TestCreditOnce: a grant that is asked for again is not made again.
func TestCreditOnce(t *testing.T) {
	s, _ := budgeted(t)
	grant := func(status int, word, body string) string {
		t.Helper()
		return s.must(status, "POST", demoCredits, operator, body, "Idempotency-Key: "+word).body
	}
	var g, again manage.Grant
	for answer, to := range map[string]*manage.Grant{
		grant(201, "one", `{"amount":"5"}`): &g, grant(409, "one", `{"amount":"5"}`): &again,
	} {
		if err := json.Unmarshal([]byte(answer), to); err != nil {
			t.Fatal(err)
		}
	}
	if g.ID == "" || again.ID != g.ID {
		t.Errorf("made %q, again %q", g.ID, again.ID)
	}
	s.credit("5 0 5")
	grant(422, "one", `{"amount":"6"}`)
	for range 5 {
		s.must(201, "POST", demoCredits, operator, `{"amount":"1"}`)
	}
	if text := grant(409, "one", `{"amount":"5"}`); !strings.Contains(text, "audit trail") || !strings.Contains(text, g.ID) {
		t.Errorf("after others: %s", text)
	}
	s.credit("10 0 10")

	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { s.do("POST", demoCredits, operator, `{"amount":"100"}`, "Idempotency-Key: two") })
	}
	all.Wait()
	s.credit("110 0 110")
}

// TestCreditUnknown: what was spent before a first grant has to be known.
func TestCreditUnknown(t *testing.T) {
	s := serve(t, func(c *manage.Config) { c.Budgets = authz.NewBudgets(&spendings{}) })
	s.must(503, "POST", demoCredits, operator, `{"amount":"25"}`)
	if w := s.workspace("demo"); w.Credit != nil {
		t.Errorf("granted: %+v", w.Credit)
	}
}

// TestBudgetsAreTold: of a workspace, and of a key where its usage is asked for.
func TestBudgetsAreTold(t *testing.T) {
	s, spent := budgeted(t)
	s.apply("", strings.Replace(plainCatalog, "{id: lite,", "{id: lite, budget: {period: month, amount: '10.00'},", 1))
	spent.add(t, "demo", "4")
	w := s.workspace("demo")
	if b := w.Budget; b == nil || b.Period != "month" || b.Amount != "10" || *b.Spent != "4" || *b.Remaining != "6" || b.ResetsAt == nil {
		t.Errorf("the workspace's budget: %+v", w.Budget)
	}
	k := s.create(operator, `{"workspace":"demo","budget":{"period":"total","amount":"5"}}`)
	var u manage.KeyUsage
	if err := json.Unmarshal([]byte(s.must(200, "GET", "/api/v1/api-keys/"+k.ID+"/usage", k.Key, "").body), &u); err != nil {
		t.Fatal(err)
	}
	if b := u.Budget; b == nil || *b.Remaining != "1" || b.ResetsAt != nil || *b.Spent != "4" {
		t.Errorf("the key's budget: %+v", u.Budget)
	}
}
