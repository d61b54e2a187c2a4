package dialect

// cohere is the second version of Cohere's API, as an example of what it takes to add
// a service: docs/dialects.md goes through it. What is stored (datasets, jobs,
// connectors, fine-tuned models) is not here.
var cohere = Dialect{
	Name:  "cohere",
	Style: Cohere,
	Paths: []Path{
		cohereChat("/v2/chat"),
		cohereEmbed("/v2/embed"),
		cohereRerank("/v2/rerank"),
	},
}

// cohereChat states its usage in the answer or, of a stream, in its last event, by
// what is billed: without the tokens that the service adds to a prompt by itself.
func cohereChat(pattern string) Path {
	p := fromJSON(pattern)
	p.MaxOutput = []string{"max_tokens"}
	p.Stated = &Stated{
		Input:  []string{"usage.billed_units.input_tokens", "delta.usage.billed_units.input_tokens"},
		Output: []string{"usage.billed_units.output_tokens", "delta.usage.billed_units.output_tokens"},
	}
	return p
}

func cohereEmbed(pattern string) Path {
	p := fromJSON(pattern)
	p.Stated = &Stated{Input: []string{"meta.billed_units.input_tokens"}}
	p.Units = []Unit{{Name: "image", From: InAnswer, Member: "meta.billed_units.images"}}
	return p
}

// cohereRerank is billed by searches, of up to a hundred documents each.
func cohereRerank(pattern string) Path {
	p := fromJSON(pattern)
	p.Units = []Unit{{Name: "request", From: InAnswer, Member: "meta.billed_units.search_units"}}
	p.Free = true
	return p
}
