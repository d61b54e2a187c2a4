// Package reason is the closed list of why Tollgate refuses a request.
//
// A Reason is the one word that a refusal has everywhere: the label in metrics,
// the answer of explain, the log line, the observed reason of a route in observe
// mode. Package dialect turns it into the body that a client's SDK understands.
package reason

import "net/http"

// A Reason says why a request was refused. The zero value, None, means that it
// was not refused.
type Reason uint8

// The reasons, in the order in which a check can find them.
const (
	None Reason = iota

	RouteUnknown

	KeyMissing
	KeyAmbiguous
	KeyInvalid // unknown, revoked, expired and garbage are not told apart

	WorkspaceSuspended
	UserSuspended
	ActionDenied

	RequestTooLarge
	BodyInvalid
	ModelMissing
	ModelAmbiguous
	ModelUnknown
	ModelNotDeployed
	ModelDenied

	ConcurrencyLimitExceeded
	RateLimitExceeded
	TokenRequestTooLarge
	TokenLimitExceeded
	BudgetExceeded
	ResourceLimitExceeded

	Unavailable // Tollgate can't tell

	count
)

// All lists every reason but None, in the order of their declaration.
func All() []Reason {
	all := make([]Reason, 0, count-1)
	for r := None + 1; r < count; r++ {
		all = append(all, r)
	}
	return all
}

// table holds what belongs to a reason whatever the dialect.
var table = [count]struct {
	name   string
	status int
	code   string // the OpenAI error code; empty: none
}{
	None:                     {"none", http.StatusOK, ""},
	RouteUnknown:             {"route_unknown", http.StatusNotFound, ""},
	KeyMissing:               {"key_missing", http.StatusUnauthorized, "invalid_api_key"},
	KeyAmbiguous:             {"key_ambiguous", http.StatusBadRequest, "invalid_request"},
	KeyInvalid:               {"key_invalid", http.StatusUnauthorized, "invalid_api_key"},
	WorkspaceSuspended:       {"workspace_suspended", http.StatusForbidden, "workspace_suspended"},
	UserSuspended:            {"user_suspended", http.StatusForbidden, "user_suspended"},
	ActionDenied:             {"action_denied", http.StatusForbidden, "action_denied"},
	RequestTooLarge:          {"request_too_large", http.StatusRequestEntityTooLarge, "request_too_large"},
	BodyInvalid:              {"body_invalid", http.StatusBadRequest, "invalid_request"},
	ModelMissing:             {"model_missing", http.StatusBadRequest, "invalid_request"},
	ModelAmbiguous:           {"model_ambiguous", http.StatusBadRequest, "invalid_request"},
	ModelUnknown:             {"model_unknown", http.StatusNotFound, "model_not_found"},
	ModelNotDeployed:         {"model_not_deployed", http.StatusNotFound, "model_not_deployed"},
	ModelDenied:              {"model_denied", http.StatusForbidden, "model_not_found"},
	ConcurrencyLimitExceeded: {"concurrency_limit_exceeded", http.StatusTooManyRequests, "rate_limit_exceeded"},
	RateLimitExceeded:        {"rate_limit_exceeded", http.StatusTooManyRequests, "rate_limit_exceeded"},
	TokenRequestTooLarge:     {"token_request_too_large", http.StatusBadRequest, "token_request_too_large"},
	TokenLimitExceeded:       {"token_limit_exceeded", http.StatusTooManyRequests, "rate_limit_exceeded"},
	BudgetExceeded:           {"budget_exceeded", http.StatusTooManyRequests, "insufficient_quota"},
	ResourceLimitExceeded:    {"resource_limit_exceeded", http.StatusForbidden, "resource_limit_exceeded"},
	Unavailable:              {"unavailable", http.StatusServiceUnavailable, ""},
}

// String is the reason's name in metrics, logs and explain.
func (r Reason) String() string {
	if r >= count {
		return "invalid"
	}
	return table[r].name
}

// Status is the HTTP status of a refusal for this reason, where the dialect has
// no other way of saying it.
func (r Reason) Status() int {
	if r >= count {
		return http.StatusServiceUnavailable
	}
	return table[r].status
}

// Code is the OpenAI error code, or "" where the OpenAI body's code is null.
func (r Reason) Code() string {
	if r >= count {
		return ""
	}
	return table[r].code
}

// MarshalText makes a Reason its name in JSON.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
