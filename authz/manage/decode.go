package manage

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"tollgate/authz/key"
)

// blanks are what JSON takes for white space.
const blanks = " \t\r\n"

// readBody reads a request's body of at most most bytes. types are the media
// types that it may be, of which the first is meant when none is said; they are
// looked at only when there is a body.
func readBody(w http.ResponseWriter, r *http.Request, most int64, types ...string) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, refuse(http.StatusRequestEntityTooLarge, "The body is larger than %d bytes", most)
		}
		return nil, refuse(http.StatusBadRequest, "The body broke off before its end")
	}
	if len(bytes.Trim(body, blanks)) == 0 {
		return nil, nil
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, refuse(http.StatusUnsupportedMediaType, "Content-Encoding: send the body as it is, without an encoding")
	}
	if got := r.Header.Get("Content-Type"); got != "" {
		media, _, err := mime.ParseMediaType(got)
		ok := false
		for _, t := range types {
			ok = ok || media == t
		}
		if err != nil || !ok {
			return nil, refuse(http.StatusUnsupportedMediaType, "Content-Type: use %s", strings.Join(types, " or "))
		}
	}
	return body, nil
}

// decode reads a JSON object into a pointer to a struct. Members that the
// struct does not have, members that stand twice, wrong types and invalid UTF-8
// are refused, with the field's name. No body is an empty object.
func decode(body []byte, into any) error {
	body = bytes.TrimLeft(body, blanks)
	if len(body) == 0 {
		return nil
	}
	if body[0] != '{' {
		return refuse(http.StatusBadRequest, "The body must be a JSON object")
	}
	err := json.Unmarshal(body, into, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(e.Err, jsontext.ErrDuplicateName) {
			return invalid(field(e.JSONPointer), "stands twice in the body; send it once")
		}
		return refuse(http.StatusBadRequest, "The body is not valid JSON: %v at byte %d", e.Err, e.ByteOffset)
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		name := field(e.JSONPointer)
		if errors.Is(e.Err, json.ErrUnknownName) {
			return invalid(name, "there is no such field here; GET /openapi.json has the list")
		}
		return invalid(name, "must be %s", want(e.GoType))
	}
	return err
}

// field writes a JSON pointer as people write the name of a field.
func field(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		if _, err := strconv.ParseUint(token, 10, 16); err == nil && b.Len() > 0 {
			b.WriteString("[" + token + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(printable(token, 60))
	}
	if b.Len() == 0 {
		return "body"
	}
	return b.String()
}

// printable is a caller's text for a message: at most most bytes of it, without
// anything that a terminal would act on.
func printable(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// want says what a Go type is in JSON.
func want(t reflect.Type) string {
	switch {
	case t == nil:
		return "something else"
	case t == reflect.TypeFor[Time](), t == reflect.TypeFor[time.Time]():
		return "a time of RFC 3339, such as 2030-01-31T12:00:00Z, or null"
	case t == reflect.TypeFor[key.Budget]():
		return `an object such as {"period":"month","amount":"10.00"}`
	case t == reflect.TypeFor[key.Digest]():
		return "a string of 64 hexadecimal digits"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int64, reflect.Int:
		return "a whole number"
	case reflect.Slice:
		return "a list"
	case reflect.Pointer:
		return want(t.Elem())
	default:
		return "an object"
	}
}
