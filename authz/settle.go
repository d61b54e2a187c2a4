package authz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/limit"
)

// Ledger is where admissions are written down. It is implemented on a disk; its
// methods are safe for concurrent use.
type Ledger interface {
	// Admit writes an admission down before the request goes on. written is the
	// admission's AppendBinary form and is not kept. It must not wait for more
	// than a memory write, but for at most 20 ms when a file has to be made. An
	// error means that nothing was written: the request must not go on.
	Admit(a *Admission, written []byte) error
	// Close ends an admission with its usage event, durably, and reports
	// whether it did: false means that the admission was closed before. An
	// error means that it is still open; try again. Of an admission that nobody
	// told of (None) it notes whether another one of the same request was
	// settled, in u.Superseded.
	Close(u *Usage) (bool, error)
	// Adjust writes down, durably, what became of an admission that was closed
	// as Unknown; u.Before is what that was charged. Of what a replica has held
	// (SettleHeld) it is not known that it was: nothing may come of one that was
	// settled. An error means that it is not written down; try again.
	Adjust(u *Usage) error
}

// Settler closes admissions with what became of them. All fields but Budgets,
// Began, Foreign and Dropped are needed. It is safe for concurrent use.
type Settler struct {
	Replica   string
	Sealer    *Sealer
	Ledger    Ledger
	Limits    limit.Limiter
	Estimator *Estimator
	Budgets   *Budgets // nil: none are kept
	// Began is when this process did: what the one before it closed as Unknown it
	// does not know. Zero: there was none.
	Began time.Time
	// Foreign takes the settlement of another replica's admission: nil means that
	// it will see to it whatever happens to this process. The admission is its to
	// keep. nil: such settlements are dropped.
	Foreign func(a *Admission, o Observation) error
	// Dropped is told of each settlement that was not taken: why is "token",
	// "foreign" or "closed". nil: nobody is told.
	Dropped func(why string)

	abandoned abandoned
}

// ErrRetry means that a settlement could not be written down now. The proxy
// should bring it again.
var ErrRetry = errors.New("the settlement can't be written down now")

// Settle closes the admission of a token. Where it was closed as Unknown before,
// the truth becomes an adjustment, once. A token that doesn't verify, and an
// admission that was settled already, are dropped and counted: bringing them
// again would not help. The only error is ErrRetry.
func (s *Settler) Settle(_ context.Context, now time.Time, token string, o Observation) error {
	return s.settle(now, token, o, false)
}

// SettleHeld is Settle of what another replica was told, and has held until this one
// could take it: by then this one may have closed the admission as Unknown, ended,
// and forgotten it. So an admission that is not remembered is for the ledger to find
// out about.
func (s *Settler) SettleHeld(now time.Time, token string, o Observation) error {
	return s.settle(now, token, o, true)
}

func (s *Settler) settle(now time.Time, token string, o Observation, held bool) error {
	a, err := s.Sealer.Open(token)
	if err != nil {
		s.drop("token")
		return nil //nolint:nilerr // documented: bringing it again would not help
	}
	if a.Replica != s.Replica {
		return s.foreign(a, o)
	}
	u := Measure(a, o, s.Estimator)
	first, err := s.close(now, u)
	switch {
	case err != nil:
		return err
	case !first:
		return s.adjust(u, held)
	case u.Measurement == Reported && u.Outcome == Completed:
		s.Estimator.Learn(a.Model, a.PromptBytes, u.Tokens, o.Events)
		if !a.Capped {
			s.Estimator.LearnAnswer(a.Model, a.Workspace, u.Tokens.Output)
		}
	}
	return nil
}

// foreign takes the settlement of somebody else's admission.
func (s *Settler) foreign(a *Admission, o Observation) error {
	if s.Foreign == nil {
		s.drop("foreign")
		return nil
	}
	if err := s.Foreign(a, o); err != nil {
		return fmt.Errorf("%w: %w", ErrRetry, err)
	}
	return nil
}

// Elsewhere ends an admission of this replica that another one has closed in its
// place, with u: what it holds of the limits comes back, and there is no event.
// release ends it in the ledger, and reports whether it was open. Should the
// truth come here after all, it is an adjustment if u knew nothing (None), and
// else dropped. The only error is ErrRetry.
func (s *Settler) Elsewhere(now time.Time, u *Usage, release func(*Usage) (bool, error)) error {
	s.abandoned.mu.Lock() // as in Abandon
	defer s.abandoned.mu.Unlock()
	open, err := release(u)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRetry, err)
	}
	if open {
		s.GiveBack(now, u)
		if u.Measurement == None {
			s.abandoned.add(u.Admission.ID, u.Charge())
		}
	}
	return nil
}

// GiveBack ends what limits and budgets hold for an admission, as Restore or a check
// took it. Whoever calls it sees to it that this happens once.
func (s *Settler) GiveBack(now time.Time, u *Usage) {
	a := u.Admission
	var scratch [limit.Scopes]limit.Demand
	s.Limits.Settle(now, a.demands(scratch[:0]), a.Reserved, counted(u))
	s.Budgets.Settle(now, a, u.Cost)
}

// TakeBack closes an admission whose request is known to have gone nowhere: all
// that it holds comes back. The only error is ErrRetry.
func (s *Settler) TakeBack(now time.Time, a *Admission) error {
	_, err := s.close(now, &Usage{Admission: a, Outcome: NotSent, Measurement: Estimated})
	return err
}

// Abandon closes an admission that nobody will settle any more: the sweep's, or
// one whose proxy is known to be gone. Should somebody settle it all the same,
// the truth becomes an adjustment: see MaxAbandoned. The only error is ErrRetry.
func (s *Settler) Abandon(now time.Time, a *Admission) error {
	// Whoever finds the admission closed by this waits for it to be noted.
	s.abandoned.mu.Lock()
	defer s.abandoned.mu.Unlock()
	u := Unsettled(a)
	first, err := s.close(now, u)
	if first {
		s.abandoned.add(a.ID, u.Charge())
	}
	return err
}

// close reports whether it closed the admission, which then holds nothing of the
// limits any more.
func (s *Settler) close(now time.Time, u *Usage) (bool, error) {
	first, err := s.Ledger.Close(u)
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrRetry, err)
	}
	if first {
		s.GiveBack(now, u)
	}
	return first, nil
}

// adjust takes the settlement of an admission that is closed already. One that was
// held, or is of an admission from before this process, is written down also where
// it is not known that it was closed as Unknown: the ledger finds out.
func (s *Settler) adjust(u *Usage, held bool) error {
	s.abandoned.mu.Lock()
	defer s.abandoned.mu.Unlock()
	before, known := s.abandoned.remove(u.Admission.ID)
	if !known && !held && !u.Admission.Start.Before(s.Began) {
		s.drop("closed")
		return nil
	}
	u.Before = before
	if err := s.Ledger.Adjust(u); err != nil {
		if known {
			s.abandoned.add(u.Admission.ID, before)
		}
		return fmt.Errorf("%w: %w", ErrRetry, err)
	}
	return nil
}

func (s *Settler) drop(why string) {
	if s.Dropped != nil {
		s.Dropped(why)
	}
}

// counted is what a usage counts against token limits; -1: the request was never
// sent, so it does not count as a request either. What nobody measured counts as
// it was reserved: the safe side.
func counted(u *Usage) int64 {
	switch {
	case u.Outcome == NotSent:
		return -1
	case u.Measurement == None:
		return u.Admission.Reserved.Tokens
	}
	return u.Tokens.Input + u.Tokens.Output
}

// Measure says what became of an admission, from what the proxy saw.
func Measure(a *Admission, o Observation, e *Estimator) *Usage {
	return measure(a, dialect.PathOf(a.Dialect, a.Path), &o, e)
}

// measure is Measure of a request to a path; nil: which it was isn't known.
func measure(a *Admission, path *dialect.Path, o *Observation, e *Estimator) *Usage {
	o.state(path)
	u := &Usage{
		Admission: a, Status: o.Status, Duration: o.Duration, FirstByte: o.FirstByte,
		Upstream: o.Upstream, Outcome: outcome(o),
	}
	if path != nil && u.Outcome != NotSent && o.refused(path) {
		u.Refused, u.Outcome = true, UpstreamError
	}
	switch {
	case u.Outcome == NotSent:
		u.Measurement, u.Upstream = Estimated, ""
	case o.Reported:
		u.Measurement, u.Tokens = Reported, o.Tokens
	case unseen(o):
		// What nobody saw may have been all that was reserved.
		u.Measurement = Estimated
		u.Tokens.Input, u.Tokens.Output = a.InputEstimate, a.OutputEstimate
	case u.Refused, o.Status >= 400 && o.Details != durationOver:
		// An error in place of an answer, and no usage stated with it: nothing
		// was used that anybody knows of.
		u.Measurement = Estimated
	default:
		// An answer, whole or cut off, or a request that was cut off before the
		// answer: the upstream had the prompt.
		u.Measurement, u.Tokens = Estimated, passed(a, path, o, e)
	}
	u.Tokens.bound()
	u.read(path, o)
	return u
}

// passed estimates the tokens of what passed. What the upstream stated of them is
// taken from it.
func passed(a *Admission, path *dialect.Path, o *Observation, e *Estimator) Tokens {
	t := Tokens{Input: a.InputEstimate}
	switch {
	case o.Status >= 400 || path != nil && path.Free: // the body was the proxy's own, or has no tokens
	case o.Events == 0 && a.OutputEstimate > 0:
		// A whole answer in one piece, cut off or without usage: its text
		// can't have had more tokens than were reserved for it.
		t.Output = min(int64(float64(o.Bytes)*firstTokensPerByte), a.OutputEstimate)
	default:
		t.Output = e.Streamed(a.Model, o.Events)
	}
	if o.Partly {
		if o.Tokens.Input > 0 { // some state nothing before the end, where all is told
			t.Input, t.CacheRead, t.CacheCreation = o.Tokens.Input, o.Tokens.CacheRead, o.Tokens.CacheCreation
		}
		t.Output, t.Reasoning = max(t.Output, o.Tokens.Output), o.Tokens.Reasoning
	}
	return t
}

// What Envoy's response code details say of streams that it ended by itself: at
// the route's maxDuration, and at its own end or for want of memory.
const (
	durationOver = "max_duration_timeout"
	idleOver     = "stream_idle_timeout" // nothing moved: either side may have stopped
	proxyEnded   = "downstream_local_disconnect"
)

// outOfTime says that the proxy ended an answer that had begun, for want of time. A
// caller brings that about by reading slowly, or no more.
func (o *Observation) outOfTime() bool {
	return o.Status > 0 && o.Status < 400 && (o.Details == durationOver || o.Details == idleOver)
}

// switchedProtocols is the status of a WebSocket. It ends by a hang-up of either
// side or at the route's maxDuration, all of which the flags tell as failures.
const switchedProtocols = 101

// outcome reads Envoy's response flags first (they say who ended the stream),
// then the status. A stream that no upstream was chosen for was not sent, whoever
// ended it. The flags: Envoy's access log documentation, %RESPONSE_FLAGS%.
func outcome(o *Observation) Outcome {
	if o.Untold {
		if o.Reported || o.Complete {
			return Completed
		}
		return Unknown
	}
	if o.Upstream == "" && !o.Reported && o.Events == 0 {
		return NotSent
	}
	// A stream that the proxy ended by itself has no flag, or the client's.
	clientLeft, upstreamFailed := false, o.Details == durationOver || strings.HasPrefix(o.Details, proxyEnded)
	for flag := range strings.SplitSeq(o.Flags, ",") {
		switch flag {
		case "UF", "NC", "NR", "UH", "UO":
			return NotSent // no connection, cluster, route or healthy host; circuit open
		case "DC", "DPE":
			clientLeft = true
		case "UC", "UR", "UT", "LR", "UPE", "URX", "SI", "UMSDR", "OM":
			upstreamFailed = true
		}
	}
	switch {
	case o.Status == switchedProtocols:
		return Completed
	case upstreamFailed, o.Status >= 500:
		return UpstreamError
	case clientLeft && o.Reported:
		// A caller that leaves at the last event, as SDKs do at [DONE], has had
		// the answer.
		return Completed
	case clientLeft:
		return ClientClosed
	case o.Status == 0:
		return ClientClosed // the stream ended before any answer
	}
	return Completed
}

// unseen says that there may have been an answer of which nothing is known.
func unseen(o *Observation) bool {
	if o.Untold {
		return o.Events == 0 && o.Bytes == 0 && !o.Complete
	}
	return o.Unwatched && o.Status > 0 && o.Status < 400
}

// Restore takes the reservations of open admissions again after a restart.
func (s *Settler) Restore(now time.Time, open []*Admission) {
	for _, a := range open {
		var scratch [limit.Scopes]limit.Demand
		s.Limits.Restore(now, a.demands(scratch[:0]), a.Reserved)
		s.Budgets.Restore(a)
	}
}

// Recount counts a request that ended before a restart against the limits of the
// tables of now, so that a restart gives no quota back. start is its admission's;
// tokens is what it used.
func (s *Settler) Recount(now time.Time, t *catalog.Tables, start time.Time, workspace, keyID, user, model string, tokens int64) {
	w := t.Workspaces[workspace]
	if w == nil || now.Sub(start) > limit.Span {
		return
	}
	// Every scope: which of them had a limit then doesn't matter to those that
	// have none now, and the key's own limits aren't known here.
	scopes := limit.Set(1<<limit.Key | 1<<limit.Workspace)
	if user != "" {
		scopes |= 1 << limit.User
	}
	pattern, _ := w.Plan.ModelLimits(model)
	if pattern != "" {
		scopes |= 1 << limit.Model
	}
	var scratch [limit.Scopes]limit.Demand
	d := demands(scratch[:0], scopes, keyID, user, workspace, pattern)
	grant := limit.Grant{At: start, Tokens: tokens, Counted: scopes}
	s.Limits.Restore(now, d, grant)
	s.Limits.Settle(now, d, grant, tokens) // the slot comes back at once
}
