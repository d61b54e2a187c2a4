package dialect

import (
	"net/http"
	"time"

	"tollgate/authz/reason"
)

// longestRetry is the most that clients of Anthropic's are told to wait, whose
// SDKs do so however long it is: their caller would hang. The limits are of 60
// seconds, so that more is rare; who comes back too early is told again.
const longestRetry = time.Minute

type anthropicBody struct {
	Type      string         `json:"type"`
	Error     anthropicError `json:"error"`
	RequestID *string        `json:"request_id"`
}

type anthropicError struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// anthropicRefusal has a used up budget as billing_error, which Anthropic itself
// answers with 402 and not with the 429 that its SDKs try again.
func anthropicRefusal(r Refusal, message string) Response {
	r.RetryAfter = min(r.RetryAfter, longestRetry)
	response := Response{
		Status: r.status(),
		Body:   marshal(anthropicBody{"error", anthropicError{anthropicType(&r), message}, orNull(r.RequestID)}),
	}
	if r.Reason == reason.BudgetExceeded {
		response.Status = http.StatusPaymentRequired
	}
	response.Headers = refusalHeaders(&r)
	if r.RequestID != "" {
		response.Headers = append(response.Headers, Header{"request-id", r.RequestID})
	}
	return response
}

// anthropicType is the type that Anthropic itself gives an error of that status.
func anthropicType(r *Refusal) string {
	if r.Reason == reason.BudgetExceeded {
		return "billing_error"
	}
	switch r.status() {
	case http.StatusBadRequest, http.StatusRequestTimeout:
		return "invalid_request_error"
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	}
	return "api_error"
}
