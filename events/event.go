package events

import (
	_ "embed" // for Schema
	"strings"
	"time"
	"unicode/utf8"

	"tollgate/authz"
	"tollgate/authz/reason"
)

// What is the same in every usage event.
const (
	SpecVersion = "1.0"
	// TypeUsage is the type of an event that says what became of an admission.
	TypeUsage = "tollgate.usage.v1"
	// TypeAdjusted is the type of an event that corrects one of TypeUsage.
	TypeAdjusted = "tollgate.usage.adjusted.v1"
	// SchemaID is an event's dataschema: the $id of Schema.
	SchemaID = "urn:tollgate:schema:usage:v1"
	// ContentType is what a stored event's Content-Type header says: the
	// structured JSON form of CloudEvents.
	ContentType = "application/cloudevents+json"
)

// Schema is the JSON Schema of both types of events. Fields are only ever added.
//
//go:embed usage.schema.json
var Schema []byte

// Event is a CloudEvent 1.0 in its structured JSON form. Each admission has
// exactly one of TypeUsage. Where the truth about it came later there is one of
// TypeAdjusted too, whose figures are differences: what was used is the sum of
// both. Events may be delivered more than once; Source and ID together tell one
// from another.
type Event struct {
	SpecVersion string `json:"specversion"` // "1.0"
	// ID is the admission's, the same as Data.RequestID; of an adjustment one of
	// its own.
	ID string `json:"id"`
	// Source is the deployment, the same on all its replicas: //NAME/tollgate.
	Source string `json:"source"`
	Type   string `json:"type"` // TypeUsage or TypeAdjusted
	// Subject is who is billed: the workspace's externalId, or its id.
	Subject string `json:"subject"`
	// Time is the start of the admission, which decides the period that it
	// belongs to; UTC, in microseconds.
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"` // "application/json"
	DataSchema      string    `json:"dataschema"`      // SchemaID
	Data            UsageData `json:"data"`
}

// UsageData is what an event says. A string that is "", a map that is empty and
// superseded where it is false are left out of the JSON form; numbers never are.
type UsageData struct {
	RequestID string `json:"requestId"`
	// Adjusts is the id of the usage event that an adjustment corrects. Its
	// tokens are added to that event's, and may be negative; the rest of it is
	// what is known now.
	Adjusts         string `json:"adjusts,omitempty"`
	ClientRequestID string `json:"clientRequestId,omitempty"` // the caller's own x-request-id
	Workspace       string `json:"workspace"`
	Key             string `json:"key"`            // the key's id; "" where Observed says why there is none
	User            string `json:"user,omitempty"` // whom a personal key belongs to
	ExternalID      string `json:"externalId,omitempty"`
	// Labels are those of workspace, user and key at the admission.
	Labels map[string]string `json:"labels,omitempty"`
	// Tags are headers of the caller that the operator chose to record.
	Tags    map[string]string `json:"tags,omitempty"`
	Model   string            `json:"model,omitempty"`
	Dialect string            `json:"dialect"`
	// Observed is why the request would have been refused, had its route not been
	// in observe mode.
	Observed string `json:"observed,omitempty"`

	Outcome authz.Outcome `json:"outcome"`
	// Measurement says how the tokens came about: where it is none, they are
	// zero because nobody knows.
	Measurement authz.Measurement `json:"measurement"`
	// Superseded: nobody told of this admission, and its request has another one
	// that was settled, so nothing is missing.
	Superseded bool `json:"superseded,omitempty"`
	Status     int  `json:"status"` // of the answer; 0: none was sent
	Stream     bool `json:"stream"`

	// InputTokens include CacheReadInputTokens and CacheCreationInputTokens,
	// OutputTokens include ReasoningOutputTokens.
	InputTokens              int64 `json:"inputTokens"`
	CacheReadInputTokens     int64 `json:"cacheReadInputTokens"`
	CacheCreationInputTokens int64 `json:"cacheCreationInputTokens"`
	OutputTokens             int64 `json:"outputTokens"`
	ReasoningOutputTokens    int64 `json:"reasoningOutputTokens"`

	Start time.Time `json:"start"` // the event's Time
	// DurationMs is from the first byte of the request to the last of the
	// answer, FirstByteMs to the answer's first byte (0: unknown); milliseconds,
	// rounded up.
	DurationMs  int64 `json:"durationMs"`
	FirstByteMs int64 `json:"firstByteMs"`

	Upstream    string `json:"upstream,omitempty"` // the host that was tried
	TraceParent string `json:"traceparent,omitempty"`
}

// Source is the source of a deployment's events. name is [a-z0-9-]{1,63}.
func Source(name string) string { return "//" + name + "/tollgate" }

// FromUsage makes the event of an admission's usage. source is Source's. The
// event shares nothing with u.
func FromUsage(source string, u *authz.Usage) Event {
	a := u.Admission
	subject := a.ExternalID
	if subject == "" {
		subject = a.Workspace
	}
	start := a.Start.UTC().Truncate(time.Microsecond)
	return Event{
		SpecVersion:     SpecVersion,
		ID:              a.ID,
		Source:          source,
		Type:            TypeUsage,
		Subject:         subject,
		Time:            start,
		DataContentType: "application/json",
		DataSchema:      SchemaID,
		Data: UsageData{
			RequestID:                a.ID,
			ClientRequestID:          a.ClientRequestID,
			Workspace:                a.Workspace,
			Key:                      a.Key,
			User:                     a.User,
			ExternalID:               a.ExternalID,
			Labels:                   labelMap(a.Labels),
			Tags:                     labelMap(a.Tags),
			Model:                    a.Model,
			Dialect:                  a.Dialect,
			Observed:                 observed(a),
			Outcome:                  u.Outcome,
			Measurement:              u.Measurement,
			Superseded:               u.Superseded,
			Status:                   u.Status,
			Stream:                   a.Stream,
			InputTokens:              u.Tokens.Input,
			CacheReadInputTokens:     u.Tokens.CacheRead,
			CacheCreationInputTokens: u.Tokens.CacheCreation,
			OutputTokens:             u.Tokens.Output,
			ReasoningOutputTokens:    u.Tokens.Reasoning,
			Start:                    start,
			DurationMs:               milliseconds(u.Duration),
			FirstByteMs:              milliseconds(u.FirstByte),
			Upstream:                 u.Upstream,
			TraceParent:              a.TraceParent,
		},
	}
}

// observed is "" for a request that presented a valid key.
func observed(a *authz.Admission) string {
	if a.Observed == reason.None {
		return ""
	}
	return a.Observed.String()
}

// Adjustment makes the event that corrects the one of an admission which was
// closed as Unknown: u is what became of it. That event has no tokens, so the
// differences are u's. The id follows from the admission's, so that an adjustment
// which was made twice is recognised like an event that is delivered twice.
func Adjustment(source string, u *authz.Usage) Event { return adjusting(FromUsage(source, u)) }

// adjusting makes the adjustment of what would have been the usage event.
func adjusting(e Event) Event {
	e.Type, e.Data.Adjusts = TypeAdjusted, e.ID
	e.ID += lateSuffix
	return e
}

// lateSuffix tells the adjustment by a late settlement, of which an admission has
// one at most, from other corrections.
const lateSuffix = ".late"

// IsLate reports whether an adjustment's id is that of Adjustment for the event
// that it adjusts: then that one was Unknown.
func IsLate(id, adjusts string) bool { return adjusts != "" && id == adjusts+lateSuffix }

// labelMap makes a map of labels; of a name that is there twice the last counts.
func labelMap(labels []authz.Label) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	m := make(map[string]string, len(labels))
	for _, l := range labels {
		m[l.Name] = l.Value
	}
	return m
}

// milliseconds rounds up, so that only a known or unknown nothing is 0.
func milliseconds(d time.Duration) int64 {
	return int64((max(d, 0) + time.Millisecond - 1) / time.Millisecond)
}

// MsgID is what NATS and consumers tell events apart by: source and id.
func MsgID(source, id string) string { return source + id }

// maxSlug bounds a token of a subject in bytes. Slugs are lossy anyway.
const maxSlug = 128

// Subject is the NATS subject of a usage event:
// tollgate.usage.v1.<workspace>.<key id>.<model slug>. Whatever is not a letter,
// digit, _ or - of ASCII becomes _, and so does an empty part: filter on the data
// where it matters.
func Subject(workspace, key, model string) string { return subject(TypeUsage, workspace, key, model) }

// AdjustedSubject is Subject of an adjustment, which begins with
// tollgate.usage.adjusted.v1.
func AdjustedSubject(workspace, key, model string) string {
	return subject(TypeAdjusted, workspace, key, model)
}

func subject(eventType, workspace, key, model string) string {
	b := make([]byte, 0, len(eventType)+len(workspace)+len(key)+len(model)+6)
	b = append(b, eventType...)
	for _, part := range [...]string{workspace, key, model} {
		b = appendSlug(append(b, '.'), part)
	}
	return string(b)
}

func appendSlug(b []byte, s string) []byte {
	if s == "" {
		return append(b, '_')
	}
	n := 0
	for _, r := range s {
		if n++; n > maxSlug {
			break
		}
		if r >= utf8.RuneSelf || !strings.ContainsRune(slugAlphabet, r) {
			r = '_'
		}
		b = append(b, byte(r))
	}
	return b
}

const slugAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
