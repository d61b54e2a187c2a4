package catalog

import (
	"strings"
	"testing"
	"time"
)

func TestRatesThatChange(t *testing.T) {
	t.Parallel()
	tables := mustCompile(t, `
models:
  - id: dated
    rates:
      - {input: "1"}
      - {from: 2026-01-01T00:00:00Z, input: "2", output: "3"}
      - {from: "2026-06-01T02:00:00+02:00", input: "4"}
  - {id: later, rates: [{from: "2026-01-01T00:00:00Z", image: "0.04", request: "0"}]}
  - {id: always, rates: {output: "0.60", input: "0.150"}}
  - {id: free}
`)
	for _, c := range []struct{ model, at, want string }{
		{"dated", "2025-12-31T23:59:59.999999Z", "input 1"},
		{"dated", "2026-01-01T00:00:00Z", "input 2, output 3"},
		{"dated", "2026-05-31T23:59:59Z", "input 2, output 3"},
		{"dated", "2026-06-01T00:00:00Z", "input 4"},
		{"dated", "2036-06-01T00:00:00Z", "input 4"},
		{"later", "2025-12-31T23:59:59Z", "nothing"},
		{"later", "2026-01-01T00:00:00Z", "request 0, image 0.04"},
		{"always", "1999-01-01T00:00:00Z", "input 0.15, output 0.6"},
		{"free", "2026-01-01T00:00:00Z", "nothing"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		got := "nothing"
		if card := tables.Models[c.model].RatesAt(at); card != nil {
			var all []string
			for _, r := range card.Rates {
				all = append(all, r.Unit+" "+r.Price.String())
			}
			if got = strings.Join(all, ", "); card.From.Location() != time.UTC {
				t.Errorf("%s: from %v", c.model, card.From)
			}
		}
		if got != c.want {
			t.Errorf("%s at %s: %s, want %s", c.model, c.at, got, c.want)
		}
	}
}

// TestRatesStored: a single card is stored as the release before this one reads it,
// and every form is read back as it was.
func TestRatesStored(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{models: [{id: m, rates: {input: "1"}}]}`:                                     `"rates":{"input":"1"}`,
		`{models: [{id: m, rates: [{input: "1"}]}]}`:                                   `"rates":{"input":"1"}`,
		`{models: [{id: m, rates: [{from: "2026-01-01T00:00:00Z", input: "1"}]}]}`:     `"rates":[{"from":"2026-01-01T00:00:00Z","input":"1"}]`,
		`{models: [{id: m, rates: [{}, {from: "2026-01-01T00:00:00Z", input: "1"}]}]}`: `"rates":[{},{"from":"2026-01-01T00:00:00Z","input":"1"}]`,
		`{models: [{id: m, rates: {from: "2026-01-01T00:00:00Z", input: "1"}}]}`:       `"rates":[{"from":"2026-01-01T00:00:00Z","input":"1"}]`,
		`{models: [{id: m, rates: {}}]}`:                                               `"rates":{}`,
		`{models: [{id: m, rates: []}]}`:                                               `"rates":[]`,
	} {
		c, err := Parse("c", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		stored, err := Encode(c)
		if err != nil || !strings.Contains(string(stored), want) {
			t.Errorf("%s is stored as %s, %v; want %s", text, stored, err, want)
		}
		back, err := Parse("c", stored)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Encode(back); err != nil || string(again) != string(stored) {
			t.Errorf("%s\nis read as\n%s", stored, again)
		}
	}
}

func TestRatesProblems(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{`models: [{id: m, rates: [{input: '1'}, {output: '1'}]}]`, `c:1:40: models[0].rates[1]: from is missing: say from when on these rates hold; only the first may be without it`},
		{`models: [{id: m, rates: [{from: 2026-01-01, input: '1'}]}]`, `c:1:33: models[0].rates[0].from: want a time in whole seconds such as 2026-01-01T00:00:00Z`},
		{`models: [{id: m, rates: {from: '2026-01-01T00:00:00.5Z'}}]`, `c:1:32: models[0].rates.from: want a time in whole seconds such as 2026-01-01T00:00:00Z`},
		{`models: [{id: m, rates: {from: ''}}]`, `c:1:32: models[0].rates.from: want a time in whole seconds such as 2026-01-01T00:00:00Z`},
		{`models: [{id: m, rates: [{from: '2026-01-01T00:00:00Z'}, {from: '2026-01-01T00:00:00Z'}]}]`, `c:1:65: models[0].rates[1].from: is not after the rates before it: write them in the order of their times`},
		{`models: [{id: m, rates: [{from: '2026-01-01T00:00:00Z', inptu: '1'}]}]`, `c:1:64: models[0].rates[0].inptu: there is no unit "inptu"; did you mean "input"?`},
		{`models: [{id: m, rates: {input: 1}}]`, `c:1:33: models[0].rates.input: want a string, not 1: put it in quotes, "1"`},
		{`models: [{id: m, rates: {input: '1.0000000000000000001'}}]`, `c:1:33: models[0].rates.input: 20 digits are more than can be counted exactly: use 18 at most`},
		{`models: [{id: m, rates: '0.15'}]`, `c:1:25: models[0].rates: want names with values (name: value), not a string`},
		{`models: [{id: m, rates: ['0.15']}]`, `c:1:26: models[0].rates[0]: want names with values (name: value), not a string`},
	} {
		if got := strings.Join(problems(t, c.text), "\n"); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.text, got, c.want)
		}
	}
	var many strings.Builder
	many.WriteString("models:\n  - id: m\n    rates:\n")
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range maxRateCards + 1 {
		many.WriteString("      - {from: " + at.AddDate(0, 0, i).Format(time.RFC3339) + "}\n")
	}
	if got := strings.Join(problems(t, many.String()), "\n"); !strings.Contains(got, "101 are too many: 100 at most") {
		t.Errorf("101 cards: %s", got)
	}
}
