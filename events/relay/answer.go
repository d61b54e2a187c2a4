package relay

import (
	"time"

	"golang.org/x/sync/errgroup"

	"tollgate/authz"
	"tollgate/events"
)

// atOnce is how many settlements of a request are written down at the same time,
// so that they share a flush of the journal where it waits for the disk.
const atOnce = 16

// answerSettle takes settlements of this replica's admissions that others were
// told of.
func (r *Relay) answerSettle(request []byte) []byte {
	all, err := decodeSettle(request)
	if err != nil {
		return r.refuse(err)
	}
	answers := make([]answer, len(all))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range all {
		group.Go(func() error {
			answers[i] = r.settle(&all[i])
			return nil
		})
	}
	_ = group.Wait() // each has its answer
	return encodeAnswers(answers)
}

func (r *Relay) settle(s *settlement) answer {
	a, err := r.cfg.Settler.Sealer.Open(s.token)
	if err != nil || a.Replica != r.cfg.Settler.Replica {
		r.refused.Add(1)
		return answerRefused
	}
	if err := r.cfg.Settler.SettleHeld(time.Now(), s.token, s.seen); err != nil {
		return answerAgain
	}
	return answerRecorded
}

// refuse answers a request that can't be read: nothing in it was recorded.
func (r *Relay) refuse(err error) []byte {
	r.malformed.Add(1)
	r.cfg.Log.Warn("a request of another replica was refused", "error", err)
	return encodeAnswers(nil)
}

// answerAdopt takes copies of admissions whose owner is about to leave.
func (r *Relay) answerAdopt(request []byte) []byte {
	h, err := decodeAdopt(request)
	if err != nil {
		return r.refuse(err)
	}
	answers := make([]answer, len(h.tokens))
	for i, token := range h.tokens {
		a, err := r.cfg.Settler.Sealer.Open(token)
		if err != nil || a.Replica != h.owner || a.Replica == r.cfg.Settler.Replica {
			r.refused.Add(1)
			answers[i] = answerRefused
			continue
		}
		answers[i] = answerRecorded
		if err := r.adopt(a, h.incarnation); err != nil {
			answers[i] = answerAgain
		}
	}
	return encodeAnswers(answers)
}

// adopt keeps a copy, unless there is one, or a settlement.
func (r *Relay) adopt(a *authz.Admission, incarnation string) error {
	if r.knows(a) {
		return nil
	}
	f, err := r.cfg.Ledger.Copy(a, incarnation)
	if err != nil {
		return err
	}
	now := time.Now()
	// Before anybody can find the copy and give it back.
	r.cfg.Settler.Restore(now, []*authz.Admission{a})
	r.mu.Lock()
	added := !r.custody.has(a.Replica, a.ID) && r.copies.add(now, f)
	r.mu.Unlock()
	if !added {
		r.giveUp(now, f)
	}
	return nil
}

// giveUp ends a copy that nothing follows from: what it holds comes back as if the
// request had never been here.
func (r *Relay) giveUp(now time.Time, f *events.Foreign) {
	r.drop(f)
	r.cfg.Settler.GiveBack(now, &authz.Usage{Admission: f.Admission, Outcome: authz.NotSent})
}

func (r *Relay) knows(a *authz.Admission) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.custody.has(a.Replica, a.ID) || r.copies.has(a.Replica, a.ID)
}
