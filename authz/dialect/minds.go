package dialect

import "net/http"

// minds is how callers of Minds manage their own keys.
var minds = Dialect{
	Name:  "minds",
	Style: Minds,
	Root:  "/api/v1",
	Paths: []Path{
		managed(http.MethodGet, "/api/v1/auth/me"),
		managed(http.MethodGet, "/api/v1/api-keys"),
		managed(http.MethodPost, "/api/v1/api-keys"),
		managed(http.MethodDelete, "/api/v1/api-keys/{id}"),
	},
}

func managed(method, pattern string) Path {
	return Path{Method: method, Pattern: pattern, Answer: AnswerManaged}
}
