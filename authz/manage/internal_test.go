package manage

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"tollgate/authz/key"
)

// TestCoversNeverOpensMore: a pattern that is covered opens nothing that the
// covering ones don't.
func TestCoversNeverOpensMore(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "ab", "a/b", "a/b/c", "b/a"})
	pattern := rapid.Custom(func(t *rapid.T) string {
		return segment.Draw(t, "id") + rapid.SampledFrom([]string{"", "/*"}).Draw(t, "tail")
	})
	patterns := rapid.OneOf(pattern, rapid.Just("*"))
	rapid.Check(t, func(t *rapid.T) {
		maker := rapid.SliceOfN(patterns, 1, 3).Draw(t, "maker")
		given := patterns.Draw(t, "given")
		if !validPattern(given) {
			t.Fatalf("%q is no pattern", given)
		}
		model := segment.Draw(t, "model") + rapid.SampledFrom([]string{"", "/x", "/b", "/c/d"}).Draw(t, "rest")
		if covers(maker, given) && key.MatchModel([]string{given}, model) && !key.MatchModel(maker, model) {
			t.Fatalf("%v covers %s, which opens %s", maker, given, model)
		}
		if key.MatchModel(maker, given) && !strings.HasSuffix(given, "*") && !covers(maker, given) {
			t.Fatalf("%v opens %s and does not cover it", maker, given)
		}
	})
}

// FuzzKeyRequest: whatever a body says, it is an error with a message for the
// caller or a record within all bounds; a record that was accepted for a key
// never exceeds that key.
func FuzzKeyRequest(f *testing.F) {
	for _, body := range []string{
		` `, `{}`, `{"name":"x","actions":["infer"],"models":["a/*"],"limits":{"requestsPerMinute":5,"tokensPerMinute":101}}`,
		`{"limits":null,"budget":{"period":"day","amount":"1"},"labels":{"a":null},"expiresAt":"2030-01-01T00:00:00Z"}`,
		`{"models":null,"name":null,"actions":null}`, `{"name":"\ud800"}`, `{"name":"a","name":"b"}`, `{"budget":{"amount":"0.1e5"}}`,
	} {
		f.Add(body)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	end := now.AddDate(1, 0, 0)
	maker := &key.Record{
		Actions: []key.Action{key.Infer, key.Manage}, Models: []string{"a/*"}, ExpiresAt: &end,
		Limits: key.Limits{RequestsPerMinute: 10}, Budget: &key.Budget{Period: "day", Amount: "5"},
	}
	f.Fuzz(func(t *testing.T, body string) {
		var req KeyRequest
		if err := decode([]byte(body), &req); err != nil {
			checkMessage(t, err)
			return
		}
		rec := &key.Record{Actions: []key.Action{key.Infer}}
		inherit(rec, maker)
		plan := key.Limits{TokensPerMinute: 100}
		if err := req.apply(rec, now, plan); err != nil {
			checkMessage(t, err)
			return
		}
		if utf8.RuneCountInString(rec.Name) > maxName || len(rec.Actions) == 0 || rec.Models != nil && len(rec.Models) == 0 ||
			len(rec.Labels) > maxLabels || rec.ExpiresAt != nil && !rec.ExpiresAt.After(now) {
			t.Fatalf("%q made %+v", body, rec)
		}
		if exceeds(rec, maker, plan) != nil {
			return
		}
		if rec.May(key.Wake) || rec.Models == nil || rec.ExpiresAt == nil || rec.ExpiresAt.After(end) ||
			rec.Limits.RequestsPerMinute < 1 || rec.Limits.RequestsPerMinute > 10 || rec.Limits.TokensPerMinute > 100 || rec.Budget == nil || rec.Budget.Period != "day" {
			t.Fatalf("%q got past the maker's bounds: %+v", body, rec)
		}
	})
}

func checkMessage(t *testing.T, err error) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status != 400 || e.Message == "" || len(e.Message) > 1000 || !utf8.ValidString(e.Message) {
		t.Fatalf("refused by %#v", err)
	}
}

func TestIDsSortByTime(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	last := ""
	for i := range 100 {
		id := newID(at.Add(time.Duration(i) * time.Millisecond))
		if !isID(id) || id <= last {
			t.Fatalf("%s after %s", id, last)
		}
		last = id
	}
	for _, bad := range []string{"", strings.ToUpper(last), last + "0", strings.Replace(last, "-", ".", 1), strings.Replace(last, "0", ">", 1)} {
		if isID(bad) {
			t.Errorf("%q passes for an id", bad)
		}
	}
}
