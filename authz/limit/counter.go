package limit

import (
	"sync"
	"time"

	"tollgate/authz/reason"
)

// counter is what one key, user, workspace or model of a workspace has taken.
// It counts every kind, whether or not there is a limit of that kind now: a
// limit that is set later binds at once, and a settlement gives back what was
// taken whatever became of the limits.
type counter struct {
	mu sync.Mutex // guards everything below
	// gone is set when the counter was evicted: whoever held a pointer to it
	// looks it up again.
	gone     bool
	held     int64 // concurrency slots
	requests Window
	tokens   Window
}

func (c *counter) take(now time.Duration, tokens int64) {
	c.held++
	c.requests.Add(now, 1)
	c.tokens.Add(now, tokens)
}

func (c *counter) restore(now, at time.Duration, tokens int64) {
	c.held++
	c.requests.AddPast(now, at, 1)
	c.tokens.AddPast(now, at, tokens)
}

func (c *counter) settle(now, at time.Duration, reserved, used int64) {
	c.held = max(c.held-1, 0)
	switch {
	case used < 0:
		c.requests.Refund(now, at, 1)
		c.tokens.Refund(now, at, reserved)
	case used < reserved:
		c.tokens.Refund(now, at, reserved-used)
	default:
		c.tokens.Add(now, used-reserved)
	}
}

// idle reports whether forgetting the counter would change nothing.
func (c *counter) idle(now time.Duration) bool {
	return c.held == 0 && c.requests.Sum(now) == 0 && c.tokens.Sum(now) == 0
}

// judge finds out whether a request passes all demands, and if not, why. The
// counter of demands[i] is counters[i], locked; nil where the demand limits nothing.
//
// A request for more tokens than the whole limit is found first, because it
// must not be told to wait. Otherwise the order is slots, requests, tokens; of
// one kind, the scope with the longest wait is named. Wait is until all of them
// would let the request pass.
func judge(now time.Duration, demands []Demand, counters *[Scopes]*counter, tokens int64, v *Verdict) {
	for i := range demands {
		if d := &demands[i]; counters[i] != nil && d.Tokens > 0 && tokens > d.Tokens {
			v.Reason, v.Scope, v.Limit = reason.TokenRequestTooLarge, d.Scope, d.Tokens
			return
		}
	}
	for i := range demands {
		if d := &demands[i]; counters[i] != nil && d.Concurrent > 0 && counters[i].held >= d.Concurrent {
			v.Reason, v.Scope, v.Limit = reason.ConcurrencyLimitExceeded, d.Scope, d.Concurrent
			return
		}
	}
	for i := range demands {
		if d := &demands[i]; counters[i] != nil && d.Requests > 0 {
			v.delay(reason.RateLimitExceeded, d.Scope, d.Requests, counters[i].requests.Wait(now, d.Requests, 1))
		}
	}
	for i := range demands {
		if d := &demands[i]; counters[i] != nil && d.Tokens > 0 {
			v.delay(reason.TokenLimitExceeded, d.Scope, d.Tokens, counters[i].tokens.Wait(now, d.Tokens, tokens))
		}
	}
}

// delay notes that a limit asks for a wait.
func (v *Verdict) delay(r reason.Reason, s Scope, limit int64, wait time.Duration) {
	if wait <= v.Wait {
		return
	}
	v.Wait = wait
	if v.Reason == reason.None || v.Reason == r {
		v.Reason, v.Scope, v.Limit = r, s, limit
	}
}

// tell fills in where the caller stands.
func tell(now time.Duration, demands []Demand, counters *[Scopes]*counter, v *Verdict) {
	for i := range demands {
		d, c := &demands[i], counters[i]
		if c == nil {
			continue
		}
		v.Requests.tighten(now, d.Requests, &c.requests)
		v.Tokens.tighten(now, d.Tokens, &c.tokens)
		if left := max(d.Concurrent-c.held, 0); d.Concurrent > 0 && (v.Concurrent.Limit == 0 || left < v.Concurrent.Remaining) {
			v.Concurrent = State{Limit: d.Concurrent, Remaining: left}
		}
	}
}

// tighten makes s the state of a limit if that leaves less than s, or as much
// but for longer.
func (s *State) tighten(now time.Duration, limit int64, w *Window) {
	if limit <= 0 {
		return
	}
	t := State{Limit: limit, Remaining: max(limit-w.Sum(now), 0), Reset: w.Reset(now)}
	if s.Limit == 0 || t.Remaining < s.Remaining || t.Remaining == s.Remaining && t.Reset > s.Reset {
		*s = t
	}
}
