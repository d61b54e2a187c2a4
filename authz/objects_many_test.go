package authz

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tollgate/authz/limit"
	"tollgate/authz/reason"
)

// What a workspace does too often is refused as a rate is, and nothing is used up.
func TestTooManyObjects(t *testing.T) {
	a, s, r, l := inStudio(t, 2)
	if d := check1(t, a, create("good")); d.Admission == nil || s.made != 1 {
		t.Fatalf("%v, %d made", d.Reason, s.made)
	}
	q := &Question{Secret: "good", Method: "POST", Path: "/v1/tasks", Model: "meta-llama/Llama"}
	if e := a.Explain(t.Context(), start, q); e.Reason != reason.None || s.made != 1 {
		t.Errorf("explained: %v, %d made", e.Reason, s.made)
	}
	s.many = &TooManyError{Wait: 3 * time.Second}
	made := check1(t, a, create("good"))
	found := check1(t, a, get("good", "/v1/task?task_id=random"))
	for what, d := range map[string]*Decision{"makes": made, "looks for": found} {
		if d.Reason != reason.RateLimitExceeded || d.Response.Status != 429 || !strings.Contains(string(d.Response.Body), "again in 3s") {
			t.Fatalf("%s: %v %+v", what, d.Reason, d.Response)
		}
		wait := ""
		for _, h := range d.Response.Headers {
			if h.Name == "retry-after" {
				wait = h.Value
			}
		}
		if wait != "3" {
			t.Errorf("%s: retry-after %q", what, wait)
		}
	}
	if len(r.tally.Held) != 1 || len(l.open) != 1 {
		t.Errorf("what was refused holds %v; %d were admitted", r.tally.Held, len(l.open))
	}
	var v limit.Verdict
	a.Limits.Peek(start, []limit.Demand{{Scope: limit.Key, Tenant: "id-of-good", Requests: 5, Tokens: 1000}}, 0, &v)
	if v.Requests.Remaining != 4 {
		t.Errorf("what was refused used up quota: %d of 5 requests are left, want 4", v.Requests.Remaining)
	}
	s.many = errors.New("full")
	if d := check1(t, a, create("good2")); d.Reason != reason.Unavailable {
		t.Errorf("there is no room: %v", d.Reason)
	}
}
