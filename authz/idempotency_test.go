package authz

import (
	"strings"
	"testing"

	"tollgate/authz/dialect"
)

// TestRetriesOfTenantsAreApart: to an upstream that is shown one credential for all, what
// one tenant calls its first request is not what another one calls so. It is the same at
// each retry, however long, and others than these upstreams are told the caller's word.
func TestRetriesOfTenantsAreApart(t *testing.T) {
	a, _ := newAuthorizer(t)
	sent := func(secret, model, name, word string) string {
		t.Helper()
		if !dialect.Wanted(name) {
			t.Fatalf("no Check carries %s", name)
		}
		var d Decision
		a.Check(t.Context(), start, post(secret, chat(model), dialect.Header{Name: name, Value: word}), &d)
		if d.Admission == nil {
			t.Fatalf("refused: %s", d.Response.Body)
		}
		is := ""
		for _, h := range d.SetHeaders {
			if h.Name == name {
				is = h.Value
			}
		}
		return is
	}
	a.Tables().Workspaces["late"].Suspended = false
	for _, m := range a.Tables().Models { // make them all workspaces'
		if m.ID == "swapped" || m.ID == "injected" {
			m.Workspaces = nil
		}
	}
	for _, name := range []string{"idempotency-key", "x-idempotency-key"} {
		for _, model := range []string{"swapped", "injected"} {
			first := sent("other", model, name, "order-1")
			if len(first) != 32 || first != sent("other", model, name, "order-1") {
				t.Errorf("%s, %s: a retry is not told apart as one: %q", model, name, first)
			}
			if first == sent("other", model, name, "order-2") || first == sent("late", model, name, "order-1") {
				t.Errorf("%s, %s: another request has the same word", model, name)
			}
			if long := sent("other", model, name, strings.Repeat("x", 10_000)); len(long) != 32 {
				t.Errorf("%s, %s: a long word becomes %q", model, name, long)
			}
			if got := sent("other", model, name, " "); got != "" {
				t.Errorf("%s, %s: an empty word becomes %q", model, name, got)
			}
		}
		if got := sent("good", "meta-llama/Llama", name, "order-1"); got != "" {
			t.Errorf("%s: without a credential of the operator's it becomes %q", name, got)
		}
	}
	if wordOf(Tenant{"other", ""}, "order-1") == wordOf(Tenant{"other", "second"}, "order-1") {
		t.Error("a workspace gets answers of the one that had its id before")
	}
}
