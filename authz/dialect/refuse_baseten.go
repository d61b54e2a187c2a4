package dialect

import (
	"strings"

	"tollgate/authz/reason"
)

// basetenBody has an object where the service itself has a text. Its own client only
// looks whether there is an error, but OpenAI's, by which many such models are
// called, take nothing but an object for one.
type basetenBody struct {
	Error basetenError `json:"error"`
}

type basetenError struct {
	Message string        `json:"message"`
	Code    reason.Reason `json:"code"` // by its name
}

// basetenRefusal tells by which scheme the service has its keys.
func basetenRefusal(r *Refusal, message string) Response {
	message = strings.ReplaceAll(message, "Authorization: Bearer KEY", "Authorization: Api-Key KEY")
	headers := refusalHeaders(r)
	for i := range headers {
		if headers[i].Name == "www-authenticate" {
			headers[i].Value = "Api-Key"
		}
	}
	return Response{Status: r.status(), Headers: headers, Body: marshal(basetenBody{basetenError{message, r.Reason}})}
}
