package authz

import (
	"tollgate/authz/dialect"
	"tollgate/authz/reason"
)

// Decision is the answer to one check. Exactly one of these holds:
//
//   - Response is not nil: the request ends here, refused for Reason or, where
//     Reason is None, answered by Tollgate itself (a list of models).
//   - Admission is not nil: the request goes upstream.
//   - neither: a headers-only look found nothing wrong; the proxy goes on and
//     asks again with the body. Nothing was reserved, no header changes.
type Decision struct {
	Reason    reason.Reason
	Response  *dialect.Response
	Admission *Admission

	// Observed is why the request would have been refused, had its route not been
	// in observe mode: KeyMissing or KeyInvalid. None otherwise. It does not
	// exclude a refusal for another Reason.
	Observed reason.Reason

	// The rest is for an admission.

	// Token is the admission in its sealed form, which the proxy hands back at
	// settlement.
	Token string
	// Cluster is the Envoy cluster to route to, "" where the mesh routes on the
	// model header.
	Cluster string
	// Unsettled says that the proxy will not hand the token back: whoever asked
	// settles the admission as soon as the request goes on, with nothing seen.
	Unsettled bool
	// Path replaces the request's path and query, "" where they stay.
	Path string
	// SetHeaders overwrite the request's headers, RemoveHeaders go from it.
	SetHeaders    []dialect.Header
	RemoveHeaders []string
	// ResponseHeaders go onto the answer, overwriting the upstream's.
	ResponseHeaders []dialect.Header
	// Edits are replacements in the body, in order, not overlapping.
	Edits []Edit
	// Strip asks that the usage chunk which an edit made the upstream send is
	// taken out of the stream again.
	Strip bool
	// Watch are the members of the answer that the settlement is to be told of: see
	// dialect.Path.Watched. It is not changed.
	Watch []string

	// ForLabels: the dialect's name and whether this was a headers-only look,
	// for metrics and logs.
	Dialect     string
	HeadersOnly bool
}

// Edit replaces the bytes of a request body at Span by Text.
type Edit struct {
	Span dialect.Span
	Text string
}
