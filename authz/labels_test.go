package authz

import (
	"fmt"
	"testing"

	"tollgate/authz/key"
)

// TestNearestLabelWins: of a label that several have, the user's replaces the
// workspace's, and the key's both.
func TestNearestLabelWins(t *testing.T) {
	a, _ := newAuthorizer(t)
	a.Keys.(keyring).add("labelled", key.Record{Kind: key.Personal, User: "ann", Labels: map[string]string{"team": "mine", "own": "x"}})
	for secret, want := range map[string]string{
		"good2":    "[{team search} {tier gold}]",
		"good":     "[{team mine} {tier gold}]",
		"ann":      "[{team ranking} {tier gold}]",
		"labelled": "[{own x} {team mine} {tier gold}]",
	} {
		var d Decision
		a.Check(t.Context(), start, post(secret, chat("meta-llama/Llama")), &d)
		if d.Admission == nil {
			t.Fatalf("%s is refused: %v", secret, d.Reason)
		}
		if got := fmt.Sprint(d.Admission.Labels); got != want {
			t.Errorf("%s: %s, want %s", secret, got, want)
		}
	}
}
