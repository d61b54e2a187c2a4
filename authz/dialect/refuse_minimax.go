package dialect

import (
	"net/http"

	"tollgate/authz/reason"
)

type minimaxBody struct {
	BaseResp minimaxStatus `json:"base_resp"`
}

type minimaxStatus struct {
	StatusCode int    `json:"status_code"`
	StatusMsg  string `json:"status_msg"`
}

// The codes that MiniMax has for such errors.
const (
	minimaxUnknown = 1000 // try again later
	minimaxTimeout = 1001
	minimaxRate    = 1002
	minimaxAuth    = 1004
	minimaxBalance = 1008
	minimaxParams  = 2013
	minimaxUsage   = 2056 // the plan's limit
)

// minimaxRefusal has the service's body. The service itself sends it with the status
// 200, and we send it with the reason's own: whoever looks at the body finds what it
// looks for, and whoever looks at the status first (proxies, monitors, HTTP clients
// that raise errors or try again) is not told that all is well. Only with 429 and
// 503 do clients wait as retry-after says.
func minimaxRefusal(r *Refusal, message string) minimaxBody {
	return minimaxBody{minimaxStatus{minimaxCode(r), message}}
}

func minimaxCode(r *Refusal) int {
	if r.status() == http.StatusGatewayTimeout {
		return minimaxTimeout
	}
	switch r.Reason {
	case reason.KeyMissing, reason.KeyInvalid, reason.WorkspaceSuspended, reason.UserSuspended, reason.ActionDenied, reason.ModelDenied:
		return minimaxAuth
	case reason.RateLimitExceeded, reason.TokenLimitExceeded, reason.ConcurrencyLimitExceeded:
		return minimaxRate
	case reason.BudgetExceeded:
		return minimaxBalance
	case reason.ResourceLimitExceeded:
		return minimaxUsage
	case reason.Unavailable:
		return minimaxUnknown
	}
	return minimaxParams
}
