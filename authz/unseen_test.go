package authz

import (
	"testing"
	"time"
)

// What nobody saw is estimated. It never becomes "not sent", and never nothing.
func TestMeasureUnseen(t *testing.T) {
	a := &Admission{ID: "a", Model: "m", InputEstimate: 10, OutputEstimate: 100}
	said := Tokens{Input: 7, Output: 3}
	reserved := Tokens{Input: 10, Output: 100}
	for name, c := range map[string]struct {
		seen        Observation
		outcome     Outcome
		measurement Measurement
		tokens      Tokens
	}{
		"nothing":                            {Observation{Untold: true, Unwatched: true}, Unknown, Estimated, reserved},
		"nothing, by a tap that is there":    {Observation{Untold: true}, Unknown, Estimated, reserved},
		"only what the upstream stated":      {Observation{Untold: true, Reported: true, Tokens: said}, Completed, Reported, said},
		"only an answer to its end":          {Observation{Untold: true, Complete: true, Bytes: 80}, Completed, Estimated, Tokens{Input: 10, Output: 20}},
		"only a part of a stream":            {Observation{Untold: true, Events: 4, Bytes: 80}, Unknown, Estimated, Tokens{Input: 10, Output: 4}},
		"no body watched":                    {Observation{Unwatched: true, Status: 200, Upstream: "u:1"}, Completed, Estimated, reserved},
		"no body watched, and hung up":       {Observation{Unwatched: true, Status: 200, Flags: "DC", Upstream: "u:1"}, ClientClosed, Estimated, reserved},
		"no body watched, and broken off":    {Observation{Unwatched: true, Status: 200, Flags: "UC", Upstream: "u:1"}, UpstreamError, Estimated, reserved},
		"no body watched, of no answer":      {Observation{Unwatched: true, Flags: "DC", Upstream: "u:1"}, ClientClosed, Estimated, Tokens{Input: 10}},
		"no body watched, of an error":       {Observation{Unwatched: true, Status: 500, Upstream: "u:1"}, UpstreamError, Estimated, Tokens{}},
		"no body watched, and not sent":      {Observation{Unwatched: true, Status: 503, Flags: "UF", Upstream: "u:1"}, NotSent, Estimated, Tokens{}},
		"no body watched, and no host":       {Observation{Unwatched: true, Status: 503, Flags: "UH"}, NotSent, Estimated, Tokens{}},
		"no body watched, but usage is told": {Observation{Unwatched: true, Status: 200, Upstream: "u:1", Reported: true, Tokens: said}, Completed, Reported, said},
	} {
		u := Measure(a, c.seen, new(Estimator))
		if u.Outcome != c.outcome || u.Measurement != c.measurement || u.Tokens != c.tokens {
			t.Errorf("%s: %s, %s, %+v; want %s, %s, %+v", name, u.Outcome, u.Measurement, u.Tokens, c.outcome, c.measurement, c.tokens)
		}
	}
}

// A WebSocket is accounted by time, whoever ends it.
func TestMeasureWebSocket(t *testing.T) {
	a := &Admission{ID: "a", Model: "m"}
	for _, o := range []Observation{
		{Flags: "DC", Details: "downstream_remote_disconnect"},
		{Flags: "UC", Details: "upstream_reset_after_response_started{connection_termination}"},
		{Flags: "", Details: "max_duration_timeout"},
		{Unwatched: true},
	} {
		o.Status, o.Upstream, o.Duration, o.Bytes = 101, "u:1", time.Minute, 1<<20
		if u := Measure(a, o, new(Estimator)); u.Outcome != Completed || u.Measurement != Estimated || u.Tokens != (Tokens{}) || u.Duration != time.Minute || u.Status != 101 {
			t.Errorf("%+v: %+v", o, u)
		}
	}
}
