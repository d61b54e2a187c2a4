package authz

import (
	"hash/maphash"
	"time"

	"tollgate/authz/limit"
	"tollgate/authz/money"
)

// noted is one request.
type noted struct {
	tenant  *tenant
	id, key string
	start   time.Time

	// The following is guarded by the tenant's lock. While that is held a shard's may
	// be taken, never the other way round.
	cost    money.Amount // its estimate, or what it turned out to be
	closed  time.Time    // when that was known; zero: it is open
	gone    bool         // it counts no more
	folding bool         // it is in the tenant's
}

// Restore notes an admission that is open from before a restart, or that another
// replica handed over, with what it holds. Again, it changes nothing.
func (b *Budgets) Restore(a *Admission) {
	if b == nil || !a.priced() {
		return
	}
	t := b.tenant(a.Workspace)
	t.mu.Lock()
	defer t.mu.Unlock()
	b.note(t, &noted{id: a.ID, key: a.Key, start: a.Start, cost: a.Held})
}

// Owe notes a request that ended before a restart and whose event the totals may
// not have.
func (b *Budgets) Owe(now time.Time, id, workspace, keyID string, start time.Time, cost money.Amount) {
	if cost.Sign() <= 0 {
		return
	}
	t := b.tenant(workspace)
	t.mu.Lock()
	defer t.mu.Unlock()
	b.note(t, &noted{id: id, key: keyID, start: start, cost: cost, closed: now})
}

// Settle says what a request cost: what was held for it is free again. It counts
// once; of a request that is not noted, or whose event the totals have already,
// nothing changes.
func (b *Budgets) Settle(now time.Time, a *Admission, cost money.Amount) {
	if b == nil {
		return
	}
	n := b.lock(a.ID)
	if n == nil {
		return
	}
	t := n.tenant
	defer t.mu.Unlock()
	if n.gone || !n.closed.IsZero() {
		return
	}
	t.remove(n)
	n.cost, n.closed = cost, now
	if cost.Sign() <= 0 {
		n.gone = true
		b.unfile(n)
		return
	}
	t.add(n)
}

// Folding says that the totals are about to have the event of a request, by its id.
// Folded follows.
func (b *Budgets) Folding(id string) {
	n := b.lock(id)
	if n == nil {
		return
	}
	t := n.tenant
	defer t.mu.Unlock()
	if !n.gone {
		t.remove(n)
		n.gone, n.folding = true, true
		t.folding = t.folding.Add(n.cost)
	}
}

// Folded says that the totals have the event, so that the request counts no more.
func (b *Budgets) Folded(id string) {
	n := b.lock(id)
	if n == nil {
		return
	}
	t := n.tenant
	defer t.mu.Unlock()
	if n.folding {
		n.folding = false
		t.folding, t.folded = t.folding.Sub(n.cost), t.folded.Add(n.cost)
		b.unfile(n)
	}
}

// Forget lets go of the requests that ended before a time: whoever calls it knows
// that the totals have all of their events, also such as Folded was not told of,
// because they were there before the request was noted.
func (b *Budgets) Forget(endedBefore time.Time) {
	for i := range b.noted {
		s := &b.noted[i]
		s.mu.Lock()
		all := make([]*noted, 0, len(s.byID))
		for _, n := range s.byID {
			all = append(all, n)
		}
		s.mu.Unlock()
		for _, n := range all {
			n.tenant.mu.Lock()
			if !n.gone && !n.closed.IsZero() && n.closed.Before(endedBefore) {
				b.drop(n)
			}
			n.tenant.mu.Unlock()
		}
	}
}

// Noted is how many requests are noted.
func (b *Budgets) Noted() int {
	sum := 0
	for i := range b.noted {
		s := &b.noted[i]
		s.mu.Lock()
		sum += len(s.byID)
		s.mu.Unlock()
	}
	return sum
}

// note counts a request, unless one of its id is noted; t.mu is held.
func (b *Budgets) note(t *tenant, n *noted) {
	n.tenant = t
	if b.file(n) {
		t.add(n)
	}
}

// drop makes a request count no more; its tenant's lock is held.
func (b *Budgets) drop(n *noted) {
	n.tenant.remove(n)
	n.gone = true
	b.unfile(n)
}

func (b *Budgets) shard(id string) *notedShard {
	return &b.noted[maphash.String(b.seed, id)%notedShards]
}

// lock finds a request and takes its tenant's lock, which the caller gives back; nil:
// it is not noted, and nothing is locked.
func (b *Budgets) lock(id string) *noted {
	s := b.shard(id)
	s.mu.Lock()
	n := s.byID[id]
	s.mu.Unlock() // a tenant's comes before a shard's
	if n != nil {
		n.tenant.mu.Lock()
	}
	return n
}

// file makes a request known by its id, unless there is one.
func (b *Budgets) file(n *noted) bool {
	s := b.shard(n.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[n.id] != nil {
		return false
	}
	s.byID[n.id] = n
	return true
}

func (b *Budgets) unfile(n *noted) {
	s := b.shard(n.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, n.id)
}

// add counts a request in its accounts; t.mu is held.
func (t *tenant) add(n *noted) {
	t.all.of(n).Add(n.start, n.cost)
	if n.key == "" {
		return
	}
	acc := t.keys[n.key]
	if acc == nil {
		acc = &account{}
		t.keys[n.key] = acc
	}
	acc.of(n).Add(n.start, n.cost)
}

// remove undoes add; t.mu is held.
func (t *tenant) remove(n *noted) {
	t.all.of(n).Remove(n.start, n.cost)
	acc := t.keys[n.key]
	if acc == nil {
		return
	}
	acc.of(n).Remove(n.start, n.cost)
	if acc.open.Empty() && acc.closed.Empty() {
		delete(t.keys, n.key)
	}
}

// of is where a request counts.
func (a *account) of(n *noted) *limit.Spend {
	if n.closed.IsZero() {
		return &a.open
	}
	return &a.closed
}
