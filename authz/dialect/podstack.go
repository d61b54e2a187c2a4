package dialect

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
		transcriptions("/inference/v1/audio/transcriptions"),
		listModels("/inference/v1/models"),
		oneModel("/inference/v1/models/{model...}"),
	},
}
