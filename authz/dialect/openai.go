package dialect

import (
	"net/http"

	"tollgate/authz/key"
)

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
