package dialect

// anthropic is Anthropic's Messages API, as far as nothing in it outlives its
// request: files, batches, containers and skills would be shared by all tenants of
// an upstream account.
var anthropic = Dialect{
	Name:  "anthropic",
	Style: Anthropic,
	Paths: []Path{
		messages("/v1/messages"),
		countTokens("/v1/messages/count_tokens"),
		versioned(listModels("/v1/models")),
		versioned(oneModel("/v1/models/{model...}")),
	},
}

func messages(pattern string) Path {
	p := fromJSON(pattern)
	p.MaxOutput = []string{"max_tokens"}
	p.Refused = []string{"container"}
	p.Blocks = true
	return p
}

// countTokens computes nothing: it counts as a request and has no tokens.
func countTokens(pattern string) Path {
	p := fromJSON(pattern)
	p.Refused = []string{"container"}
	p.Blocks, p.Free = true, true
	return p
}

// versioned is a path that OpenAI's API has too: Anthropic's clients always send
// this header, and nobody else does.
func versioned(p Path) Path {
	p.Header = "anthropic-version"
	return p
}
