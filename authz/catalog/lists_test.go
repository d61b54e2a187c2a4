package catalog

import (
	"strings"
	"testing"
)

// One credential for all workspaces, and a list of what is in its account.
func TestListsOfASharedAccount(t *testing.T) {
	const models = "models: [{id: a, upstreams: [{url: 'https://u'}], credential: {from: env:UPSTREAM_KEY}}, {id: b, upstreams: [{url: 'https://u'}]}]\nroutes: "
	t.Setenv("UPSTREAM_KEY", "secret")
	for routes, refused := range map[string]bool{
		"[{dialect: openai}, {dialect: minds, model: a}]":   true,
		"[{dialect: openai}, {dialect: minds, model: b}]":   false,
		"[{dialect: openai}, {dialect: minimax, model: a}]": false, // which has no lists
		"[{dialect: minds, upstream: 'https://u'}]":         false,
	} {
		_, err := Parse("c", []byte(models+routes))
		if refused != (err != nil) || refused && !strings.Contains(err.Error(), `routes[1].model: "a" has a credential, with which GET /api/v1/minds would answer every caller with what all workspaces have`) {
			t.Errorf("%s: %v", routes, err)
		}
	}
}
