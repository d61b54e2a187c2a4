package authz

import (
	"strings"
	"testing"

	"tollgate/authz/reason"
)

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

// TestReservationOfManyAnswers: how large an answer gets that names no maximum is our
// guess, and cut to what a limit gives at all; how many are wanted is the caller's
// wish, and what is more than a whole limit is refused.
func TestReservationOfManyAnswers(t *testing.T) {
	for _, c := range []struct {
		model, fields string
		tokens        int64 // 0: refused
	}{
		{"meta-llama/Llama", ``, firstAnswerTokens},
		{"meta-llama/Llama", `,"n":3`, 3 * firstAnswerTokens},
		{"meta-llama/Llama", `,"n":4`, 1000}, // cut
		{"meta-llama/Llama", `,"n":15`, 1000},
		{"meta-llama/Llama", `,"n":16`, 0}, // 64 each are more
		{"meta-llama/Llama", `,"n":1000000000`, 0},
		{"meta-llama/Llama", `,"n":16,"max_tokens":10`, 160},
		{"meta-llama/Llama", `,"n":101,"max_tokens":10`, 0},
		{"small/one", ``, 100}, // one answer is always cut
		{"small/one", `,"n":2`, 0},
	} {
		a, _ := newAuthorizer(t)
		var d Decision
		a.Check(t.Context(), start, post("good", `{"model":"`+c.model+`"`+c.fields+`,"messages":[]}`), &d)
		switch {
		case c.tokens == 0:
			if d.Reason != reason.TokenRequestTooLarge || d.Response.Status != 400 || !strings.Contains(string(d.Response.Body), "fewer answers") {
				t.Errorf("%s%s: %v %+v", c.model, c.fields, d.Reason, d.Response)
			}
		case d.Reason != reason.None:
			t.Errorf("%s%s: %v %s", c.model, c.fields, d.Reason, d.Response.Body)
		case d.Admission.Reserved.Tokens != c.tokens:
			t.Errorf("%s%s: %d tokens are reserved, want %d", c.model, c.fields, d.Admission.Reserved.Tokens, c.tokens)
		}
	}
}
