package dialect

import (
	"net/http"

	"tollgate/authz/key"
)

// baseten calls models that anybody may have written: what a request and its answer
// hold is known to the model alone, and isn't read. Requests and seconds count.
var baseten = Dialect{
	Name:      "baseten",
	KeyScheme: "Api-Key",
	Style:     Baseten,
	Root:      "/models",
	Paths: []Path{
		predict("/models/{model}/predict"),
		wake("/models/{model}/wake"),
		managed(http.MethodGet, "/metrics"),
	},
}

func predict(pattern string) Path {
	return Path{Method: http.MethodPost, Pattern: pattern, Action: key.Infer, ModelIn: ModelInPath, Units: eachRequest, Free: true}
}

// wake starts a model that was scaled to nothing. Nothing is inferred.
func wake(pattern string) Path {
	return Path{Method: http.MethodPost, Pattern: pattern, Action: key.Wake, ModelIn: ModelInPath, Free: true}
}
