package dialect

import "tollgate/authz/reason"

// minibaseBody is what a script in PHP answers: a text that people print, and a code
// for programs, which is the reason's name.
type minibaseBody struct {
	Success bool          `json:"success"` // false
	Error   string        `json:"error"`
	Code    reason.Reason `json:"code"`
}

// minibaseRefusal names the field at fault in front of what is wrong with it: the
// service's documents tell people to look for model_id.
func minibaseRefusal(r *Refusal, message string) minibaseBody {
	switch r.Reason {
	case reason.ModelMissing, reason.ModelAmbiguous, reason.ModelUnknown, reason.ModelNotDeployed, reason.ModelDenied:
		message = orElse(r.Param, "model_id") + ": " + message
	}
	return minibaseBody{Error: message, Code: r.Reason}
}
