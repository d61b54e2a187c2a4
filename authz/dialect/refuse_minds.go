package dialect

import "net/http"

// mindsUnauthorized is the message of every 401 in the Minds style, word for
// word what that service's clients compare.
const mindsUnauthorized = "Invalid or missing API key"

type mindsBody struct {
	StatusCode    int    `json:"statusCode"`
	StatusMessage string `json:"statusMessage"`
	Message       string `json:"message"`
}

func mindsRefusal(status int, message string) mindsBody {
	if status == http.StatusUnauthorized {
		message = mindsUnauthorized
	}
	return mindsBody{status, http.StatusText(status), message}
}
