package totals

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tollgate/authz"
	"tollgate/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// noon is when the tests' requests begin, about.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// usage makes a usage event with 10 and 5 tokens.
func usage(id, workspace, key, model string, at time.Time) *events.Event {
	return &events.Event{
		SpecVersion: events.SpecVersion, ID: id, Source: events.Source("test"), Type: events.TypeUsage, Subject: workspace,
		Time: at, DataContentType: "application/json", DataSchema: events.SchemaID,
		Data: events.UsageData{
			RequestID: id, Workspace: workspace, Key: key, Model: model, Dialect: "openai", Outcome: authz.Completed,
			Measurement: authz.Reported, Status: 200, InputTokens: 10, OutputTokens: 5, Start: at,
		},
	}
}

// unknown makes it one that nobody told of.
func unknown(e *events.Event) *events.Event {
	e.Data.Outcome, e.Data.Measurement = authz.Unknown, authz.None
	e.Data.InputTokens, e.Data.OutputTokens = 0, 0
	return e
}

// late makes the adjustment that tells what became of an unknown one.
func late(of *events.Event, m authz.Measurement) *events.Event {
	e := *of
	e.Type, e.ID, e.Data.Adjusts = events.TypeAdjusted, of.ID+".late", of.ID
	e.Data.Outcome, e.Data.Measurement = authz.Completed, m
	e.Data.InputTokens, e.Data.OutputTokens = 7, 3
	return &e
}

// parsed is an event as it is read from the stream.
func parsed(t testing.TB, e *events.Event) *event {
	t.Helper()
	p, err := parseEvent(e.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

func answer(t testing.TB, s *state, q Query) []Row {
	t.Helper()
	a, err := s.Totals(q)
	if err != nil {
		t.Fatal(err)
	}
	return a.Rows
}

// trim is Trim where nobody else looks.
func (s *state) trim(now time.Time) { s.Trim(now, func() {}, func() {}) }
