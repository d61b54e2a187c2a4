package relay

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/authz"
	"tollgate/authz/limit"
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

type sim struct {
	*world
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
	// ended says that a process of it has ended: what was in its memory is gone.
	ended bool
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
	sealer, err := authz.NewSealer(1, map[byte][]byte{1: bytes.Repeat([]byte{1}, authz.MinSealingKey)})
	if err != nil {
		t.Fatal(err)
	}
	s := &sim{world: w, t: t, sealer: sealer}
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
			s.fault(s.replicas[s.pick(3)])
		}
		time.Sleep(s.between(0, 8*time.Second))
	}
	for _, r := range s.replicas {
		if p := s.process(r); p != nil {
			p.set(func() { p.connected = true })
		}
	}
	// Whoever is to come back has: see fault. What nobody settles ends at its
	// deadline, and at a gone owner's a little later.
	time.Sleep(2*simWindow + 5*simDeadline + 6*simGone)
	s.linger.Wait()
	synctest.Wait()
	s.check()
	for _, r := range s.replicas {
		if r.p != nil {
			r.p.set(func() { r.p.dead = true })
			r.p.end()
		}
	}
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
	r := s.replicas[s.pick(3)]
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
			ID: id, Replica: r.name, Workspace: "w", Key: id, Model: "m", Dialect: "openai", InputEstimate: 1,
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
	deliveries := 1 + s.pick(3)
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

// fault lets something happen to a replica, and undoes it after a while. Of three
// replicas at least one keeps its disk.
func (s *sim) fault(r *replica) {
	p := s.process(r)
	if p == nil || r.lost {
		return
	}
	away := []time.Duration{0, simGone / 2, 2 * simGone, simWindow + 2*simGone}[s.pick(4)]
	away += s.between(0, simGone/2)
	switch n := s.pick(10); {
	case n < 4: // cut off
		p.set(func() { p.connected = false })
		s.linger.Go(func() {
			time.Sleep(away)
			p.set(func() { p.connected = true })
		})
	case n < 7:
		s.kill(r, away)
	case n < 9:
		s.leave(r, away)
	default:
		lost := 0
		for _, r := range s.replicas {
			if r.lost {
				lost++
			}
		}
		if lost == 0 {
			s.kill(r, -1)
		}
	}
}

// down takes a replica's process away.
func (s *sim) down(r *replica) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := r.p
	r.p, r.ended = nil, true
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
