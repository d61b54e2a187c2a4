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

// TestPartsOfTokens: what an upstream states of cached or hidden tokens is never more
// than the tokens that they are part of, so that who adds events up, or reckons their
// cost again, comes to what was charged.
func TestPartsOfTokens(t *testing.T) {
	a := &Admission{ID: "a", Model: "m"}
	for _, c := range []struct{ said, want Tokens }{
		{Tokens{Input: 5, CacheRead: 50, Output: 3, Reasoning: 4}, Tokens{Input: 5, CacheRead: 5, Output: 3, Reasoning: 3}},
		{Tokens{Input: 10, CacheRead: 6, CacheCreation: 6}, Tokens{Input: 10, CacheRead: 6, CacheCreation: 4}},
		{Tokens{Input: 10, CacheRead: 6, CacheCreation: 4, Output: 9, Reasoning: 9}, Tokens{Input: 10, CacheRead: 6, CacheCreation: 4, Output: 9, Reasoning: 9}},
		{Tokens{Input: -1, CacheRead: -1, Output: -7, Reasoning: -7}, Tokens{}},
	} {
		if got := Measure(a, Observation{Status: 200, Reported: true, Tokens: c.said}, &Estimator{}).Tokens; got != c.want {
			t.Errorf("%+v was stated: the event says %+v, want %+v", c.said, got, c.want)
		}
	}
}
