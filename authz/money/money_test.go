package money_test

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tollgate/authz/money"
)

func parse(t interface{ Fatalf(string, ...any) }, text string) money.Amount {
	a, err := money.Parse(text)
	if err != nil {
		t.Fatalf("Parse(%q): %v", text, err)
	}
	return a
}

func TestText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0": "0", "-0": "0", "0.000": "0", "007": "7", "1": "1", "-1": "-1", "0.15": "0.15", "0.150": "0.15", "10": "10", "1000.00": "1000",
		"-0.00123":             "-0.00123",
		"0.000000000000000001": "0.000000000000000001",
		"999999999999999999":   "999999999999999999",
		"9223372036854775807":  "9223372036854775807",
		"-9223372036854775808": "-9223372036854775808",
		"9223372036854775808":  "9223372036854775808",
		"123456789012345678901234567890.123456789012345678901234567890":                    "123456789012345678901234567890.12345678901234567890123456789",
		"0." + strings.Repeat("0", 40) + "1":                                               "0." + strings.Repeat("0", 40) + "1",
		"-0.1" + strings.Repeat("0", 60):                                                   "-0.1",
		"1" + strings.Repeat("0", 60) + "." + strings.Repeat("0", 60):                      "1" + strings.Repeat("0", 60),
		strings.Repeat("0", money.MaxText-1) + "5":                                         "5",
		"-" + strings.Repeat("9", 30) + "." + strings.Repeat("9", 30) + "0000000000000000": "-" + strings.Repeat("9", 30) + "." + strings.Repeat("9", 30),
	} {
		a := parse(t, text)
		if got := a.String(); got != want {
			t.Errorf("Parse(%q).String() = %q, want %q", text, got, want)
		}
		j, err := json.Marshal(a)
		if err != nil || string(j) != `"`+want+`"` {
			t.Errorf("in JSON %q is %s, %v", text, j, err)
		}
		var back money.Amount
		if err := json.Unmarshal(j, &back); err != nil || back.Cmp(a) != 0 {
			t.Errorf("%s is read as %v, %v", j, back, err)
		}
	}
	if got := (money.Amount{}).String(); got != "0" {
		t.Errorf("the zero value is %q", got)
	}
}

func TestNotAmounts(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "-", "+1", ".", ".5", "5.", "-.5", "1.2.3", "1e3", "1E3", "0x10", " 1", "1 ", "1_000", "1,000", "--1", "-+1", "NaN", "Inf", "١",
		strings.Repeat("1", money.MaxText+1),
	} {
		if a, err := money.Parse(text); err == nil {
			t.Errorf("Parse(%q) = %s, want an error", text, a)
		}
	}
	var a money.Amount
	if err := json.Unmarshal([]byte(`1.5`), &a); err == nil {
		t.Error("a number of JSON is read as an amount: other readers of it would round")
	}
}

// anAmount draws amounts of all forms: short ones, ones at the edge of a word and
// ones far beyond it.
func anAmount(t *rapid.T, name string) (money.Amount, *big.Rat) {
	text := rapid.OneOf(
		rapid.StringMatching(`-?[0-9]{1,4}(\.[0-9]{1,4})?`),
		rapid.StringMatching(`-?[0-9]{1,19}(\.[0-9]{1,19})?`),
		rapid.StringMatching(`-?92233720368547758[0-9]{2}`),
		rapid.StringMatching(`-?9223372036\.85477580[0-9]{1,2}`),
		rapid.StringMatching(`-?[0-9]{1,50}(\.[0-9]{1,50})?`),
		rapid.StringMatching(`-?[1-9]0{0,40}(\.0{0,40}[0-9])?`),
	).Draw(t, name)
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("%q is no number", text)
	}
	return parse(t, text), r
}

// rat is what an amount says of itself.
func rat(t *rapid.T, a money.Amount) *big.Rat {
	r, ok := new(big.Rat).SetString(a.String())
	if !ok {
		t.Fatalf("%q is no number", a.String())
	}
	return r
}

// TestExact compares every operation with fractions of math/big.
func TestExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, x := anAmount(t, "a")
		b, y := anAmount(t, "b")
		n := rapid.Int64().Draw(t, "n")
		decimals := rapid.IntRange(0, 30).Draw(t, "decimals")
		for what, is := range map[string]struct {
			got  money.Amount
			want *big.Rat
		}{
			"a":         {a, x},
			"a + b":     {a.Add(b), new(big.Rat).Add(x, y)},
			"a - b":     {a.Sub(b), new(big.Rat).Sub(x, y)},
			"a × b":     {a.Mul(b), new(big.Rat).Mul(x, y)},
			"a × n":     {a.MulInt(n), new(big.Rat).Mul(x, new(big.Rat).SetInt64(n))},
			"n shifted": {money.New(n, decimals), new(big.Rat).SetFrac(big.NewInt(n), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals)), nil))},
		} {
			if rat(t, is.got).Cmp(is.want) != 0 {
				t.Fatalf("%s = %s, want %s", what, is.got, is.want.FloatString(120))
			}
			if is.got.Sign() != is.want.Sign() || is.got.IsZero() != (is.want.Sign() == 0) {
				t.Fatalf("%s: Sign() = %d", is.got, is.got.Sign())
			}
			if s := is.got.String(); s != "0" && strings.Contains(s, ".") && strings.HasSuffix(s, "0") || strings.HasPrefix(s, "-0") && !strings.HasPrefix(s, "-0.") {
				t.Fatalf("%q is not the shortest", s)
			}
			if again := parse(t, is.got.String()); again.Cmp(is.got) != 0 {
				t.Fatalf("%s is read as %s", is.got, again)
			}
		}
		if got, want := a.Cmp(b), x.Cmp(y); got != want {
			t.Fatalf("%s compared with %s is %d, want %d", a, b, got, want)
		}
		if a.Add(b).Cmp(b.Add(a)) != 0 || a.Add(b).Sub(b).Cmp(a) != 0 {
			t.Fatal("the order of a sum matters")
		}
		if rat(t, a).Cmp(x) != 0 || rat(t, b).Cmp(y) != 0 {
			t.Fatal("an operation changed what it was given")
		}
	})
}

func TestEdges(t *testing.T) {
	t.Parallel()
	least := money.New(math.MinInt64, 0)
	if got := least.String(); got != "-9223372036854775808" {
		t.Errorf("the least integer is %s", got)
	}
	if got := least.MulInt(math.MinInt64).String(); got != "85070591730234615865843651857942052864" {
		t.Errorf("its square is %s", got)
	}
	if got := money.New(7, -3).String(); got != "7" {
		t.Errorf("New(7, -3) = %s", got)
	}
	if got := parse(t, "-9223372036854775807").Sub(money.New(1, 0)).Cmp(least); got != 0 {
		t.Errorf("one below the least that fits differs from it: %d", got)
	}
}

// TestCheap: what almost every request costs is reckoned without memory.
func TestCheap(t *testing.T) {
	rate, multiplier, perToken := parse(t, "0.15"), parse(t, "0.40"), money.New(1, 6)
	sum := parse(t, "123456.789012345")
	allocs := testing.AllocsPerRun(100, func() {
		sum = sum.Add(rate.MulInt(123_456).Mul(perToken).Mul(multiplier))
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a cost, want none", allocs)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"0", "-0.00123", "9223372036854775808", "1e3", ".5", "1.", "--1", "0.0000000000000000000001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := money.Parse(text)
		r, isNumber := new(big.Rat).SetString(text)
		if err != nil {
			return
		}
		if !isNumber || strings.Trim(text, "-.0123456789") != "" {
			t.Fatalf("Parse(%q) = %s: not a decimal", text, a)
		}
		s, ok := new(big.Rat).SetString(a.String())
		if !ok || s.Cmp(r) != 0 {
			t.Fatalf("Parse(%q) = %s", text, a)
		}
		if len(a.String()) > len(text) {
			t.Fatalf("%q got longer: %s", text, a)
		}
	})
}

func BenchmarkCost(b *testing.B) {
	rate, multiplier, perToken := money.New(15, 2), money.New(4, 1), money.New(1, 6)
	sum := money.New(123_456_789, 3)
	b.ReportAllocs()
	for b.Loop() {
		sum = sum.Add(rate.MulInt(123_456).Mul(perToken).Mul(multiplier))
	}
}
