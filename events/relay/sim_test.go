package relay

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/authz"
	"tollgate/authz/catalog"
	"tollgate/authz/limit"
	"tollgate/authz/money"
)

var (
	simSeeds = flag.Int("sim.seeds", 12, "how many histories TestExactlyOnce plays")
	simFirst = flag.Uint64("sim.first", 1, "the seed of the first")
)

// The simulation's times. Only their proportions matter.
const (
	simGone     = 24 * time.Second
	simWindow   = 120 * time.Second // five times that, as in production
	simAdmit    = 300 * time.Second // admissions are made for so long
	simDeadline = 100 * time.Second // of most; others have five times as long
	simFaults   = 500 * time.Second // things go wrong for so long
)

// simRates are what a million tokens cost.
var simRates = []authz.Rate{{Unit: "input", Price: money.New(15, 2)}, {Unit: "output", Price: money.New(6, 1)}}

// What can go wrong: with a replica, and with the stream.
type fault int

const (
	cutOff fault = iota
	killed
	left
	diskLost
	streamAway
)

// plot is what goes wrong in a history. Where everything does, one fault undoes what
// would show another: whoever was killed or cut off since looks into the stream
// before it publishes. So most histories have few kinds of faults.
type plot struct {
	faults []fault
	faulty int             // of three replicas, with so many
	away   []time.Duration // about for how long
	slow   int             // of a hundred looks, so many take for windows
	more   int             // a settlement is told so many times more, to anybody
}

const simLong = simGone + 2*simWindow // whoever closes something in one's place has done so for longer than a window

var plots = []plot{
	{[]fault{cutOff, cutOff, killed, killed, left, left, diskLost, streamAway}, 3, []time.Duration{0, simGone / 2, 2 * simGone, simLong}, 2, 0},
	// Who is sure that nobody else publishes is not told for long what it published.
	{[]fault{streamAway}, 0, []time.Duration{simGone / 2, simLong}, 0, 0},
	// Who was cut off publishes for a window after others have in its place; and it
	// took others for gone, who are never in doubt.
	{[]fault{cutOff}, 1, []time.Duration{simGone / 2, 2 * simGone, simLong}, 0, 0},
	// Two close in the place of a third, and one of them has looked long before.
	{[]fault{killed}, 1, []time.Duration{2 * simGone}, 50, 2},
}

// TestExactlyOnce plays histories of three replicas, with the ledgers, journals,
// settlers and relays that Tollgate runs, in simulated time: Envoys that deliver
// settlements to whom they like, late, twice and more, or not at all; replicas
// that are killed, end in good order, lose their disk, or are cut off, for less
// and for more than Gone and the stream's window; and a NATS that loses requests
// and answers, stores late and looks slowly. At the end each admission has its one
// event, and nobody holds anything.
func TestExactlyOnce(t *testing.T) {
	for seed := *simFirst; seed < *simFirst+uint64(*simSeeds); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newSim(t, seed).play() })
		})
	}
}

// sim is a history.
type sim struct {
	*world
	plot
	t        *testing.T
	sealer   *authz.Sealer
	replicas []*replica
	all      []*admitted
}

// replica is what outlives a process.
type replica struct {
	name string
	dir  string
	p    *process // nil: it is down
	lost bool     // with its disk, for good
}

// admitted is an admission, and who was told what of it. Guarded by world.mu.
type admitted struct {
	*authz.Admission
	owner     *replica
	atOwner   bool       // the owner has recorded a settlement
	toldTo    []*replica // these have, of somebody else's admission
	copiedTo  *replica   // this one adopted it, and the owner was not back since
	settledAt time.Time  // when somebody first recorded a settlement
}

func newSim(t *testing.T, seed uint64) *sim {
	w := &world{t: t, window: simWindow, rng: rand.New(rand.NewPCG(seed, 7)), handlers: map[string]handler{}, story: map[string][]string{}}
	few := func() int { return []int{0, 5, 20}[w.pick(3)] }
	w.lost, w.late, w.unanswered = few(), few(), few()
	sealer, err := authz.NewSealer(1, map[byte][]byte{1: bytes.Repeat([]byte{1}, authz.MinSealingKey)})
	if err != nil {
		t.Fatal(err)
	}
	s := &sim{world: w, plot: plots[seed%uint64(len(plots))], t: t, sealer: sealer}
	w.slow = s.plot.slow
	for n := range 3 {
		s.replicas = append(s.replicas, &replica{name: fmt.Sprint("r", n), dir: t.TempDir()})
	}
	return s
}

func (s *sim) play() {
	for _, r := range s.replicas {
		s.startReplica(r)
	}
	begin := time.Now()
	for time.Since(begin) < simFaults {
		if time.Since(begin) < simAdmit {
			s.admit()
		}
		if s.chance(12) {
			s.fault()
		}
		time.Sleep(s.between(0, 8*time.Second))
	}
	// Whoever is to come back does: see fault. What nobody settles ends at its
	// deadline, and at a gone owner's a little later.
	s.set(func() { s.lost, s.late, s.unanswered, s.world.slow = 0, 0, 0, 0 })
	s.linger.Wait()
	for end := time.Now().Add(2*simWindow + 5*simDeadline + 6*simGone); s.busy() && time.Now().Before(end); {
		time.Sleep(simGone)
	}
	synctest.Wait()
	s.check()
	for _, r := range s.replicas {
		if r.p != nil {
			r.p.set(func() { r.p.dead = true })
			r.p.end()
		}
	}
}

// busy reports whether anything is still to come of what was admitted.
func (s *sim) busy() bool {
	return slices.ContainsFunc(s.replicas, func(r *replica) bool {
		p := s.process(r)
		if p == nil {
			return !r.lost
		}
		journal, relay := p.journal.Stats(), p.relay.Stats()
		return journal.Open+journal.Waiting > 0 || relay.Held+relay.Copies > 0
	})
}

func (s *sim) startReplica(r *replica) {
	s.mu.Lock()
	for _, a := range s.all {
		if a.owner == r {
			a.copiedTo = nil
		}
	}
	s.mu.Unlock()
	p := s.start(r.name, r.dir, s.sealer, simGone)
	s.mu.Lock()
	r.p = p
	s.mu.Unlock()
}

// process is a replica's, nil while it is down.
func (s *sim) process(r *replica) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.p
}

// admit lets some requests in at a replica that is there.
func (s *sim) admit() {
	r := s.replicas[s.pick(1+s.pick(3))] // most at those that most goes wrong with
	p := s.process(r)
	if p == nil {
		return
	}
	for range 1 + s.pick(3) {
		now := time.Now()
		id, deadline := fmt.Sprint("a", len(s.all)), simDeadline
		if s.chance(40) {
			deadline *= 5 // what goes wrong early in it is beyond the window at its end
		}
		a := &admitted{owner: r, Admission: &authz.Admission{
			ID: id, Replica: r.name, Workspace: "w", Key: id, Model: "m", Dialect: "openai", InputEstimate: 1, OutputEstimate: 2,
			Rates: simRates, Multiplier: money.New(4, 1), Billing: catalog.Billing{ChargeUnsettled: s.chance(50)},
			Start: now, Deadline: now.Add(deadline), Reserved: limit.Grant{At: now, Tokens: 10, Counted: 1 << limit.Key},
		}}
		p.settler.Restore(now, []*authz.Admission{a.Admission}) // in place of Reserve
		if err := p.ledger.Admit(a.Admission, a.AppendBinary(nil)); err != nil {
			s.t.Fatal(err)
		}
		s.mu.Lock()
		s.all = append(s.all, a)
		s.mu.Unlock()
		s.linger.Go(func() { s.envoy(a) })
	}
}

// envoy tells of the end of a request, or doesn't.
func (s *sim) envoy(a *admitted) {
	if s.chance(20) {
		return
	}
	if s.chance(50) {
		time.Sleep(s.between(0, 2*time.Second))
	} else {
		time.Sleep(s.between(0, simDeadline+simGone))
	}
	token := s.sealer.Seal(a.AppendBinary(nil))
	seen := authz.Observation{Status: 200, Upstream: "u", Reported: true, Tokens: authz.Tokens{Input: 7, Output: 3}, Complete: true}
	deliveries := 1 + s.pick(3) + s.more
	for until := time.Now().Add(time.Minute); deliveries > 0 && time.Now().Before(until); {
		if s.tell(s.replicas[s.pick(3)], a, token, seen) {
			deliveries--
			if s.chance(30) {
				time.Sleep(s.between(0, simWindow))
				until = time.Now().Add(time.Second)
			}
		}
		time.Sleep(s.between(0, time.Second))
	}
}

// tell is a settlement's way to a replica; false: Envoy comes again.
func (s *sim) tell(r *replica, a *admitted, token string, seen authz.Observation) bool {
	p := s.process(r)
	if p == nil || !p.alive() {
		return false
	}
	if err := p.settler.Settle(context.Background(), time.Now(), token, seen); err != nil || !p.alive() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.settledAt.IsZero() {
		a.settledAt = time.Now()
	}
	if r == a.owner {
		a.atOwner = true
	} else {
		a.toldTo = append(a.toldTo, r)
	}
	return true
}

// fault lets something happen, and undoes it after a while. Of three replicas at
// least one keeps its disk.
func (s *sim) fault() {
	r := s.replicas[s.pick(max(1, s.faulty))]
	away := s.away[s.pick(len(s.away))] + s.between(0, simGone)
	kind := s.faults[s.pick(len(s.faults))]
	p := s.process(r)
	switch {
	case kind == streamAway:
		s.takeStream(away)
	case p == nil || r.lost:
	case kind == cutOff:
		p.cut(away)
	case kind == killed:
		s.kill(r, away)
	case kind == left:
		s.leave(r, away)
	case !slices.ContainsFunc(s.replicas, func(r *replica) bool { return r.lost }):
		s.kill(r, -1)
	}
}

// takeStream leaves the stream without a leader for a while. What it was sent at
// the last it has stored.
func (s *sim) takeStream(away time.Duration) {
	if s.does() != answers {
		return
	}
	s.is(deaf)
	s.linger.Go(func() {
		time.Sleep(s.between(0, simGone))
		s.is(noLeader)
		time.Sleep(away)
		s.is(answers)
	})
}

// down takes a replica's process away.
func (s *sim) down(r *replica) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := r.p
	r.p = nil
	return p
}

// back starts a replica again, after a while.
func (s *sim) back(r *replica, after time.Duration) {
	s.linger.Go(func() {
		time.Sleep(after)
		s.startReplica(r)
	})
}

// kill kills a replica; away < 0: for good, with its disk.
func (s *sim) kill(r *replica, away time.Duration) {
	if s.chance(50) {
		synctest.Wait() // else in the middle of something
	}
	p := s.down(r)
	r.dir = p.kill()
	if away < 0 {
		r.lost = true
		return
	}
	s.back(r, away)
}

// leave ends a replica in good order, as SIGTERM does.
func (s *sim) leave(r *replica, away time.Duration) {
	p := s.down(r)
	p.set(func() { p.leaving = true })
	to := s.replicas[s.pick(3)]
	s.linger.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = p.relay.Flush(ctx)
		if to != r {
			if _, err := p.relay.HandOver(ctx, to.name); err == nil {
				s.handedOver(p, to)
			}
		}
		ctx, cancel = context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.journal.Flush(ctx)
		p.end()
		s.back(r, away)
	})
}

func (s *sim) handedOver(p *process, to *replica) {
	open := map[string]bool{}
	for _, a := range p.ledger.Open(time.Time{}) {
		open[a.ID] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.all {
		if open[a.ID] {
			a.copiedTo = to
		}
	}
}
