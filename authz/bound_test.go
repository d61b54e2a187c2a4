package authz

import "testing"

// Nothing that an upstream states, or a caller asks for, makes the sums overflow or
// the guesses useless.
func TestAbsurdTokens(t *testing.T) {
	var e Estimator
	a := &Admission{Model: "m", Workspace: "w", OutputEstimate: 1 << 56}
	for _, o := range []Observation{
		{Status: 200, Complete: true, Upstream: "u", Reported: true, Tokens: Tokens{Input: 1 << 52, Output: 1 << 52}},
		{Status: 200, Upstream: "u", Unwatched: true}, // all that was reserved
	} {
		if u := Measure(a, o, &e); u.Tokens.Input > maxTokens || u.Tokens.Output != maxTokens {
			t.Errorf("%+v", u.Tokens)
		}
	}
	for range 1000 {
		e.LearnAnswer("m", "w", 1<<40)
	}
	if n := e.Answer("m", "w"); n > mostAnswerTokens {
		t.Errorf("an answer is taken to have %d tokens", n)
	}
}
