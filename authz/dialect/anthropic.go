package dialect

// anthropic is Anthropic's Messages API, as far as nothing in it outlives its
// request: files, batches, containers and skills would be shared by all tenants of
// an upstream account.
var anthropic = Dialect{
	Name:       "anthropic",
	KeyHeader:  "x-api-key",
	Style:      Anthropic,
	Root:       "/v1",
	RootHeader: versionHeader,
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

// versionHeader is what Anthropic's clients always send, and nobody else does.
const versionHeader = "anthropic-version"

// versioned is a path that OpenAI's API has too.
func versioned(p Path) Path {
	p.Header = versionHeader
	return p
}
