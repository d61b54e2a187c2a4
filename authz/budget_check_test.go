package authz

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/reason"
)

// pricedCatalog has a model whose requests of chat reserve 20 tokens of 0.02 USD.
const pricedCatalog = `
plans:
  - {id: p, budget: {period: month, amount: "1.00"}, limits: {requestsPerMinute: 10}}
  - {id: open}
workspaces:
  - {id: demo, plan: p}
  - {id: prepaid, plan: open, credit: {granted: "1.5", before: "1"}}
models:
  - {id: dear, cluster: c, rates: {output: "20000"}}
  - {id: free, cluster: c}
  - {id: gratis, cluster: c, rates: {output: "0"}}
routes:
  - {dialect: openai}
`

// tollbooth is an Authorizer and a Settler with budgets.
type tollbooth struct {
	*Authorizer
	settler *Settler
	ledger  *ledger
	totals  *totals
	t       *testing.T
}

func newTollbooth(t *testing.T) *tollbooth {
	t.Helper()
	parsed, err := catalog.Parse("test.yaml", []byte(pricedCatalog))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := catalog.Compile(parsed, catalog.Source{})
	if err != nil {
		t.Fatal(err)
	}
	keys := keyring{}
	keys.add("demo", key.Record{})
	keys.add("bounded", key.Record{Budget: &key.Budget{Period: "day", Amount: "0.5"}})
	keys.add("unreadable", key.Record{Budget: &key.Budget{Period: "day", Amount: "much"}})
	keys.add("prepaid", key.Record{Workspace: "prepaid"})
	b := &tollbooth{t: t}
	a, l := newAuthorizer(t)
	b.Authorizer, b.ledger = a, l
	a.Tables, a.Keys = func() *catalog.Tables { return tables }, keys
	b.totals, a.Budgets = newTotals(t)
	b.settler = &Settler{
		Replica: a.Replica, Sealer: a.Sealer, Ledger: l, Limits: a.Limits, Estimator: a.Estimator, Budgets: a.Budgets,
	}
	return b
}

func (b *tollbooth) ask(now time.Time, secret, model string, want reason.Reason) *Decision {
	b.t.Helper()
	d := new(Decision)
	b.Check(b.t.Context(), now, post(secret, chat(model)), d)
	if d.Reason != want {
		b.t.Fatalf("%v, want %v; %+v", d.Reason, want, d)
	}
	return d
}

// settle ends a request with so many tokens of 0.02 USD.
func (b *tollbooth) settle(d *Decision, output int64) {
	b.t.Helper()
	o := Observation{Status: 200, Upstream: "u:1", Complete: true, Reported: true, Tokens: Tokens{Output: output}}
	if err := b.settler.Settle(b.t.Context(), start, d.Token, o); err != nil {
		b.t.Fatal(err)
	}
}

// TestBudgetOfAWorkspace: what a request may cost is held, and what it turned out to
// cost counts from its end on, before and after the totals have its event. A new month
// begins at nothing.
func TestBudgetOfAWorkspace(t *testing.T) {
	b := newTollbooth(t)
	first, second := b.ask(start, "demo", "dear", reason.None), b.ask(start, "bounded", "dear", reason.None)
	if held := first.Admission.Held; held.Cmp(usd("0.4")) != 0 {
		t.Errorf("%v is held, want 0.4", held)
	}
	b.ask(start, "demo", "dear", reason.BudgetExceeded) // 0.8 held, 0.4 more
	b.settle(first, 5)                                  // 0.1
	third := b.ask(start, "demo", "dear", reason.None)  // 0.9
	b.ask(start, "demo", "dear", reason.BudgetExceeded)

	b.totals.fold(first.Admission.ID, spentEvent{"demo", "id-of-demo", start, usd("0.1")})
	b.ask(start, "demo", "dear", reason.BudgetExceeded)
	b.settle(second, 0)               // 0.5
	b.settle(third, 100)              // 2.1: more than it could ever be foreseen
	b.ask(start, "demo", "free", 0)   // has no price
	b.ask(start, "demo", "gratis", 0) // has one, of 0
	b.ask(start, "demo", "dear", reason.BudgetExceeded)
	b.ask(start.AddDate(0, 1, 0), "demo", "dear", reason.None)
}

// TestBudgetRefusal: no SDK tries it again, the caller is told what it met, and no
// limit was used up.
func TestBudgetRefusal(t *testing.T) {
	b := newTollbooth(t)
	b.ask(start, "bounded", "dear", reason.None)
	d := b.ask(start, "bounded", "dear", reason.BudgetExceeded)
	text := string(d.Response.Body)
	for _, part := range []string{
		`"code":"insufficient_quota"`, "The key's budget of 0.5 USD a day has 0.1 USD left, and this request may cost 0.4", "2026-11-22T00:00:00Z",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the body has no %s: %s", part, text)
		}
	}
	headers := map[string]string{}
	for _, h := range d.Response.Headers {
		headers[h.Name] = h.Value
	}
	if d.Response.Status != 429 || headers["x-should-retry"] != "false" || headers["retry-after"] != "" || headers["x-ratelimit-limit-requests"] != "" {
		t.Errorf("status %d, headers %v", d.Response.Status, headers)
	}
	var v limit.Verdict
	b.Limits.Peek(start, []limit.Demand{{Scope: limit.Key, Tenant: "id-of-bounded", Requests: 10}}, 0, &v)
	if v.Requests.Remaining != 9 {
		t.Errorf("%d of 10 requests are left after one: the refused one counts", v.Requests.Remaining)
	}
	// The other way round: who meets a limit uses up nothing of the budget.
	for range 9 {
		b.ask(start, "bounded", "free", reason.None)
	}
	before, _ := b.Budgets.OfWorkspace(start, b.Tables().Workspaces["demo"])
	b.ask(start, "bounded", "dear", reason.RateLimitExceeded)
	if after, _ := b.Budgets.OfWorkspace(start, b.Tables().Workspaces["demo"]); after[0].Reserved.Cmp(before[0].Reserved) != 0 {
		t.Errorf("%v reserved, was %v", after[0].Reserved, before[0].Reserved)
	}
}

// TestBudgetNotTaken: what comes to nothing gives everything back.
func TestBudgetNotTaken(t *testing.T) {
	b := newTollbooth(t)
	b.ledger.err = errors.New("disk full")
	for range 5 {
		b.ask(start, "demo", "dear", reason.Unavailable)
	}
	b.ledger.err = nil
	for range 5 {
		d := b.ask(start, "demo", "dear", reason.None)
		if err := b.settler.TakeBack(start, d.Admission); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.Budgets.Noted(); n != 0 {
		t.Errorf("%d requests are noted", n)
	}
}

// TestBudgetNotKnown: before the totals can be asked, nobody with a budget passes, nor
// is told that it is used up; nor does one whose budget can't be read.
func TestBudgetNotKnown(t *testing.T) {
	b := newTollbooth(t)
	b.ask(start, "unreadable", "dear", reason.Unavailable)
	for _, unknown := range []*Budgets{NewBudgets(b.totals), nil} {
		b.Budgets = unknown
		b.ask(start, "demo", "dear", reason.Unavailable)
		b.ask(start, "prepaid", "dear", reason.Unavailable)
		b.ask(start, "demo", "free", reason.None)
	}
}

// TestCredit: what was spent before there was any does not count, and what was granted
// is all there is.
func TestCredit(t *testing.T) {
	b := newTollbooth(t)
	b.totals.events["old"] = spentEvent{"prepaid", "k", start.AddDate(-1, 0, 0), usd("1")}
	for range 3 {
		b.settle(b.ask(start, "prepaid", "dear", reason.None), 20)
	}
	d := b.ask(start, "prepaid", "dear", reason.BudgetExceeded)
	if text := string(d.Response.Body); !strings.Contains(text, "credit has 0.3 USD left") {
		t.Errorf("the body: %s", text)
	}
	b.totals.events["correction"] = spentEvent{"prepaid", "k", start, usd("-0.1")}
	b.ask(start, "prepaid", "dear", reason.None)
}

// TestExplainBudgets: an explanation tells what is left and takes nothing.
func TestExplainBudgets(t *testing.T) {
	b := newTollbooth(t)
	b.settle(b.ask(start, "bounded", "dear", reason.None), 20)
	for range 3 {
		e := b.Explain(t.Context(), start, &Question{Secret: "bounded", Model: "dear"})
		if len(e.Budgets) != 2 || e.Budgets[0].Kind != KeyBudget || e.Budgets[1].Kind != PlanBudget {
			t.Fatalf("%+v", e.Budgets)
		}
		for i, want := range []string{"0.1", "0.6"} {
			left := e.Budgets[i].Remaining()
			if left.Cmp(usd(want)) != 0 {
				t.Errorf("%v of the %v's budget is left, want %s", left, e.Budgets[i].Kind, want)
			}
		}
		// The answer's length is learned, so what it would cost is not told here.
		if e.Reason != reason.BudgetExceeded {
			t.Errorf("%v: a request of unknown length costs more than is left", e.Reason)
		}
	}
}

// TestBudgetsAfterARestart: what is open holds again what it held.
func TestBudgetsAfterARestart(t *testing.T) {
	b := newTollbooth(t)
	d := b.ask(start, "bounded", "dear", reason.None)
	open, err := ParseAdmission(d.Admission.AppendBinary(nil))
	if err != nil {
		t.Fatal(err)
	}
	b.totals, b.Budgets = newTotals(t)
	b.settler.Budgets = b.Budgets
	b.settler.Restore(start, []*Admission{open})
	b.ask(start, "bounded", "dear", reason.BudgetExceeded)
	b.settle(d, 4)
	b.ask(start, "bounded", "dear", reason.None)
}
