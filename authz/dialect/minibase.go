package dialect

// minibase is one script that takes forms, as PHP reads them. Everything that the
// script can do is behind the same path, so only the action that runs a model passes.
// Its answers tell no usage: requests and seconds count, and tokens are estimated.
var minibase = Dialect{
	Name:  "minibase",
	Style: Minibase,
	Root:  "/api.php",
	Paths: []Path{inference("/api.php")},
}

func inference(pattern string) Path {
	p := fromURLForm(pattern, "model_id")
	p.Must = []Must{{
		Field: "action", Values: []string{"mt_inference"},
		Else: "Invalid action. Send action=mt_inference in the form.",
	}}
	p.MaxOutput = []string{"max_tokens"}
	p.Units = eachRequest
	return p
}
