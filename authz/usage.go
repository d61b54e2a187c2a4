package authz

import (
	"time"

	"tollgate/authz/money"
)

// Outcome is how an admitted request ended.
type Outcome string

// The outcomes.
const (
	Completed     Outcome = "completed"
	ClientClosed  Outcome = "client_closed"
	UpstreamError Outcome = "upstream_error"
	NotSent       Outcome = "not_sent"
	Unknown       Outcome = "unknown"
)

// Measurement is how the figures of a usage record came about.
type Measurement string

// The measurements.
const (
	Reported  Measurement = "reported"  // the upstream said so
	Estimated Measurement = "estimated" // from what passed
	None      Measurement = "none"      // nobody came back to tell
)

// Tokens are counts of tokens. Input includes CacheRead and CacheCreation;
// Output includes Reasoning.
type Tokens struct {
	Input, CacheRead, CacheCreation, Output, Reasoning int64
}

// maxTokens is far above what one request can use, and so small that millions of
// requests that were told to have used that much add up to an int64.
const maxTokens = 1 << 42

// bound cuts what an upstream, or a caller's own maximum, says to maxTokens, and parts
// that are more than what they are parts of: what is charged is told, and sums of
// events don't have more cached tokens than tokens.
func (t *Tokens) bound() {
	whole := func(n *int64) int64 {
		*n = min(max(*n, 0), maxTokens)
		return *n
	}
	part := func(n *int64, left int64) int64 {
		*n = min(max(*n, 0), left)
		return left - *n
	}
	part(&t.CacheCreation, part(&t.CacheRead, whole(&t.Input)))
	part(&t.Reasoning, whole(&t.Output))
}

// Quantity is how much of a unit was used.
type Quantity struct {
	Unit  string // as a rate has it: request, second, character, image, video, song
	Milli int64  // thousandths
}

// Observation is what the proxy saw of a request by the time its stream was
// done.
type Observation struct {
	Status    int           // of the answer; 0: none was sent
	Flags     string        // Envoy's response flags, comma separated; "" or "-": none
	Details   string        // Envoy's response code details: a word for who ended the stream, and why; "": not told
	Duration  time.Duration // of the whole stream
	FirstByte time.Duration // to the first byte of the answer; 0: unknown
	Upstream  string        // host that was tried, "" if none
	// Reported says that the upstream stated Tokens (zero is a statement too).
	Reported bool
	// Partly says that it stated Tokens when the answer began, or so far, and that it
	// was not over: what went in is as stated, what came out at least that much.
	Partly bool
	Tokens Tokens
	// Events and Bytes are what passed of the answer's body; Complete says that
	// its end was seen.
	Events, Bytes int64
	Complete      bool
	// Told are the members of the answer that its path names (see
	// dialect.Path.Watched) and that it stated, as text: at most 8, each value of
	// at most 256 bytes.
	Told []Label

	// Untold says that the proxy did not tell how the stream went: Status,
	// Flags, Duration, FirstByte and Upstream are not known.
	Untold bool
	// Unwatched says that nobody looked at the answer's body: Events, Bytes and
	// Complete are not known.
	Unwatched bool
}

// Usage is what became of an admission: the content of its one usage event.
type Usage struct {
	Admission   *Admission
	Outcome     Outcome
	Measurement Measurement
	Status      int
	Tokens      Tokens
	Units       []Quantity // what else it is charged by, see dialect.Unit
	Duration    time.Duration
	FirstByte   time.Duration
	Upstream    string

	// ListCost is what it costs by the rates, Cost what the workspace is billed:
	// ListCost times the admission's multiplier. In USD, exact.
	ListCost, Cost money.Amount
	// EstimatedCost is what Cost would be if what was estimated counted in full,
	// whatever the billing policy makes of it; 0 where nothing was estimated.
	EstimatedCost money.Amount
	// Before is what the admission was charged when it was closed as Unknown, for
	// Ledger.Adjust.
	Before Charge

	// Refused: the answer says that it is an error, whatever its status.
	Refused bool
	// Object is the id of the object that the answer made; "": none.
	Object string
	// Superseded: nobody told what became of this admission (Measurement is
	// None), and its request has another one that was settled. The ledger finds
	// that out when it closes the admission.
	Superseded bool
}
