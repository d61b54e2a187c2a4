//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tollgate/authz/money"
)

// pricedCatalog is a catalog in which a token of the chat model costs 0.001 USD, and
// workspaces whose plan has a budget, or which may be prepaid.
func pricedCatalog(text string) string {
	text = strings.Replace(text, "workspaces: [{id: demo, plan: open}]\nplans: [{id: open}]\n",
		"workspaces: [{id: demo, plan: open}, {id: team, plan: small}, {id: prepaid, plan: open}]\n"+
			"plans: [{id: open}, {id: small, budget: {period: total, amount: '0.2'}}]\n", 1)
	model := fmt.Sprintf("{id: %q,", chatModel)
	return strings.Replace(text, model, model+" rates: {input: '1000', output: '1000'},", 1)
}

// twenty asks for an answer of 20 tokens, which the backend makes as long.
func (g *gate) twenty(k newKey) answer {
	return g.chat(k.Key, chatBody(chatModel, `,"max_tokens":20`), "x-backend-tokens: 20")
}

// spendAll sends requests, one after the other, until one is refused for a budget,
// and returns how many passed.
func (g *gate) spendAll(k newKey) (passed int) {
	g.t.Helper()
	for ; passed < 100; passed++ {
		res := g.twenty(k)
		if res.status == http.StatusOK {
			continue
		}
		if code, message := res.refusal(g.t); res.status != http.StatusTooManyRequests || code != "insufficient_quota" || res.header.Get("x-should-retry") != "false" {
			g.t.Fatalf("after %d requests: %v: %s", passed, res, message)
		}
		return passed
	}
	g.t.Fatal("100 requests passed: there is no budget")
	return 0
}

// explained is what `explain` says of budgets.
type explained struct {
	Allowed bool
	Reason  string
	Budgets []struct {
		Of, Amount, Period         string
		Spent, Reserved, Remaining *string
	}
}

// budgetOf is where a key's budgets stand once its requests are settled.
func (g *gate) budgetOf(k newKey, workspace string) (e explained) {
	g.t.Helper()
	within(g.t, time.Minute, "settled", func() error {
		e = decodeJSON[explained](g.t, g.cli("explain", k.ID, "--workspace", workspace, "--model", chatModel, "-o", "json"))
		for _, b := range e.Budgets {
			if b.Reserved == nil || *b.Reserved != "0" {
				return fmt.Errorf("%+v", b)
			}
		}
		return nil
	})
	return e
}

// costOf is what the events of a key say that it cost.
func (g *gate) costOf(k newKey, requests int) money.Amount {
	g.t.Helper()
	tokens := 0
	for _, e := range g.eventsOf(k, requests) {
		tokens += e.Data.InputTokens + e.Data.OutputTokens
	}
	return money.New(int64(tokens), 3)
}

func usd(t *testing.T, text string) money.Amount {
	t.Helper()
	a, err := money.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// testBudgets spends what keys and workspaces have, to the end, and kills the process
// in between.
func testBudgets(t *testing.T, b *bench) {
	g := newGate(t, b)
	catalog := filepath.Join(g.dir, "catalog.yaml")
	text, err := os.ReadFile(catalog)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(catalog, []byte(pricedCatalog(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start("up")
	g.waitReady()
	for _, bad := range []string{"1.0000000000000000000001/month", "1e3/month", "-1/day", "5/week"} {
		if out, _, code := g.tryCLI("key", "create", "--workspace", "demo", "--budget", bad); code == 0 {
			t.Errorf("a budget of %s was taken: %s", bad, out)
		}
	}
	k := g.key("--workspace", "demo", "--name", "bounded", "--budget", "0.1/total")
	other := g.key("--workspace", "demo", "--name", "other")
	mate := g.key("--workspace", "team", "--name", "mate")
	pre := g.key("--workspace", "prepaid", "--name", "pre")

	passed := g.spendAll(k)
	spent := g.costOf(k, passed)
	check := func(when string) {
		t.Helper()
		e := g.budgetOf(k, "demo")
		if e.Allowed || e.Reason != "budget_exceeded" || len(e.Budgets) != 1 || *e.Budgets[0].Spent != spent.String() {
			t.Errorf("%s: explained as %+v; the events say %v", when, e, spent)
		}
		g.python("budget.py", "http://"+g.gateway+"/v1", k.Key, chatModel)
		if res := g.twenty(other); res.status != http.StatusOK {
			t.Errorf("%s: a key without a budget: %v", when, res)
		}
	}
	if spent.Cmp(usd(t, "0.1")) > 0 || spent.Cmp(usd(t, "0.06")) < 0 {
		t.Errorf("%v of 0.1 is spent by %d requests", spent, passed)
	}
	check("used up")

	g.kill()
	g.start("up")
	g.waitReady()
	if n := g.spendAll(k); n != 0 {
		t.Errorf("after kill -9 and a start %d more requests passed", n)
	}
	check("after kill -9 and a start")

	// A workspace's budget binds its keys together.
	n := g.spendAll(mate)
	if spent := g.costOf(mate, n); spent.Cmp(usd(t, "0.2")) > 0 || spent.Cmp(usd(t, "0.16")) < 0 {
		t.Errorf("%v of the workspace's 0.2 is spent", spent)
	}
	if n := g.spendAll(g.key("--workspace", "team", "--name", "late")); n != 0 {
		t.Errorf("another key of the workspace: %d requests passed", n)
	}
	testCredit(t, g, pre)
}

// testCredit spends prepaid credit. What was spent before there was any is not taken
// from it.
func testCredit(t *testing.T, g *gate, k newKey) {
	credit := func() (granted, remaining string) {
		t.Helper()
		w := decodeJSON[struct {
			Credit struct{ Granted, Remaining string }
		}](t, g.cli("workspace", "show", "prepaid", "-o", "json"))
		return w.Credit.Granted, w.Credit.Remaining
	}
	if res := g.twenty(k); res.status != http.StatusOK {
		t.Fatalf("a workspace that is not prepaid: %v", res)
	}
	before := g.costOf(k, 1)
	g.budgetOf(k, "prepaid")
	g.cli("workspace", "credit", "prepaid", "--amount", "0.1", "--note", "trial")
	if granted, left := credit(); granted != "0.1" || left != "0.1" {
		t.Errorf("%s granted, %s left", granted, left)
	}
	n := g.spendAll(k)
	if spent := g.costOf(k, n+1).Sub(before); spent.Cmp(usd(t, "0.1")) > 0 || spent.Cmp(usd(t, "0.06")) < 0 {
		t.Errorf("%v of 0.1 is spent", spent)
	}
	g.cli("workspace", "credit", "prepaid", "--amount", "0.05", "--idempotency-key", "once")
	if _, stderr, code := g.tryCLI("workspace", "credit", "prepaid", "--amount", "0.05", "--idempotency-key", "once"); code == 0 || !strings.Contains(stderr, "came before") {
		t.Errorf("granted twice: %d %s", code, stderr)
	}
	g.cli("apply", "-f", filepath.Join(g.dir, "catalog.yaml"), "--prune")
	if more := g.spendAll(k); more == 0 {
		t.Error("nothing passed with new credit")
	} else {
		n += more
	}
	if spent := g.costOf(k, n+1).Sub(before); spent.Cmp(usd(t, "0.15")) > 0 {
		t.Errorf("%v of 0.15 is spent", spent)
	}
	if granted, _ := credit(); granted != "0.15" {
		t.Errorf("%s granted", granted)
	}
}

// testSharedBudgets has two replicas behind an Envoy each spend one budget.
func testSharedBudgets(t *testing.T, b *bench) {
	d := newDeployment(t, b, 2, faultBound, false)
	one, two := d.replicas[0], d.replicas[1]
	text, err := os.ReadFile(d.catalog)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.catalog, []byte(pricedCatalog(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	one.cli("apply", "-f", d.catalog)
	k := one.key("--workspace", "demo", "--name", "shared", "--budget", "0.5/total")
	passed := 0
	for _, r := range []*replica{one, two, one, two} {
		for range 3 {
			if res := r.twenty(k); res.status != http.StatusOK {
				t.Fatalf("%v", res)
			}
			passed++
		}
	}
	passed += one.spendAll(k)
	one.budgetOf(k, "demo")
	within(t, time.Minute, "used up at the other one too", func() error {
		if n := two.spendAll(k); n > 0 {
			passed += n
			return fmt.Errorf("%d requests passed", n)
		}
		return nil
	})
	// One request at a time: what the other replica had under way is one.
	if spent := one.costOf(k, passed); spent.Cmp(usd(t, "0.55")) > 0 || spent.Cmp(usd(t, "0.46")) < 0 {
		t.Errorf("%v of 0.5 is spent by %d requests", spent, passed)
	}
	two.signal(syscall.SIGKILL)
	two.kill()
	two.start("serve")
	two.waitServing()
	if n := two.spendAll(k); n != 0 {
		t.Errorf("after kill -9 and a start %d more requests passed", n)
	}
	two.cli("key", "update", k.ID, "--workspace", "demo", "--budget", "1/total")
	for _, r := range []*replica{one, two} {
		if res := r.twenty(k); res.status != http.StatusOK {
			t.Errorf("after the budget was raised: %v", res)
		}
	}
}
