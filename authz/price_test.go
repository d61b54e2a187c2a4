package authz

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/money"
)

func amount(t testing.TB, text string) money.Amount {
	t.Helper()
	a, err := money.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// priced is an admission with these rates, in the order unit, price, unit, price.
func priced(t testing.TB, path, multiplier string, rates ...string) *Admission {
	t.Helper()
	a := &Admission{
		ID: "a", Model: "m", Dialect: "openai", Path: path, Choices: 1, Multiplier: amount(t, multiplier),
		InputEstimate: 1000, OutputEstimate: 500, PromptBytes: 4000,
	}
	for i := 0; i < len(rates); i += 2 {
		a.Rates = append(a.Rates, Rate{Unit: rates[i], Price: amount(t, rates[i+1])})
	}
	return a
}

const (
	chatPath  = "POST /v1/chat/completions"
	imagePath = "POST /v1/images/generations"
)

func TestCostOfTokens(t *testing.T) {
	t.Parallel()
	all := []string{"input", "0.15", "cacheReadInput", "0.075", "cacheCreationInput", "0.1875", "output", "0.60", "reasoningOutput", "1.2"}
	some := []string{"input", "0.15", "output", "0.60"}
	for _, c := range []struct {
		name       string
		rates      []string
		tokens     Tokens
		list, cost string
	}{
		{"nothing", all, Tokens{}, "0", "0"},
		{"input and output", all, Tokens{Input: 1_000_000, Output: 1_000_000}, "0.75", "0.3"},
		{"one token", all, Tokens{Input: 1}, "0.00000015", "0.00000006"},
		{"the cached part costs its own rate, the rest input", all, Tokens{Input: 1000, CacheRead: 900, CacheCreation: 40}, "0.000084", "0.0000336"},
		{"reasoning costs its own", all, Tokens{Output: 1000, Reasoning: 600}, "0.00096", "0.000384"},
		{"kinds without a rate cost what they are kinds of", some, Tokens{Input: 1000, CacheRead: 900, CacheCreation: 40, Output: 1000, Reasoning: 600}, "0.00075", "0.0003"},
		{"a rate of zero is a rate", []string{"input", "0.15", "cacheReadInput", "0"}, Tokens{Input: 1000, CacheRead: 1000}, "0", "0"},
		{"no rate for output", []string{"input", "0.15"}, Tokens{Input: 1000, Output: 10}, "0.00015", "0.00006"},
		{"no rates", nil, Tokens{Input: 1000, Output: 10}, "0", "0"},
		{"parts beyond the whole are not counted twice", all, Tokens{Input: 10, CacheRead: 100, CacheCreation: 100}, "0.00000075", "0.0000003"},
		{"what is negative is nothing", all, Tokens{Input: -5, CacheRead: -5, Output: -5, Reasoning: -5}, "0", "0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := priced(t, chatPath, "0.40", c.rates...)
			u := Measure(a, Observation{Status: 200, Upstream: "u:1", Reported: true, Tokens: c.tokens}, new(Estimator))
			if u.ListCost.String() != c.list || u.Cost.String() != c.cost || !u.EstimatedCost.IsZero() {
				t.Errorf("list %s, cost %s, estimated %s; want %s and %s", u.ListCost, u.Cost, u.EstimatedCost, c.list, c.cost)
			}
		})
	}
}

// TestCostIsTheSum compares with fractions: no digit is lost, whatever the rates.
func TestCostIsTheSum(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.StringMatching(`[0-9]{1,9}(\.[0-9]{1,9})?`)
		price := map[string]string{}
		a := &Admission{Dialect: "openai", Path: chatPath}
		for _, unit := range []string{"input", "cacheReadInput", "cacheCreationInput", "output", "reasoningOutput"} {
			price[unit] = rate.Draw(t, unit)
			p, err := money.Parse(price[unit])
			if err != nil {
				t.Fatal(err)
			}
			a.Rates = append(a.Rates, Rate{Unit: unit, Price: p})
		}
		multiplier := rate.Draw(t, "multiplier")
		var err error
		if a.Multiplier, err = money.Parse(multiplier); err != nil {
			t.Fatal(err)
		}
		n := func(name string) int64 { return rapid.Int64Range(0, maxTokens/3).Draw(t, name) }
		read, creation, input, reasoning, output := n("read"), n("creation"), n("input"), n("reasoning"), n("output")
		u := Measure(a, Observation{Status: 200, Upstream: "u", Reported: true, Tokens: Tokens{
			Input: read + creation + input, CacheRead: read, CacheCreation: creation, Output: reasoning + output, Reasoning: reasoning,
		}}, new(Estimator))
		want := new(big.Rat)
		for unit, count := range map[string]int64{"input": input, "cacheReadInput": read, "cacheCreationInput": creation, "output": output, "reasoningOutput": reasoning} {
			r, _ := new(big.Rat).SetString(price[unit])
			want.Add(want, r.Mul(r, big.NewRat(count, 1_000_000)))
		}
		equal(t, "list", u.ListCost, want)
		m, _ := new(big.Rat).SetString(multiplier)
		equal(t, "cost", u.Cost, want.Mul(want, m))
	})
}

func equal(t *rapid.T, what string, got money.Amount, want *big.Rat) {
	is, ok := new(big.Rat).SetString(got.String())
	if !ok || is.Cmp(want) != 0 {
		t.Fatalf("%s %s, want %s", what, got, want.FloatString(40))
	}
}

// TestBilling: what is charged where the plain case doesn't hold. The estimate of a
// stream of 10 events is 1000 tokens of prompt and 10 of answer.
func TestBilling(t *testing.T) {
	t.Parallel()
	const (
		reservation = "0.0018"   // (1000 × 1 + 500 × 1.6) / 10^6
		streamed    = "0.001016" // (1000 × 1 + 10 × 1.6) / 10^6
		prompt      = "0.001"
	)
	said := Tokens{Input: 100, Output: 100}
	for _, c := range []struct {
		name            string
		billing         catalog.Billing
		seen            Observation
		cost, estimated string
	}{
		{"a known zero stays zero", catalog.Billing{}, Observation{Status: 200, Reported: true}, "0", "0"},
		{"estimated", catalog.Billing{}, Observation{Status: 200, Events: 10}, streamed, streamed},
		{"estimated, free", catalog.Billing{FreeEstimated: true}, Observation{Status: 200, Events: 10}, "0", streamed},
		{"reported, estimates free", catalog.Billing{FreeEstimated: true}, Observation{Status: 200, Reported: true, Tokens: said}, "0.00026", "0"},
		{"hung up before the answer", catalog.Billing{}, Observation{Flags: "DC"}, prompt, prompt},
		{"an error of the upstream, which says what it used", catalog.Billing{}, Observation{Status: 500, Reported: true, Tokens: said}, "0.00026", "0"},
		{"the same, free", catalog.Billing{FreeErrors: true}, Observation{Status: 500, Reported: true, Tokens: said}, "0", "0"},
		{"an error of the upstream in the middle, which says nothing", catalog.Billing{}, Observation{Status: 200, Flags: "UC", Events: 10}, "0", streamed},
		{"too long in the middle", catalog.Billing{}, Observation{Status: 200, Details: durationOver, Events: 10}, streamed, streamed},
		{"too long before the answer", catalog.Billing{}, Observation{Status: 504, Details: durationOver, Bytes: 114, Complete: true}, "0", prompt},
		{"a caller reads no more", catalog.Billing{}, Observation{Status: 200, Flags: "SI", Details: idleOver, Events: 10}, streamed, streamed},
		{"the same, errors free", catalog.Billing{FreeErrors: true}, Observation{Status: 200, Flags: "SI", Details: idleOver, Events: 10}, "0", streamed},
		{"the same, estimates free", catalog.Billing{FreeEstimated: true}, Observation{Status: 200, Flags: "SI", Details: idleOver, Events: 10}, "0", streamed},
		{"not sent", catalog.Billing{ChargeUnsettled: true}, Observation{Status: 503, Flags: "UF"}, "0", "0"},
		{"refused by the upstream", catalog.Billing{}, Observation{Status: 400, Bytes: 100, Complete: true}, "0", "0"},
		{"nobody saw it", catalog.Billing{}, Observation{Status: 200, Unwatched: true}, reservation, reservation},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := priced(t, chatPath, "1", "input", "1", "output", "1.6")
			a.Billing = c.billing
			if c.seen.Flags != "UF" {
				c.seen.Upstream = "u:1"
			}
			u := Measure(a, c.seen, new(Estimator))
			if u.Cost.String() != c.cost || u.EstimatedCost.String() != c.estimated || u.Cost.Cmp(u.ListCost) != 0 {
				t.Errorf("cost %s (list %s), estimated %s; want %s and %s", u.Cost, u.ListCost, u.EstimatedCost, c.cost, c.estimated)
			}
		})
	}
	a := priced(t, chatPath, "0.5", "input", "1", "output", "1.6")
	if u := Unsettled(a); !u.Cost.IsZero() || !u.ListCost.IsZero() || u.EstimatedCost.String() != "0.0009" {
		t.Errorf("unsettled: %s of %s, estimated %s", u.Cost, u.ListCost, u.EstimatedCost)
	}
	a.Billing.ChargeUnsettled = true
	u := Unsettled(a)
	if u.Cost.String() != "0.0009" || u.ListCost.String() != reservation || u.EstimatedCost.String() != "0.0009" || a.Estimate().String() != "0.0009" {
		t.Errorf("unsettled and charged: %s of %s, estimated %s", u.Cost, u.ListCost, u.EstimatedCost)
	}
	if u.Supersede(); !u.Superseded || !u.Cost.IsZero() || !u.ListCost.IsZero() {
		t.Errorf("superseded: %s of %s", u.Cost, u.ListCost)
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	path := &dialect.Path{
		Success: &dialect.Success{Member: "ok", Value: "0"},
		Units: []dialect.Unit{
			{Name: "request", From: dialect.EachRequest},
			{Name: "image", From: dialect.EachChoice},
			{Name: "second", From: dialect.OfDuration},
			{Name: "character", From: dialect.InAnswer, Member: "characters"},
			{Name: "video", From: dialect.InAnswer, Member: "length", Per: 1000},
		},
		Creates: &dialect.Object{Kind: "task", Member: "task_id", Else: "data.id"},
	}
	told := []Label{{"ok", "0"}, {"characters", "1234"}, {"length", "1500.4"}, {"task_id", "t-1"}}
	for _, c := range []struct {
		name   string
		seen   Observation
		units  string
		cost   string
		object string
	}{
		{"an answer", Observation{Status: 200, Told: told, Duration: 2*time.Second + 1, Complete: true}, "[{request 1000} {image 3000} {second 2001} {character 1234000} {video 1500}]", "11217.51991", "t-1"},
		{"an id elsewhere", Observation{Status: 200, Complete: true, Told: []Label{{"data.id", "t-3"}}}, "[{request 1000} {image 3000} {character 4000000}]", "36109.9999", "t-3"},
		{"an id that is not the object's", Observation{Status: 200, Complete: true, Told: []Label{{"data.id", "t-3"}, {"task_id", "t-4"}}}, "[{request 1000} {image 3000} {character 4000000}]", "36109.9999", "t-4"},
		{"a hang-up before it", Observation{Flags: "DC", Duration: time.Second}, "[{request 1000} {image 3000} {second 1000} {character 4000000}]", "36110.0099", ""},
		{"an error by its status", Observation{Status: 429, Complete: true, Duration: time.Second}, "[]", "0", ""},
		{"an error by its own word", Observation{Status: 200, Told: []Label{{"ok", "1002"}, {"characters", "5"}, {"task_id", "t-2"}}}, "[{character 5000}]", "45", ""},
		{"not sent", Observation{Status: 503, Flags: "NC"}, "[]", "0", ""},
		{"what isn't a number isn't believed", Observation{Status: 200, Told: []Label{{"characters", "-5"}, {"length", "1e9"}}}, "[{request 1000} {image 3000} {character 4000000}]", "36109.9999", ""},
		{"nor one beyond all bounds", Observation{Status: 200, Told: []Label{{"characters", "99999999999999999999"}, {"length", "1152921504606846976"}}}, "[{request 1000} {image 3000} {character 4000000}]", "36109.9999", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := priced(t, "", "1", "request", "100", "image", "3.3333", "second", "0.01", "character", "9", "video", "1")
			a.Choices = 3
			if c.seen.Flags != "NC" {
				c.seen.Upstream = "u:1"
			}
			c.seen.Reported = c.seen.Status == 200
			u := measure(a, path, &c.seen, new(Estimator))
			if got := fmt.Sprint(u.Units); got != c.units {
				t.Errorf("units %s, want %s", got, c.units)
			}
			if u.Object != c.object {
				t.Errorf("object %q, want %q", u.Object, c.object)
			}
			if u.Cost.String() != c.cost {
				t.Errorf("cost %s, want %s", u.Cost, c.cost)
			}
			if refused := c.seen.told("ok") == "1002"; refused != u.Refused || refused && u.Outcome != UpstreamError {
				t.Errorf("refused: %v, %s", u.Refused, u.Outcome)
			}
		})
	}
}

// TestSearchesAreNotFree: requests that only an answer counts are at least one, also
// where the caller leaves before it says so, and a budget holds that.
func TestSearchesAreNotFree(t *testing.T) {
	t.Parallel()
	a := priced(t, "POST /v2/rerank", "1", "request", "0.002")
	a.Dialect = "cohere"
	if got := a.Estimate().String(); got != "0.002" {
		t.Errorf("held: %s", got)
	}
	for want, seen := range map[string]Observation{
		"0.002": {Upstream: "u:1", Flags: "DC"},
		"0.006": {Upstream: "u:1", Status: 200, Complete: true, Told: []Label{{"meta.billed_units.search_units", "3"}}},
		"0":     {Upstream: "u:1", Status: 429, Complete: true},
	} {
		if u := Measure(a, seen, new(Estimator)); u.Cost.String() != want {
			t.Errorf("%+v: %s, want %s", seen, u.Cost, want)
		}
	}
}

// TestSoundIsNotFree: whatever the dialect, a model that is charged by the second is
// so for sound, as the answer says, and for a WebSocket, by its time.
func TestSoundIsNotFree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect, path string
		seen          Observation
	}{
		{"podstack", "POST /inference/v1/audio/transcriptions", Observation{Status: 200, Complete: true, Told: []Label{{"usage.seconds", "3"}}}},
		{"openai", "POST /v1/audio/transcriptions", Observation{Status: 200, Complete: true, Told: []Label{{"usage.seconds", "3"}}}},
		{"openai", "GET /v1/realtime", Observation{Status: switchedProtocols, Flags: "DC", Duration: 3 * time.Second}},
		{"azure", "GET /openai/realtime", Observation{Status: switchedProtocols, Details: durationOver, Duration: 3 * time.Second}},
	} {
		a := priced(t, c.path, "1", "second", "0.1")
		a.Dialect, c.seen.Upstream = c.dialect, "u:1"
		if u := Measure(a, c.seen, new(Estimator)); u.Cost.String() != "0.3" {
			t.Errorf("%s of %s: %s, want 0.3", c.path, c.dialect, u.Cost)
		}
	}
}

// TestEstimate: what a budget holds is what an answer as large as its reservation
// costs.
func TestEstimate(t *testing.T) {
	t.Parallel()
	a := priced(t, imagePath, "0.5", "image", "0.04", "input", "5")
	a.Choices, a.OutputEstimate = 4, 0
	if got := a.Estimate().String(); got != "0.0825" { // (4 × 0.04 + 1000 × 5 / 10^6) / 2
		t.Errorf("four images: %s", got)
	}
	b := priced(t, imagePath, "0.5", "request", "0.01", "image", "0")
	if got := b.Estimate().String(); got != "0.005" {
		t.Errorf("a path that doesn't count requests, of a model that charges them: %s", got)
	}
	a.Path = "POST /v1/of/another/version"
	if got := a.Estimate().String(); got != "0.0025" {
		t.Errorf("a path that isn't known: %s", got)
	}
	a.Rates = nil
	if got := a.Estimate(); !got.IsZero() {
		t.Errorf("without rates: %s", got)
	}
}
