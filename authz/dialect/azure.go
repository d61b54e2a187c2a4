package dialect

import "slices"

// azure is OpenAI's API as Azure has it, for upstreams that are Azure's: below
// /openai with the model, there called a deployment, in the path, and below
// /openai/v1 as at OpenAI. What is stored is refused there too.
var azure = Dialect{
	Name:      "azure",
	KeyHeader: "api-key",
	Style:     OpenAI,
	Root:      "/openai",
	Paths: slices.Concat(openAIPaths("/openai/v1"), []Path{
		ownData(deployed(chat, "chat/completions")),
		deployed(completions, "completions"),
		deployed(fromJSON, "embeddings"),
		deployed(transcriptions, "audio/transcriptions"),
		deployed(transcriptions, "audio/translations"),
		deployed(speech, "audio/speech"),
		deployed(images, "images/generations"),
		deployed(imageForm, "images/edits"),
		responses("/openai/responses"),
		deploymentQuery(realtime("/openai/realtime")),
		listModels("/openai/models"),
		oneModel("/openai/models/{model...}"),
	}),
}

// deployed is a path that names the model, which the body may name as well.
func deployed(as func(pattern string) Path, operation string) Path {
	p := as("/openai/deployments/{model...}/" + operation)
	p.ModelIn, p.Body = ModelInPath, p.ModelIn
	return p
}

// ownData refuses what lets the model read in indexes, to which it may go as the
// upstream's own account: tenants would read each other's.
func ownData(p Path) Path {
	p.Refused = append(p.Refused, "data_sources", "datasources")
	return p
}

func deploymentQuery(p Path) Path {
	p.ModelField = "deployment"
	return p
}
