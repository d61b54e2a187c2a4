package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"tollgate/authz/catalog"
)

// firstRequests are lines for a shell, one for each dialect that somebody new may
// begin with: GATEWAY, KEY and MODEL stand for what they are.
var firstRequests = map[string]string{
	"openai":    `curl http://GATEWAY/v1/chat/completions -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' -d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hello!"}]}'`,
	"podstack":  `curl http://GATEWAY/inference/v1/chat/completions -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' -d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hello!"}]}'`,
	"anthropic": `curl http://GATEWAY/v1/messages -H 'x-api-key: KEY' -H 'anthropic-version: 2023-06-01' -H 'Content-Type: application/json' -d '{"model": "MODEL", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello!"}]}'`,
	"minibase":  `curl http://GATEWAY/api.php -H 'Authorization: Bearer KEY' --data-urlencode action=mt_inference --data-urlencode model_id=MODEL --data-urlencode prompt=Hello`,
	"baseten":   `curl http://GATEWAY/models/MODEL/predict -H 'Authorization: Api-Key KEY' -d 'Hello'`,
	"minimax":   `curl http://GATEWAY/v1/text/chatcompletion_v2 -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' -d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hello!"}]}'`,
	"minds":     `curl http://GATEWAY/api/v1/api-keys -H 'Authorization: Bearer KEY'`,
}

// chatModels are words in the names of models that answer a chat.
var chatModels = []string{"llama", "chat", "claude", "gpt"}

// demoWorkspace is where a key to try things with belongs: the first that isn't
// suspended, of those that a catalog file brought if there is one, so that a key is
// made where the last was, whatever workspaces commands have made since. "": none.
func demoWorkspace(t *catalog.Tables) string {
	ids := slices.Sorted(maps.Keys(t.Workspaces))
	if len(ids) == 0 {
		return ""
	}
	unfit := func(id string) int {
		ws, n := t.Workspaces[id], 0
		if ws.Suspended {
			n = 2
		}
		if slices.Contains(ws.Spec.Managed, catalog.Everything) {
			n++
		}
		return n
	}
	return slices.MinFunc(ids, func(a, b string) int { return cmp.Compare(unfit(a), unfit(b)) })
}

// firstRequest is a line to try with a key of the workspace, of the catalog's first
// route that has one; "" where there is none, or no model to name in it.
func firstRequest(t *catalog.Tables, workspace, gateway, key string) string {
	model := firstModel(t, workspace)
	for i := range t.Routes {
		line := firstRequests[t.Routes[i].Dialect.Name]
		if line == "" || model == "" && strings.Contains(line, "MODEL") {
			continue
		}
		return strings.NewReplacer("GATEWAY", gateway, "KEY", key, "MODEL", model).Replace(line)
	}
	return ""
}

// firstModel is a deployed model of the workspace, one for chats if there is one.
func firstModel(t *catalog.Tables, workspace string) (model string) {
	for _, m := range t.ModelsFor(workspace) {
		if !m.Deployed {
			continue
		}
		for _, word := range chatModels {
			if strings.Contains(strings.ToLower(m.ID), word) {
				return m.ID
			}
		}
		if model == "" {
			model = m.ID
		}
	}
	return model
}
