package events

import (
	_ "embed" // for Schema
	"strings"
	"time"
	"unicode/utf8"

	"tollgate/authz"
	"tollgate/authz/money"
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

// UsageData is what an event says. A string that is "", a map that is empty, the
// zero ratesFrom, superseded where it is false, and those amounts that say so are
// left out of the JSON form; numbers and the other amounts never are. Amounts are
// strings in JSON: exact decimals, never rounded.
type UsageData struct {
	RequestID string `json:"requestId"`
	// Adjusts is the id of the usage event that an adjustment corrects. Its
	// tokens, units, ListCost and Cost are added to that event's, and may be
	// negative; the rest of it is what is known now.
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
	// Units are what the request is charged by beside tokens: request, second,
	// character, image, video, song.
	Units map[string]money.Amount `json:"units,omitempty"`

	// ListCost is the sum of tokens and units, each times its rate; Cost is
	// ListCost times Multiplier.
	ListCost money.Amount `json:"listCost"`
	Cost     money.Amount `json:"cost"`
	// EstimatedCost is what Cost would be if all that was estimated counted in
	// full, whatever the operator's billing policy makes of it. Left out where it
	// is 0, as where nothing was estimated.
	EstimatedCost money.Amount `json:"estimatedCost,omitzero"`
	Currency      string       `json:"currency"` // "USD"
	// Multiplier of the list price, the workspace's or its plan's at the admission.
	Multiplier money.Amount `json:"multiplier"`
	// Rates are the model's list prices at the admission, by unit: for a million
	// tokens, else for one of the unit. RatesVersion is the revision of the catalog
	// that they are from, RatesFrom the time from which they hold, where it says.
	Rates        map[string]money.Amount `json:"rates,omitempty"`
	RatesVersion uint64                  `json:"ratesVersion"`
	RatesFrom    time.Time               `json:"ratesFrom,omitzero"`
	// AdjustedListCost and AdjustedCost are, of an adjustment, the ListCost and Cost
	// of the event that it corrects; left out where they are 0.
	AdjustedListCost money.Amount `json:"adjustedListCost,omitzero"`
	AdjustedCost     money.Amount `json:"adjustedCost,omitzero"`

	Start time.Time `json:"start"` // the event's Time
	// DurationMs is from the first byte of the request to the last of the
	// answer, FirstByteMs to the answer's first byte (0: unknown); milliseconds,
	// rounded up.
	DurationMs  int64 `json:"durationMs"`
	FirstByteMs int64 `json:"firstByteMs"`

	Upstream    string `json:"upstream,omitempty"` // the host that was tried
	TraceParent string `json:"traceparent,omitempty"`

	// Created and Removed are objects in the upstream's account that the request
	// made and removed, Resource the counted resource of the plan that it could
	// change; nil: none.
	Created  *ObjectData   `json:"created,omitempty"`
	Removed  *ObjectData   `json:"removed,omitempty"`
	Resource *ResourceData `json:"resource,omitempty"`
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
	e := Event{
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
			Units:                    unitMap(u.Units),
			ListCost:                 u.ListCost,
			Cost:                     u.Cost,
			EstimatedCost:            u.EstimatedCost,
			Currency:                 authz.Currency,
			Multiplier:               a.Multiplier,
			Rates:                    rateMap(a.Rates),
			RatesVersion:             a.RatesVersion,
			RatesFrom:                a.RatesFrom,
			Start:                    start,
			DurationMs:               milliseconds(u.Duration),
			FirstByteMs:              milliseconds(u.FirstByte),
			Upstream:                 u.Upstream,
			TraceParent:              a.TraceParent,
		},
	}
	e.Data.addEffects(u)
	return e
}

// observed is "" for a request that presented a valid key.
func observed(a *authz.Admission) string {
	if a.Observed == reason.None {
		return ""
	}
	return a.Observed.String()
}

// Adjustment makes the event that corrects the one of an admission which was
// closed as Unknown: u is what became of it, u.Before what that event charged. It
// has no tokens and no units, so the differences are u's. The id follows from the
// admission's, so that an adjustment which was made twice is recognised like an
// event that is delivered twice.
func Adjustment(source string, u *authz.Usage) Event {
	return adjusting(FromUsage(source, u), u.Before)
}

// adjusting makes the adjustment of what would have been the usage event, where
// that is there already with this charge.
func adjusting(e Event, before authz.Charge) Event {
	e.Type, e.Data.Adjusts = TypeAdjusted, e.ID
	e.ID += lateSuffix
	e.Data.rebase(before)
	return e
}

// rebase makes the amounts of an adjustment, or of a usage event that becomes one,
// differences from what the event that it corrects charged.
func (d *UsageData) rebase(before authz.Charge) {
	d.ListCost = d.ListCost.Add(d.AdjustedListCost).Sub(before.List)
	d.Cost = d.Cost.Add(d.AdjustedCost).Sub(before.Cost)
	d.AdjustedListCost, d.AdjustedCost = before.List, before.Cost
}

// Charge is what the event costs.
func (d *UsageData) Charge() authz.Charge { return authz.Charge{List: d.ListCost, Cost: d.Cost} }

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

func unitMap(units []authz.Quantity) map[string]money.Amount {
	if len(units) == 0 {
		return nil
	}
	m := make(map[string]money.Amount, len(units))
	for _, q := range units {
		m[q.Unit] = m[q.Unit].Add(money.New(q.Milli, 3))
	}
	return m
}

func rateMap(rates []authz.Rate) map[string]money.Amount {
	if len(rates) == 0 {
		return nil
	}
	m := make(map[string]money.Amount, len(rates))
	for _, r := range rates {
		m[r.Unit] = r.Price
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
