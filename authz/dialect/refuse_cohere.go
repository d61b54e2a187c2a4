package dialect

type cohereBody struct {
	ID      string `json:"id,omitempty"`
	Message string `json:"message"`
}

func cohereRefusal(r *Refusal, message string) cohereBody { return cohereBody{r.RequestID, message} }
