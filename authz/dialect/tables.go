package dialect

import (
	"net/http"

	"tollgate/authz/key"
)

// dialects are all there are, in the order of their names.
var dialects = []*Dialect{&minds, &openAI, &podstack}

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

// openAI is OpenAI's API, as far as nothing in it outlives its request: files,
// batches and stored responses would be shared by all tenants of an upstream
// account.
var openAI = Dialect{
	Name:  "openai",
	Style: OpenAI,
	Paths: []Path{
		chat("/v1/chat/completions"),
		completions("/v1/completions"),
		responses("/v1/responses"),
		fromJSON("/v1/embeddings"),
		fromForm("/v1/audio/transcriptions"),
		fromForm("/v1/audio/translations"),
		fromJSON("/v1/audio/speech"),
		images("/v1/images/generations"),
		fromJSON("/v1/moderations"),
		realtime("/v1/realtime"),
		listModels("/v1/models"),
		oneModel("/v1/models/{model...}"),
	},
}

// podstack is what OpenAI's SDKs use of it, below another base. Model servers have
// it at OpenAI's.
var podstack = Dialect{
	Name:  "podstack",
	Style: OpenAI,
	Base:  "/inference/v1", UpstreamBase: "/v1",
	Paths: []Path{
		chat("/inference/v1/chat/completions"),
		completions("/inference/v1/completions"),
		fromJSON("/inference/v1/embeddings"),
		fromForm("/inference/v1/audio/transcriptions"),
		listModels("/inference/v1/models"),
		oneModel("/inference/v1/models/{model...}"),
	},
}

func fromJSON(pattern string) Path {
	return Path{Method: http.MethodPost, Pattern: pattern, Action: key.Infer, ModelIn: ModelInJSON, ModelField: "model"}
}

func fromForm(pattern string) Path {
	return Path{Method: http.MethodPost, Pattern: pattern, Action: key.Infer, ModelIn: ModelInForm, ModelField: "model"}
}

func chat(pattern string) Path {
	p := fromJSON(pattern)
	p.StreamUsage = true
	p.MaxOutput = []string{"max_tokens", "max_completion_tokens"}
	p.Choices = []string{"n"}
	return p
}

func completions(pattern string) Path {
	p := fromJSON(pattern)
	p.StreamUsage = true
	p.MaxOutput = []string{"max_tokens"}
	p.Choices = []string{"n", "best_of"}
	p.Prompts = true
	return p
}

func images(pattern string) Path {
	p := fromJSON(pattern)
	p.Choices = []string{"n"}
	return p
}

// responses refuses what refers to an earlier response or a stored prompt, or
// can only be fetched later.
func responses(pattern string) Path {
	p := fromJSON(pattern)
	p.MaxOutput = []string{"max_output_tokens"}
	p.Refused = []string{"previous_response_id", "conversation", "prompt", "background"}
	return p
}

// realtime is a WebSocket with a model that speaks.
func realtime(pattern string) Path {
	return Path{Method: http.MethodGet, Pattern: pattern, Action: key.Infer, ModelIn: ModelInQuery, ModelField: "model", WebSocket: true}
}

func listModels(pattern string) Path {
	return Path{Method: http.MethodGet, Pattern: pattern, Action: key.Infer, Answer: AnswerModels}
}

func oneModel(pattern string) Path {
	return Path{Method: http.MethodGet, Pattern: pattern, Action: key.Infer, Answer: AnswerModel, ModelIn: ModelInPath}
}
