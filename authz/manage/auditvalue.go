package manage

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// auditValues are the JSON of what was changed, within bounds: where it was there
// before and still is, the members that differ.
func auditValues(before, after any) (was, is jsontext.Value) {
	was, is = auditValue(before), auditValue(after)
	var x, y map[string]jsontext.Value
	if was == nil || is == nil || json.Unmarshal(was, &x) != nil || json.Unmarshal(is, &y) != nil {
		return bounded(was), bounded(is)
	}
	for name, value := range x {
		if same, ok := y[name]; ok && bytes.Equal(value, same) {
			delete(x, name)
			delete(y, name)
		}
	}
	return bounded(auditValue(x)), bounded(auditValue(y))
}

// auditValue is the JSON of a value, the same for equal ones; nil for nil.
func auditValue(v any) jsontext.Value {
	if v == nil {
		return nil
	}
	text, err := json.Marshal(v, json.Deterministic(true), json.FormatNilSliceAsNull(true)) // as writeOutput does
	if err != nil {
		return jsontext.Value("{}") // it was answered, so it can be written
	}
	return text
}

func bounded(v jsontext.Value) jsontext.Value {
	if len(v) > maxAuditValue {
		return omitted(v)
	}
	return v
}

// omitted says of a value only how large it is.
func omitted(v jsontext.Value) jsontext.Value {
	const less = 64 // there is nothing to gain
	if len(v) <= less {
		return v
	}
	return jsontext.Value(`{"omittedBytes":` + strconv.Itoa(len(v)) + `}`)
}

// shortened is an entry without what was changed.
func (e *AuditEntry) shortened() *AuditEntry {
	short := *e
	short.Before, short.After = omitted(e.Before), omitted(e.After)
	return &short
}

// size is how many bytes an entry takes in the stream, about.
func (e *AuditEntry) size() int {
	const around = 500 // the event's other members, subject and headers
	return around + len(e.Before) + len(e.After) + len(e.Target.ID)
}
