package catalog

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestPeriods(t *testing.T) {
	east := time.FixedZone("east", 5*60*60)
	for _, c := range []struct {
		period          Period
		now, begin, end string // "": zero
	}{
		{Day, "2026-11-21T23:59:59.999Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"},
		{Day, "2026-12-31T00:00:00Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"},
		{Month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		{Month, "2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{Total, "2026-12-01T00:00:00Z", "", ""},
	} {
		now := parseTime(t, c.now)
		for _, now := range []time.Time{now, now.In(east)} { // periods are of UTC, wherever one is
			if begin, end := c.period.Begin(now), c.period.End(now); !begin.Equal(parseTime(t, c.begin)) || !end.Equal(parseTime(t, c.end)) {
				t.Errorf("the %s of %v is from %v to %v", c.period, now, begin, end)
			}
		}
	}
}

func parseTime(t *testing.T, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestCompileCredit: amounts are exact, also such as were added up.
func TestCompileCredit(t *testing.T) {
	b, err := os.ReadFile("testdata/stored.v1-credit.json")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := Compile(mustParse(t, string(b)), Source{})
	if err != nil {
		t.Fatal(err)
	}
	w := tables.Workspaces["acme"]
	if got := w.Credit.Granted.String() + " " + w.Credit.Before.String(); got != "25.25 3.000000000000000000001" {
		t.Errorf("granted and before: %s", got)
	}
	if b := w.Plan.Budget; b.Period != Month || b.Amount.String() != "10" {
		t.Errorf("the plan's budget: %+v", b)
	}
	for credit, says := range map[string]string{
		`{granted: "-1"}`:                         "credit.granted: want the sum of amounts",
		`{granted: "1e3"}`:                        "credit.granted: want the sum of amounts",
		`{}`:                                      "credit.granted: is missing",
		`{granted: "1", before: "-1"}`:            "credit.before: want the sum of amounts",
		`{granted: "1", grants: ["a b"]}`:         "credit.grants[0]: the id of a grant",
		`{granted: "1", grants: [a, b, c, d, e]}`: "credit.grants: 5 are too many",
	} {
		_, err := Parse("c", []byte("plans: [{id: p}]\nworkspaces: [{id: w, plan: p, credit: "+credit+"}]"))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %s", credit, err, says)
		}
	}
}
