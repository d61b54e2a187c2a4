// Package limit counts requests, tokens and concurrent requests per key, user,
// workspace and model. The algorithm (Window) is pure; Local keeps counters for
// one replica. Nothing here reads a clock: now is an argument.
//
// # How a minute is counted
//
// In no 60 seconds, wherever they begin, is more admitted than a limit, and a
// caller that paces itself at the limit gets at least 90 % of it. A log of every
// request would do that and take memory by the request; a token bucket, or two
// fixed minutes weighted, lets up to twice the limit through.
//
// So time is cut into cells, and all cells that touch the last 60 seconds count
// whole. That never admits too much, and makes a minute up to one cell longer:
// with cells of c seconds the rate is at least 60/(60+c) of the limit. 90 % asks
// for c ≤ 6.6 (the usual 10 s would give 85.7 %); cells here are 5 s, for 92.3 %.
// A cell also remembers its latest event and stops counting 60 seconds after
// that, so that a few requests a minute, each in a cell of its own, are counted
// as exactly as by a log.
//
// Overuse is debt: it counts from when it became known, and later requests wait
// until it has left the window.
package limit

import (
	"time"

	"tollgate/authz/reason"
)

// Scope is what a limit applies to.
type Scope uint8

// The scopes, in the order in which counters are locked.
const (
	Key Scope = iota
	User
	Workspace
	Model // of a workspace
	Scopes
)

// String is the scope's name for people: "key", "user", "workspace", "model".
func (s Scope) String() string { return [...]string{"key", "user", "workspace", "model", "none"}[s] }

// Set is a set of scopes, a bit each.
type Set uint8

// Has reports whether s is in the set.
func (t Set) Has(s Scope) bool { return t&(1<<s) != 0 }

// Demand is the limits of one scope that bind a request. A limit of 0 is none.
type Demand struct {
	Scope Scope
	// Tenant and Name are the counter's identity: for Key the key's id, for
	// User, Workspace and Model the workspace's id with the user's, nothing, and
	// the model's (or its pattern in the plan). Two strings, so that nobody has
	// to join them on the request path.
	Tenant, Name string
	// Requests and Tokens are per 60 seconds, Concurrent at any time.
	Requests, Tokens, Concurrent int64
}

// State is where a caller stands with one kind of limit: the tightest of all
// scopes (least remaining). Limit 0 means there is none.
type State struct {
	Limit, Remaining int64
	Reset            time.Duration // until all of it is there again
}

// Verdict is the outcome of a reservation. The zero Reason means that it was
// made.
type Verdict struct {
	Reason reason.Reason
	Scope  Scope         // whose limit refused
	Limit  int64         // that limit
	Wait   time.Duration // until the same request could pass, if nothing else changes; 0: not known
	// Counted are the scopes that now hold the reservation.
	Counted Set
	// Requests, Tokens and Concurrent include what was just reserved. Concurrent
	// has no Reset: a slot comes back when a request ends.
	Requests, Tokens, Concurrent State
}

// Grant is a reservation that was made, as its admission remembers it.
type Grant struct {
	At      time.Time // the now of the reservation
	Tokens  int64     // reserved
	Counted Set
}

// A Limiter reserves before a request goes out and settles when it is done.
// All methods are safe for concurrent use and none blocks on I/O.
//
// Today's implementation is Local. The one that replicas share stands behind
// the same methods: memory only on the request path.
type Limiter interface {
	// Reserve takes one request, tokens tokens and one concurrency slot from
	// every demand that has a limit, or nothing at all. What it takes is counted
	// whether or not there is a limit of that kind, so that one which is set
	// later binds at once. Demands are in order of Scope, one per scope.
	Reserve(now time.Time, demands []Demand, tokens int64, v *Verdict)
	// Peek is Reserve without taking anything: its states are those of now.
	Peek(now time.Time, demands []Demand, tokens int64, v *Verdict)
	// Settle ends a grant once: the slot comes back; of the tokens, what was
	// not used comes back while its window is open, and what was overused
	// counts from now. It takes the same demands as Reserve did; their limits
	// don't matter. used < 0 means that the request was never sent: then its
	// place under the request limits comes back too.
	Settle(now time.Time, demands []Demand, g Grant, used int64)
	// Restore takes a grant again after a restart, whatever the limits: the
	// slot, and what falls into the last 60 seconds.
	Restore(now time.Time, demands []Demand, g Grant)
}
