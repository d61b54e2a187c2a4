package totals

import (
	"errors"
	"math"
	"time"

	"github.com/go-json-experiment/json"

	"tollgate/authz"
	"tollgate/authz/money"
	"tollgate/events"
)

// event is what totals take from a usage event or an adjustment.
type event struct {
	id, source                  string
	workspace, key, user, model string
	at                          time.Time // the start of the admission
	adjusts                     bool
	counts                      Counts
}

var errForeign = errors.New("not a usage event that this version knows")

// stored is the part of an event's JSON form that is counted.
type stored struct {
	ID     string    `json:"id"`
	Source string    `json:"source"`
	Type   string    `json:"type"`
	Time   time.Time `json:"time"`
	Data   struct {
		Adjusts                  string            `json:"adjusts"`
		Workspace                string            `json:"workspace"`
		Key                      string            `json:"key"`
		User                     string            `json:"user"`
		Model                    string            `json:"model"`
		Measurement              authz.Measurement `json:"measurement"`
		InputTokens              int64             `json:"inputTokens"`
		CacheReadInputTokens     int64             `json:"cacheReadInputTokens"`
		CacheCreationInputTokens int64             `json:"cacheCreationInputTokens"`
		OutputTokens             int64             `json:"outputTokens"`
		ReasoningOutputTokens    int64             `json:"reasoningOutputTokens"`
		ListCost                 money.Amount      `json:"listCost"`
		Cost                     money.Amount      `json:"cost"`
	} `json:"data"`
}

// parseEvent reads a stored event's JSON form. Fields that it doesn't know are
// nothing to it.
func parseEvent(payload []byte) (event, error) {
	var s stored
	if err := json.Unmarshal(payload, &s); err != nil {
		return event{}, err
	}
	d := &s.Data
	e := event{
		id: s.ID, source: s.Source, workspace: d.Workspace, key: d.Key, user: d.User, model: d.Model, at: s.Time,
		adjusts: s.Type == events.TypeAdjusted,
		counts: Counts{
			InputTokens: d.InputTokens, OutputTokens: d.OutputTokens,
			CacheReadInputTokens: d.CacheReadInputTokens, CacheCreationInputTokens: d.CacheCreationInputTokens,
			ReasoningOutputTokens: d.ReasoningOutputTokens,
			ListCost:              d.ListCost, Cost: d.Cost,
		},
	}
	known := e.adjusts || s.Type == events.TypeUsage
	// Who is let in without a valid key, where a route only observes, has none.
	if !known || e.id == "" || e.workspace == "" || minuteOf(s.Time) == 0 {
		return event{}, errForeign
	}
	c := &e.counts
	estimated := d.Measurement == authz.Estimated
	if estimated {
		c.EstimatedInputTokens, c.EstimatedOutputTokens = c.InputTokens, c.OutputTokens
	}
	switch late := e.adjusts && events.IsLate(s.ID, d.Adjusts); {
	case !e.adjusts:
		c.Requests = 1
		c.UnmeasuredRequests = one(d.Measurement == authz.None)
		c.EstimatedRequests = one(estimated)
	case late: // of a request that nobody had told of
		c.UnmeasuredRequests = -1
		c.EstimatedRequests = one(estimated)
	}
	return e, nil
}

func one(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// minuteOf is the number of a time's minute since 1970; 0: it is out of bounds,
// which go to the year 10000.
func minuteOf(t time.Time) uint32 {
	m := t.Unix() / 60
	if m <= 0 || m > math.MaxUint32-perDay {
		return 0
	}
	return uint32(m)
}
