package dialect

import (
	"net/http"
	"slices"
	"time"

	"tollgate/authz/key"
)

// minds is how callers of Minds manage their own keys, and the minds and flows of
// which a plan allows a number. The service's documents call the first minds, its
// API also sparks: they are the same, and count as one. None of them is a model:
// requests go to the upstream of the route.
var minds = Dialect{
	Name:  "minds",
	Style: Minds,
	Root:  "/api/v1",
	Paths: slices.Concat(
		[]Path{
			managed(http.MethodGet, "/api/v1/auth/me"),
			managed(http.MethodGet, "/api/v1/api-keys"),
			managed(http.MethodPost, "/api/v1/api-keys"),
			managed(http.MethodDelete, "/api/v1/api-keys/{id}"),
		},
		counted("/api/v1/minds", "completion", Object{Kind: "mind", Member: "id", Else: "data.id", Keep: mindKept}, "minds"),
		counted("/api/v1/sparks", "completion", Object{Kind: "mind", Member: "data.id", Else: "id", Keep: mindKept}, "minds"),
		counted("/api/v1/flows", "run", Object{Kind: "flow", Member: "id", Else: "data.id", Keep: mindKept}, "flows"),
	),
}

// mindKept is for how long it is known whose a mind or a flow is: they live until
// somebody deletes them.
const mindKept = 10 * 365 * 24 * time.Hour

func managed(method, pattern string) Path {
	return Path{Method: method, Pattern: pattern, Answer: AnswerManaged}
}

// counted are the paths of a collection of which a plan allows a number. Whoever may
// infer may look and run; to change what there is takes the action manage. Answers
// tell no tokens: what counts is how many there are, and how often they run.
func counted(collection, run string, object Object, resource string) []Path {
	path := func(method, pattern string, action key.Action) Path {
		return Path{Method: method, Pattern: pattern, Action: action, Free: true}
	}
	one := func(method, rest string, action key.Action) Path {
		p := path(method, collection+"/{id}"+rest, action)
		p.Mentions = []Mention{{Kind: object.Kind, In: ModelInPath}}
		return p
	}
	create := path(http.MethodPost, collection, key.Manage)
	create.Creates, create.Counts = &object, &Resource{Name: resource, Delta: 1}
	runs := one(http.MethodPost, "/"+run, key.Infer)
	runs.Units = eachRequest
	remove := one(http.MethodDelete, "", key.Manage)
	remove.Counts = &Resource{Name: resource, Delta: -1}
	return []Path{
		path(http.MethodGet, collection, key.Infer),
		create,
		one(http.MethodGet, "", key.Infer),
		one(http.MethodPut, "", key.Manage),
		one(http.MethodPatch, "", key.Manage),
		remove,
		runs,
	}
}
