package dialect

import "tollgate/authz/reason"

type openAIBody struct {
	Error openAIError `json:"error"`
}

type openAIError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func openAIRefusal(r *Refusal, message string) openAIBody {
	return openAIBody{openAIError{message, openAIType(r.Reason), orNull(r.Param), orNull(r.Reason.Code())}}
}

// openAIType is the type that OpenAI itself gives such an error.
func openAIType(r reason.Reason) string {
	switch r {
	case reason.RateLimitExceeded, reason.ConcurrencyLimitExceeded:
		return "requests"
	case reason.TokenLimitExceeded:
		return "tokens"
	case reason.BudgetExceeded:
		return "insufficient_quota"
	case reason.Unavailable:
		return "server_error"
	}
	return "invalid_request_error"
}
