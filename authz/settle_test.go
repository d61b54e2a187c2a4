package authz

import (
	"errors"
	"testing"
	"time"

	"tollgate/authz/limit"
	"tollgate/authz/reason"
)

func TestMeasure(t *testing.T) {
	a := &Admission{ID: "a", Model: "m", InputEstimate: 10, OutputEstimate: 100}
	said := Tokens{Input: 7, Output: 3, CacheRead: 2}
	for _, c := range []struct {
		name string
		seen Observation
		want Usage
	}{
		{"answered", Observation{Status: 200, Flags: "-", Reported: true, Tokens: said},
			Usage{Outcome: Completed, Measurement: Reported, Tokens: said, Status: 200}},
		{"a known zero stays zero", Observation{Status: 200, Reported: true, Bytes: 400, Complete: true},
			Usage{Outcome: Completed, Measurement: Reported, Status: 200}},
		{"a stream without usage", Observation{Status: 200, Events: 12, Complete: true},
			Usage{Outcome: Completed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 12}, Status: 200}},
		{"an answer without usage", Observation{Status: 200, Bytes: 80, Complete: true},
			Usage{Outcome: Completed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 20}, Status: 200}},
		{"never more than was reserved", Observation{Status: 200, Bytes: 1 << 30, Complete: true},
			Usage{Outcome: Completed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 100}, Status: 200}},
		{"hung up in the middle", Observation{Status: 200, Flags: "DC", Events: 4},
			Usage{Outcome: ClientClosed, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 4}, Status: 200}},
		{"hung up before the answer", Observation{Flags: "DC"},
			Usage{Outcome: ClientClosed, Measurement: Estimated, Tokens: Tokens{Input: 10}}},
		{"upstream down", Observation{Status: 503, Flags: "UF,URX", Upstream: "u:1", Complete: true, Bytes: 91},
			Usage{Outcome: NotSent, Measurement: Estimated, Status: 503}},
		{"upstream was chosen and is down", Observation{Status: 503, Flags: "UF", Upstream: "u:1"},
			Usage{Outcome: NotSent, Measurement: Estimated, Status: 503}},
		{"hung up before an upstream was chosen", Observation{Flags: "DC"},
			Usage{Outcome: NotSent, Measurement: Estimated}},
		{"taken back", Observation{}, Usage{Outcome: NotSent, Measurement: Estimated}},
		{"no healthy host", Observation{Status: 503, Flags: "UH"},
			Usage{Outcome: NotSent, Measurement: Estimated, Status: 503}},
		{"upstream says 500", Observation{Status: 500, Flags: "-", Bytes: 60, Complete: true},
			Usage{Outcome: UpstreamError, Measurement: Estimated, Status: 500}},
		{"upstream says 500 and what it used", Observation{Status: 500, Reported: true, Tokens: said},
			Usage{Outcome: UpstreamError, Measurement: Reported, Tokens: said, Status: 500}},
		{"upstream breaks off", Observation{Status: 200, Flags: "UC", Events: 5},
			Usage{Outcome: UpstreamError, Measurement: Estimated, Tokens: Tokens{Input: 10, Output: 5}, Status: 200}},
		{"upstream refuses", Observation{Status: 400, Bytes: 60, Complete: true},
			Usage{Outcome: Completed, Measurement: Estimated, Status: 400}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Admission = a
			if c.want.Outcome != NotSent {
				c.seen.Upstream, c.want.Upstream = "u:1", "u:1"
			}
			if got := Measure(a, c.seen, new(Estimator)); *got != c.want {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
		})
	}
}

// ledger is a Ledger in memory that refuses what must never happen.
type ledger struct {
	t      testing.TB
	open   map[string]bool
	closed []*Usage
	err    error
}

func newLedger(t testing.TB) *ledger { return &ledger{t: t, open: map[string]bool{}} }

func (l *ledger) Admit(a *Admission, written []byte) error {
	if l.err != nil {
		return l.err
	}
	if _, seen := l.open[a.ID]; seen {
		l.t.Errorf("admission %s was written down twice", a.ID)
	}
	if _, err := ParseAdmission(written); err != nil {
		l.t.Errorf("what was written down can't be read: %v", err)
	}
	l.open[a.ID] = true
	return nil
}

func (l *ledger) Close(u *Usage) (bool, error) {
	if l.err != nil {
		return false, l.err
	}
	if !l.open[u.Admission.ID] {
		return false, nil
	}
	l.open[u.Admission.ID] = false
	l.closed = append(l.closed, u)
	return true, nil
}

func TestSettlementCountsOnce(t *testing.T) {
	now := time.Now()
	limits := limit.NewLocal(now)
	l := newLedger(t)
	var dropped []string
	s := &Settler{
		Replica: "r1", Sealer: sealer(t, 1, 1), Ledger: l, Limits: limits, Estimator: new(Estimator),
		Dropped: func(why string) { dropped = append(dropped, why) },
	}
	var v limit.Verdict
	demands := []limit.Demand{{Scope: limit.Key, Tenant: "k", Tokens: 100, Concurrent: 1}}
	limits.Reserve(now, demands, 60, &v)
	a := &Admission{ID: "a", Replica: "r1", Key: "k", Model: "m", Reserved: limit.Grant{At: now, Tokens: 60, Counted: v.Counted}}
	written := a.AppendBinary(nil)
	if err := l.Admit(a, written); err != nil {
		t.Fatal(err)
	}
	token := s.Sealer.Seal(written)

	l.err = errors.New("disk full")
	if err := s.Settle(t.Context(), now, token, Observation{Status: 200, Reported: true}); !errors.Is(err, ErrRetry) {
		t.Fatalf("while nothing can be written: %v", err)
	}
	l.err = nil
	for range 3 {
		if err := s.Settle(t.Context(), now, token, Observation{Status: 200, Reported: true, Tokens: Tokens{Input: 20, Output: 5}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.closed) != 1 || len(dropped) != 2 {
		t.Errorf("%d events and %d dropped of three settlements", len(l.closed), len(dropped))
	}
	limits.Peek(now, demands, 75, &v)
	if v.Reason != 0 || v.Tokens.Remaining != 75 {
		t.Errorf("after 25 of 100 were used: %+v", v)
	}

	if err := s.Settle(t.Context(), now, "nonsense", Observation{}); err != nil {
		t.Errorf("a token that isn't one must not be brought again: %v", err)
	}
	foreign := *a
	foreign.ID, foreign.Replica = "b", "r2"
	if err := s.Settle(t.Context(), now, s.Sealer.Seal(foreign.AppendBinary(nil)), Observation{}); err != nil {
		t.Error(err)
	}
	if len(dropped) != 4 || dropped[2] != "token" || dropped[3] != "foreign" {
		t.Errorf("dropped %v", dropped)
	}
}

func TestEstimatorLearns(t *testing.T) {
	var e Estimator
	for range 200 {
		e.Learn("m", 1000, Tokens{Input: 400, Output: 50}, 10)
	}
	if got := e.Prompt("m", 1000); got < 395 || got > 401 {
		t.Errorf("a prompt that has 400 tokens is estimated at %d", got)
	}
	if got := e.Answer("m"); got < 50 || got > 51 {
		t.Errorf("answers of 50 tokens are estimated at %d", got)
	}
	if got := e.Streamed("m", 10); got != 50 {
		t.Errorf("ten events of five tokens are estimated at %d", got)
	}
	if got := e.Prompt("other", 1000); got != 250 {
		t.Errorf("a model that nothing is known of: %d", got)
	}
}

func TestRestartGivesNoQuotaBack(t *testing.T) {
	a, _ := newAuthorizer(t)
	s := &Settler{Limits: a.Limits}
	for i := range 5 {
		s.Recount(start, a.Tables(), start.Add(-time.Duration(i)*time.Second), "demo", "id-of-good", "", "small/one", 10)
	}
	s.Recount(start, a.Tables(), start.Add(-time.Hour), "demo", "id-of-good2", "", "small/one", 10)
	s.Recount(start, a.Tables(), start, "no-such", "id-of-good2", "", "small/one", 10)
	var d Decision
	a.Check(t.Context(), start, post("good", chat("meta-llama/Llama")), &d)
	if d.Reason != reason.RateLimitExceeded {
		t.Errorf("the sixth of five, over a restart: %v", d.Reason)
	}
	a.Check(t.Context(), start, post("good2", `{"model":"small/one","max_tokens":51,"messages":[]}`), &d)
	if d.Reason != reason.TokenLimitExceeded {
		t.Errorf("51 tokens of 100 of which 50 are used, over a restart: %v", d.Reason)
	}
	if a.Check(t.Context(), start, post("good2", `{"model":"small/one","max_tokens":50,"messages":[]}`), &d); d.Admission == nil {
		t.Errorf("50 tokens of 100 of which 50 are used: %s", d.Response.Body)
	}
}
