package dialect

import (
	"net/http"

	"tollgate/authz/key"
)

// dialects are all there are, in the order of their names. Each has a file.
var dialects = []*Dialect{&anthropic, &azure, &baseten, &cohere, &minds, &minibase, &minimax, &openAI, &podstack}

func fromJSON(pattern string) Path {
	return Path{Method: http.MethodPost, Pattern: pattern, Action: key.Infer, ModelIn: ModelInJSON, ModelField: "model"}
}

func fromForm(pattern string) Path {
	return Path{Method: http.MethodPost, Pattern: pattern, Action: key.Infer, ModelIn: ModelInForm, ModelField: "model"}
}

func fromURLForm(pattern, model string) Path {
	return Path{Method: http.MethodPost, Pattern: pattern, Action: key.Infer, ModelIn: ModelInURLForm, ModelField: model}
}

// eachRequest is what counts where answers tell nothing.
var eachRequest = []Unit{{Name: "request", From: EachRequest}, {Name: "second", From: OfDuration}}

func listModels(pattern string) Path {
	return Path{Method: http.MethodGet, Pattern: pattern, Action: key.Infer, Answer: AnswerModels}
}

func oneModel(pattern string) Path {
	return Path{Method: http.MethodGet, Pattern: pattern, Action: key.Infer, Answer: AnswerModel, ModelIn: ModelInPath}
}
