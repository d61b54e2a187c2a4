package events

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"tollgate/authz/money"
)

// AppendJSON appends the event's JSON form to dst, in the order of its fields,
// maps sorted by name. The same event always has the same bytes. Bytes in a
// string that are not UTF-8 become U+FFFD.
func (e *Event) AppendJSON(dst []byte) []byte {
	w := writer{append(dst, '{')}
	w.text("specversion", e.SpecVersion)
	w.text("id", e.ID)
	w.text("source", e.Source)
	w.text("type", e.Type)
	w.text("subject", e.Subject)
	w.time("time", e.Time)
	w.text("datacontenttype", e.DataContentType)
	w.text("dataschema", e.DataSchema)
	w.name("data")
	w.b = append(w.b, '{')
	e.Data.write(&w)
	return append(w.b, '}', '}')
}

func (d *UsageData) write(w *writer) {
	w.text("requestId", d.RequestID)
	w.optional("adjusts", d.Adjusts)
	w.optional("clientRequestId", d.ClientRequestID)
	w.text("workspace", d.Workspace)
	w.text("key", d.Key)
	w.optional("user", d.User)
	w.optional("externalId", d.ExternalID)
	w.texts("labels", d.Labels)
	w.texts("tags", d.Tags)
	w.optional("model", d.Model)
	w.text("dialect", d.Dialect)
	w.optional("observed", d.Observed)
	w.text("outcome", string(d.Outcome))
	w.text("measurement", string(d.Measurement))
	if d.Superseded {
		w.bool("superseded", true)
	}
	w.number("status", int64(d.Status))
	w.bool("stream", d.Stream)
	w.number("inputTokens", d.InputTokens)
	w.number("cacheReadInputTokens", d.CacheReadInputTokens)
	w.number("cacheCreationInputTokens", d.CacheCreationInputTokens)
	w.number("outputTokens", d.OutputTokens)
	w.number("reasoningOutputTokens", d.ReasoningOutputTokens)
	w.amounts("units", d.Units)
	d.writeMoney(w)
	w.time("start", d.Start)
	w.number("durationMs", d.DurationMs)
	w.number("firstByteMs", d.FirstByteMs)
	w.optional("upstream", d.Upstream)
	w.optional("traceparent", d.TraceParent)
	d.writeEffects(w)
}

func (d *UsageData) writeMoney(w *writer) {
	w.amount("listCost", d.ListCost)
	w.amount("cost", d.Cost)
	w.optionalAmount("estimatedCost", d.EstimatedCost)
	w.text("currency", d.Currency)
	w.amount("multiplier", d.Multiplier)
	w.amounts("rates", d.Rates)
	w.name("ratesVersion")
	w.b = strconv.AppendUint(w.b, d.RatesVersion, 10)
	if !d.RatesFrom.IsZero() {
		w.time("ratesFrom", d.RatesFrom)
	}
	w.optionalAmount("adjustedListCost", d.AdjustedListCost)
	w.optionalAmount("adjustedCost", d.AdjustedCost)
}

// writer appends the members of a JSON object.
type writer struct{ b []byte }

func (w *writer) name(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.quote(name)
	w.b = append(w.b, ':')
}

func (w *writer) quote(s string) {
	// It fails on nothing but invalid UTF-8.
	w.b, _ = jsontext.AppendQuote(w.b, strings.ToValidUTF8(s, "\uFFFD"))
}

func (w *writer) text(name, value string) {
	w.name(name)
	w.quote(value)
}

func (w *writer) optional(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

func (w *writer) texts(name string, values map[string]string) { members(w, name, values, w.text) }

func (w *writer) amount(name string, a money.Amount) {
	w.name(name)
	w.b = append(a.Append(append(w.b, '"')), '"')
}

func (w *writer) optionalAmount(name string, a money.Amount) {
	if !a.IsZero() {
		w.amount(name, a)
	}
}

func (w *writer) amounts(name string, values map[string]money.Amount) {
	members(w, name, values, w.amount)
}

// members appends an object, unless it is empty, with its members in order.
func members[T any](w *writer, name string, values map[string]T, member func(name string, value T)) {
	if len(values) == 0 {
		return
	}
	w.name(name)
	w.b = append(w.b, '{')
	for _, k := range slices.Sorted(maps.Keys(values)) {
		member(k, values[k])
	}
	w.b = append(w.b, '}')
}

func (w *writer) bool(name string, value bool) {
	w.name(name)
	w.b = strconv.AppendBool(w.b, value)
}

func (w *writer) number(name string, value int64) {
	w.name(name)
	w.b = strconv.AppendInt(w.b, value, 10)
}

func (w *writer) time(name string, t time.Time) {
	w.name(name)
	w.b = t.UTC().AppendFormat(w.b, `"2006-01-02T15:04:05.000000Z"`)
}
