// Package dialect is how a service speaks: which paths it has, how a key is
// presented, where a request names its model, and how a refusal is written.
//
// A dialect is data (see Dialect); the code here reads any request by any of
// them. It does no I/O and keeps nothing. What it reads must be what the
// upstream reads: where two readers could differ (a member twice, a second
// credential, a body that isn't what its content type says), the request is
// refused.
package dialect

import (
	"time"

	"tollgate/authz/key"
	"tollgate/authz/reason"
)

// Header is one header field as it came: the name in lower case, a repeated
// field once per line.
type Header struct{ Name, Value string }

// Request is all that a decision may know of an HTTP request. Whoever speaks to
// the proxy fills it; strings and Body may alias the caller's buffer and are
// not kept beyond the call.
type Request struct {
	Method string
	Path   string // :path, with the query, as the proxy will forward it
	Host   string
	// Headers has at least every header for which Wanted is true.
	Headers []Header
	// Body is the whole body. It is nil while HeadersOnly.
	Body []byte
	// HeadersOnly marks the first look at a request whose body the proxy has
	// not read yet: route, key and state are checked, nothing is reserved.
	HeadersOnly bool
	// BodyCut says that the proxy did not hand over the body, or not all of it:
	// Body is nil although the request has one. CutAt is how many bytes of it
	// came.
	BodyCut bool
	CutAt   int64
}

// Span is a half-open range of bytes in a body.
type Span struct{ Start, End int }

// Call is what a request asks for, once read.
type Call struct {
	Dialect *Dialect
	Path    *Path
	Action  key.Action
	// Answer is what Tollgate answers by itself; AnswerNone: it goes upstream.
	Answer Answer
	// Model is the id that the request names, "" where the path needs none. It
	// may alias the request.
	Model string
	// ModelAt is where the body names the model: the JSON string with its
	// quotes, or the field's value in a form; or, in Request.Path, the
	// parameter's value in a query; zero elsewhere. See Rename.
	ModelAt Span
	// lengthAt is where a form tells how many bytes the model's name has, see
	// Relength; zero where it doesn't.
	lengthAt Span
	Stream   bool
	// MaxOutput is the most tokens an answer may have, as the request says in
	// the members that Path.MaxOutput names; 0 where it does not. At most
	// MaxOutputTokens.
	MaxOutput int64
	// Choices is how many answers the request wants: the largest of the members
	// that Path.Choices names, times the number of prompts. At least 1, at most
	// MaxChoices.
	Choices int64
	// PromptBytes is how much text the prompt has, as written in the body: what
	// an estimate of its tokens starts from. A token's id in a prompt counts as
	// 4 bytes; images, sound, video and PDF in base64 count as 0 where the API
	// takes them, and in full everywhere else.
	PromptBytes int64
	// UsageOption is where a stream stands that tells its usage only when asked
	// (Path.StreamUsage); zero for all other requests.
	UsageOption UsageOption
	// Mentioned are the objects that the request names by Path.Mentions, each
	// where it stands: one may be there twice. At most MaxMentioned.
	Mentioned []Mentioned
	// Creating is the id that the request gives the object which it makes, where
	// Path.Creates has a Field; "" where it gives none.
	Creating string
}

// What a request can ask for is cut at these, so that their product is far from
// overflow. No limit is as large.
const (
	MaxOutputTokens = 1 << 36
	MaxChoices      = 1 << 20
)

// UsageOption is what a stream says of stream_options.include_usage.
type UsageOption struct {
	Asked bool // true stands there already
	// Edit and Text turn it on where it is not: the bytes at Edit (none where
	// a member is put in) are to be replaced by Text.
	Edit Span
	Text string
}

// Refusal is why a request was turned away, for Dialect.Refuse.
type Refusal struct {
	Reason reason.Reason
	// Detail says what exactly was wrong, in a sentence for the caller, where
	// the reason's own sentence does not. It never repeats a presented key.
	Detail string
	// Param is the request's field at fault, "" where there is none.
	Param string
	// Model is the id that the request named.
	Model string
	// Status is what the client is answered where that is not the reason's own, as an
	// error is that the proxy answers by itself; 0: the reason's.
	Status int
	// RetryAfter is how long to wait; 0 where the reason has no time.
	RetryAfter time.Duration
	// RequestID is the admission's, also told in x-request-id.
	RequestID string
}

// Response is an answer that Tollgate gives by itself.
type Response struct {
	Status  int
	Headers []Header
	Body    []byte
}
