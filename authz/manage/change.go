package manage

import (
	"fmt"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Change is what a request says of one field: nothing (the zero value), that it
// be removed (null), or a new value.
type Change[T any] struct {
	Said bool
	To   *T // nil: remove
}

// To makes a Change to v.
func To[T any](v T) Change[T] { return Change[T]{true, &v} }

// Remove makes a Change that removes the field.
func Remove[T any]() Change[T] { return Change[T]{Said: true} }

// IsZero reports whether the request says nothing of the field. It makes
// omitzero leave it out.
func (c Change[T]) IsZero() bool { return !c.Said }

// MarshalJSONTo writes the new value, or null.
func (c Change[T]) MarshalJSONTo(enc *jsontext.Encoder) error { return json.MarshalEncode(enc, c.To) }

// UnmarshalJSONFrom reads what stands there; it is not called for a field that
// doesn't.
func (c *Change[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	c.Said, c.To = true, nil
	if dec.PeekKind() == 'n' {
		return dec.SkipValue()
	}
	c.To = new(T)
	return json.UnmarshalDecode(dec, c.To)
}

// Schema is T's, or null.
func (Change[T]) Schema(r huma.Registry) *huma.Schema {
	s := r.Schema(reflect.TypeFor[T](), true, "")
	if s.Ref != "" {
		return &huma.Schema{OneOf: []*huma.Schema{s, {Type: "null"}}}
	}
	nullable := *s
	nullable.Nullable = true
	return &nullable
}

// Time is a time as the API writes it: RFC 3339 in UTC with milliseconds.
type Time time.Time

const timeFormat = "2006-01-02T15:04:05.000Z"

// MarshalText writes the time in the API's form.
func (t Time) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, timeFormat), nil
}

// UnmarshalText reads any time of RFC 3339, to the millisecond.
func (t *Time) UnmarshalText(text []byte) error {
	got, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("not a time of RFC 3339: %w", err)
	}
	*t = Time(got.UTC().Truncate(time.Millisecond))
	return nil
}

// Schema is a date-time.
func (Time) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
}
