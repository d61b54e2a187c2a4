//go:build linux

package main_test

import (
	"bufio"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tollgate/authz/money"
)

// pricedEvent is what an event says of money.
type pricedEvent struct {
	Data struct {
		RequestID, Key, Outcome, Measurement, Currency                string
		InputTokens, CacheReadInputTokens, OutputTokens, RatesVersion int64
		ListCost, Cost, EstimatedCost, Multiplier                     money.Amount
		Rates                                                         map[string]money.Amount
		RatesFrom                                                     time.Time
	}
}

// costRow is what usage says of money.
type costRow struct{ ListCost, Cost money.Amount }

// testMoney lets requests through at prices that a float would spoil, changes them
// on the way, kills the process, and adds everything up by hand.
func testMoney(t *testing.T, b *bench) {
	g := newGate(t, b)
	file := filepath.Join(g.dir, "catalog.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	priced := func(rates string) string {
		text := strings.Replace(string(text), "plans: [{id: open}]", "plans: [{id: open, multiplier: '0.40'}]", 1)
		return strings.ReplaceAll(text, ", deployed: true,", ", deployed: true, rates: "+rates+",")
	}
	write := func(rates string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(priced(rates)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`[{input: '9', output: '9'}, {from: 2020-01-01T00:00:00Z, input: '0.15000000001', cacheReadInput: '0.075', output: '0.60'}, {from: 2999-01-01T00:00:00Z, input: '9'}]`)
	g.start("up")
	g.waitReady()
	k := g.key("--name", "money")
	for n := range 4 {
		if res := g.chat(k.Key, chatBody(chatModel, ""), fmt.Sprintf("x-backend-tokens: %d", 10+n), "x-backend-cached: 1"); res.status != http.StatusOK {
			t.Fatal(res)
		}
	}
	if res := g.chat(k.Key, chatBody(downModel, "")); res.status != http.StatusServiceUnavailable {
		t.Fatal(res)
	}
	write(`{input: '1', request: '0.001'}`)
	g.cli("apply", "-f", file)
	if res := g.chat(k.Key, chatBody(chatModel, ""), "x-backend-tokens: 10"); res.status != http.StatusOK {
		t.Fatal(res)
	}
	g.eventsOf(k, 6)
	list, cost := checkCosts(t, g, k)
	for restarted := range 2 {
		for _, by := range []string{"", "model", "key,minute", "workspace,hour", "user,day"} {
			within(t, time.Minute, "summed up", func() error {
				var sum costRow
				for _, row := range decodeJSON[[]costRow](t, g.cli("usage", "--group-by", by, "--since", "", "-o", "json")) {
					sum.ListCost, sum.Cost = sum.ListCost.Add(row.ListCost), sum.Cost.Add(row.Cost)
				}
				if sum.ListCost.Cmp(list) != 0 || sum.Cost.Cmp(cost) != 0 {
					return fmt.Errorf("by %q: %s of %s, want %s of %s", by, sum.Cost, sum.ListCost, cost, list)
				}
				return nil
			})
		}
		if restarted == 0 {
			g.crash()
			g.start("up")
			g.waitReady()
		}
	}
	if table := g.cli("usage", "--since", ""); !strings.Contains(table, "LIST COST") || !strings.Contains(table, cost.String()) {
		t.Errorf("the table:\n%s", table)
	}
}

// checkCosts reckons each event's costs by its tokens and rates, and returns the
// sums.
func checkCosts(t *testing.T, g *gate, k newKey) (list, cost money.Amount) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(g.cli("events", "list", "--since", "24h", "-o", "json")))
	lines.Buffer(nil, 1<<20)
	versions := map[int64]int{}
	for lines.Scan() {
		d := decodeJSON[pricedEvent](t, lines.Text()).Data
		if d.Key != k.ID {
			continue
		}
		list, cost = list.Add(d.ListCost), cost.Add(d.Cost)
		versions[d.RatesVersion]++
		want := new(big.Rat)
		for unit, n := range map[string]int64{"input": d.InputTokens - d.CacheReadInputTokens, "cacheReadInput": d.CacheReadInputTokens, "output": d.OutputTokens} {
			rate, _ := new(big.Rat).SetString(d.Rates[unit].String())
			if _, ok := d.Rates[unit]; !ok && unit == "cacheReadInput" {
				rate, _ = new(big.Rat).SetString(d.Rates["input"].String())
			}
			want.Add(want, rate.Mul(rate, big.NewRat(n, 1_000_000)))
		}
		if price, ok := d.Rates["request"]; ok && d.Outcome == "completed" {
			rate, _ := new(big.Rat).SetString(price.String())
			want.Add(want, rate)
		}
		if got, _ := new(big.Rat).SetString(d.ListCost.String()); got.Cmp(want) != 0 {
			t.Errorf("the list cost is %s, want %s: %+v", d.ListCost, want.FloatString(30), d)
		}
		if d.Cost.Cmp(d.ListCost.Mul(money.New(4, 1))) != 0 || d.Multiplier.String() != "0.4" || d.Currency != "USD" {
			t.Errorf("the cost is %s of %s: %+v", d.Cost, d.ListCost, d)
		}
		dated := d.Rates["input"].String() == "0.15000000001"
		if dated != d.RatesFrom.Equal(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)) || d.Outcome == "not_sent" && !d.Cost.IsZero() || d.Outcome == "completed" && d.Cost.IsZero() {
			t.Errorf("%+v", d)
		}
	}
	if len(versions) != 2 {
		t.Errorf("events by the rates' version: %v, want two versions", versions)
	}
	return list, cost
}
