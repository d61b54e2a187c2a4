package limit

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/authz/money"
)

func usd(text string) money.Amount {
	a, err := money.Parse(text)
	if err != nil {
		panic(err)
	}
	return a
}

// TestSpendAgainstList compares a Spend with the list of what is in it, over any
// mix of additions and removals.
func TestSpendAgainstList(t *testing.T) {
	type request struct {
		at   time.Time
		cost money.Amount
	}
	base := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		var s Spend
		var list []request
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if n := len(list); n > 0 && rapid.Bool().Draw(t, "remove") {
				i := rapid.IntRange(0, n-1).Draw(t, "which")
				s.Remove(list[i].at, list[i].cost)
				list[i] = list[n-1]
				list = list[:n-1]
			} else {
				r := request{
					base.Add(time.Duration(rapid.IntRange(-72, 72).Draw(t, "hours")) * time.Hour),
					money.New(rapid.Int64Range(0, 1_000_000).Draw(t, "coef"), rapid.IntRange(0, 9).Draw(t, "scale")),
				}
				s.Add(r.at, r.cost)
				list = append(list, r)
			}
			from := base.AddDate(0, 0, rapid.IntRange(-4, 4).Draw(t, "from"))
			var since, ever money.Amount
			for _, r := range list {
				ever = ever.Add(r.cost)
				if !r.at.Before(from) {
					since = since.Add(r.cost)
				}
			}
			if got := s.Since(from); got.Cmp(since) != 0 {
				t.Fatalf("since %v: %v, want %v", from, got, since)
			}
			if got := s.Since(time.Time{}); got.Cmp(ever) != 0 {
				t.Fatalf("ever: %v, want %v", got, ever)
			}
			if s.Empty() != (len(list) == 0) {
				t.Fatalf("Empty is %v with %d requests in it", s.Empty(), len(list))
			}
		}
	})
}

// TestSpendOdd: what is not there can't be taken out, and days before 1970 are days.
func TestSpendOdd(t *testing.T) {
	var s Spend
	s.Remove(start, usd("1"))
	if !s.Empty() || !s.Since(time.Time{}).IsZero() {
		t.Error("removing from nothing left something")
	}
	old := time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC)
	s.Add(old, usd("1"))
	if got := s.Since(time.Unix(0, 0)); !got.IsZero() {
		t.Errorf("the last second of 1969 counts as 1970: %v", got)
	}
	s.Remove(start, usd("1"))
	if s.Empty() {
		t.Error("another day's request was taken out")
	}
}

func TestAffords(t *testing.T) {
	for _, c := range []struct {
		amount, used, estimate string
		want                   bool
	}{
		{"10", "9.99", "0.01", true},
		{"10", "9.99", "0.010000000000000000000000000001", false},
		{"10", "10", "0.000001", false},
		{"10", "11", "0.000001", false},
		{"0", "0", "0.000001", false},
		{"10", "9.99", "0", true}, // nobody knows what it will cost
		{"10", "10", "0", false},
		{"0", "0", "0", false},
		{"10", "-5", "14", true}, // corrections may go below 0
	} {
		if got := Affords(usd(c.amount), usd(c.used), usd(c.estimate)); got != c.want {
			t.Errorf("%s of %s used, %s more: %v", c.used, c.amount, c.estimate, got)
		}
	}
}
