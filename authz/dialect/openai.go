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
	Paths: openAIPaths("/v1"),
}

// openAIPaths are the API's paths below a base.
func openAIPaths(base string) []Path {
	return []Path{
		chat(base + "/chat/completions"),
		completions(base + "/completions"),
		responses(base + "/responses"),
		fromJSON(base + "/embeddings"),
		transcriptions(base + "/audio/transcriptions"),
		transcriptions(base + "/audio/translations"),
		speech(base + "/audio/speech"),
		images(base + "/images/generations"),
		imageForm(base + "/images/edits"),
		imageForm(base + "/images/variations"),
		fromJSON(base + "/moderations"),
		realtime(base + "/realtime"),
		listModels(base + "/models"),
		oneModel(base + "/models/{model...}"),
	}
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
	p.Units = []Unit{{Name: "image", From: EachChoice}}
	return p
}

// imageForm is a path that takes images in a form.
func imageForm(pattern string) Path {
	p := fromForm(pattern)
	p.Choices = []string{"n"}
	p.Units = []Unit{{Name: "image", From: EachChoice}}
	return p
}

// speech is charged by what is to be said, which no answer tells.
func speech(pattern string) Path {
	p := fromJSON(pattern)
	p.Units = []Unit{{Name: "character", From: InRequest}}
	return p
}

// transcriptions are charged by the sound's seconds, where the answer states them.
func transcriptions(pattern string) Path {
	p := fromForm(pattern)
	p.Units = []Unit{{Name: "second", From: InAnswer, Member: "usage.seconds"}}
	return p
}

// responses refuses what refers to an earlier response, its items or a stored prompt,
// or can only be fetched later.
func responses(pattern string) Path {
	p := fromJSON(pattern)
	p.MaxOutput = []string{"max_output_tokens"}
	p.Refused = []string{"previous_response_id", "conversation", "prompt", "background"}
	p.Items = true
	return p
}

// realtime is a WebSocket with a model that speaks. It is charged by its time, for
// nobody looks at what passes.
func realtime(pattern string) Path {
	return Path{
		Method: http.MethodGet, Pattern: pattern, Action: key.Infer, ModelIn: ModelInQuery, ModelField: "model", WebSocket: true,
		Units: []Unit{{Name: "second", From: OfDuration}},
	}
}
