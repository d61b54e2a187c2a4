package manage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"

	"tollgate/authz/key"
	"tollgate/authz/reason"
)

// Error is a refusal of the management API: what the server writes and what the
// Client returns.
type Error struct {
	Status        int    `json:"statusCode"`
	StatusMessage string `json:"statusMessage"` // the status in words
	Message       string `json:"message"`       // what is wrong, and what to do
	ID            string `json:"id,omitzero"`   // of a conflict: what is there already

	location string // the same as a path; "": none
	// why is the gate's word for it, on a gateway; None: the one for the status.
	why reason.Reason
}

// Error is the message, which stands for itself.
func (e *Error) Error() string { return e.Message }

// errUnauthorized is the answer to a missing and to an invalid key, which are
// not told apart.
var errUnauthorized = refuse(http.StatusUnauthorized, "Invalid or missing API key")

// errNoKey is the answer for a key that isn't there and for one that is
// somebody else's.
var errNoKey = refuse(http.StatusNotFound, "There is no such API key")

// errNoSecret is the answer for a secret that a key never had and for one that is
// dead already.
var errNoSecret = refuse(http.StatusNotFound, "The key has no such secret, or it is dead already")

var errNoEndpoint = refuse(http.StatusNotFound, "There is no such endpoint; GET /openapi.json lists them all")

// errMethod is the answer to a method that a path doesn't have.
var errMethod = refuse(http.StatusMethodNotAllowed, "This path takes other methods: the header Allow has them")

// errNotHere is errNoEndpoint of a gateway, which has no /openapi.json.
var errNotHere = refuse(http.StatusNotFound, "There is no such endpoint here, or it takes another method")

func refuse(status int, format string, args ...any) *Error {
	return &Error{Status: status, StatusMessage: http.StatusText(status), Message: fmt.Sprintf(format, args...)}
}

// because is refuse with the gate's word for it.
func because(why reason.Reason, message string) *Error {
	e := refuse(why.Status(), "%s", message)
	e.why = why
	return e
}

// invalid says what is wrong with a field of the request.
func invalid(field, format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, "%s: %s", field, fmt.Sprintf(format, args...))
}

// errorFor is the one place where errors become answers. An error that it does
// not know is answered by 500, without its text.
func errorFor(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, key.ErrNotFound):
		return errNoKey
	case errors.Is(err, key.ErrNoSecret):
		return errNoSecret
	case errors.Is(err, key.ErrLastSecret):
		return refuse(http.StatusConflict, "Nothing else opens this key: rotate it first, or revoke the key")
	case errors.Is(err, key.ErrConflict):
		return refuse(http.StatusConflict, "Somebody else changed this at the same time; look at it and try again")
	case errors.Is(err, key.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return refuse(http.StatusServiceUnavailable,
			"The store can't be asked at the moment. A change may or may not have been made; try again")
	case errors.Is(err, context.Canceled):
		return refuse(http.StatusServiceUnavailable, "The request was given up")
	}
	return refuse(http.StatusInternalServerError,
		"Something went wrong inside Tollgate; its log has the reason under this answer's x-request-id")
}

// recognisable is how many characters of a secret make a text a part of it.
const recognisable = 16

// hiding is e or, where the message would repeat the presented secret (which
// somebody put where a name belongs), one that doesn't.
func (e *Error) hiding(secret string) *Error {
	if len(secret) > recognisable {
		secret = secret[:recognisable]
	}
	if secret == "" || !strings.Contains(e.Message, secret) {
		return e
	}
	return refuse(e.Status, "The request has the presented key where it does not belong; send it in the Authorization header only")
}

// writeError sends e in its one form, without a newline at the end, or as the dialect
// has refusals whose path this is.
func writeError(w http.ResponseWriter, e *Error) {
	if known, ok := w.(*answer); ok && known.speaks != nil {
		writeRefusal(w, known.speaks, e)
		return
	}
	body, err := json.Marshal(e)
	if err != nil { // a message that isn't UTF-8
		body, _ = json.Marshal(refuse(e.Status, "%s", http.StatusText(e.Status)))
	}
	h := w.Header()
	switch e.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
	if e.location != "" {
		h.Set("Location", e.location)
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) //nolint:gosec // G705: JSON that is sent as such, with nosniff. Nobody is left to tell of an error
}
