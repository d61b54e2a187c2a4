package totals

import (
	"hash/maphash"
	"sync"
	"time"

	"tollgate/authz/money"
)

// spending is what accounts have spent, for who asks again and again while a request
// waits. An account is kept from the first question about it on, some 300 bytes for
// as long as the process runs. It has locks of its own, so that nobody waits for a
// query of the totals or for another account.
type spending struct {
	seed   maphash.Seed
	shards [spendingShards]struct {
		mu       sync.Mutex
		accounts map[account]*spent // guarded by mu, as what hangs on it
	}
}

const spendingShards = 64

// account is a workspace, or one of its keys.
type account struct{ workspace, key string }

// spent is what an account has spent: ever, and in the two newest days and months
// (UTC) in which it spent anything.
type spent struct {
	ever         money.Amount
	days, months periods
	// summed is closed once what was used before the account was made is in it.
	summed chan struct{}
}

// periods are two stretches of time, the newer one first.
type periods [2]period

type period struct {
	from uint32 // the minute that it begins; 0: there is none
	cost money.Amount
}

// add counts a cost. What is older than both periods is not kept.
func (p *periods) add(from uint32, cost money.Amount) {
	switch {
	case from == p[0].from:
		p[0].cost = p[0].cost.Add(cost)
	case from > p[0].from:
		p[0], p[1] = period{from, cost}, p[0]
	case from == p[1].from:
		p[1].cost = p[1].cost.Add(cost)
	case from > p[1].from:
		p[1] = period{from, cost}
	}
}

// since is the cost from a period's beginning on; false: that is not kept any more.
func (p *periods) since(from uint32) (cost money.Amount, ok bool) {
	for i := range p {
		if p[i].from >= from {
			cost = cost.Add(p[i].cost)
		}
	}
	return cost, from >= p[1].from
}

func (s *spent) add(minute uint32, cost money.Amount) {
	s.ever = s.ever.Add(cost)
	s.days.add(dayOf(minute), cost)
	s.months.add(monthOf(minute), cost)
}

// merge adds what another one has.
func (s *spent) merge(o *spent) {
	s.ever = s.ever.Add(o.ever)
	for i := range o.days {
		s.days.add(o.days[i].from, o.days[i].cost)
		s.months.add(o.months[i].from, o.months[i].cost)
	}
}

func (s *spent) since(from time.Time) (money.Amount, bool) {
	if from.IsZero() {
		return s.ever, true
	}
	minute := minuteAt(from)
	if cost, ok := s.days.since(minute); ok {
		return cost, true
	}
	if monthOf(minute) != minute {
		return money.Amount{}, false
	}
	return s.months.since(minute)
}

func dayOf(minute uint32) uint32 { return minute - minute%perDay }

func monthOf(minute uint32) uint32 {
	day := time.Unix(int64(minute)*60, 0).UTC()
	return dayOf(minute) - uint32(day.Day()-1)*perDay
}

func newSpending() *spending {
	s := &spending{seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].accounts = map[account]*spent{}
	}
	return s
}

// forget lets go of all accounts: what they spent is summed up anew when somebody asks.
func (s *spending) forget() {
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		clear(shard.accounts)
		shard.mu.Unlock()
	}
}

// with calls f with the account, nil where it is not kept, while nobody else has it.
func (s *spending) with(a account, f func(*spent, map[account]*spent)) {
	shard := &s.shards[maphash.Comparable(s.seed, a)%spendingShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	f(shard.accounts[a], shard.accounts)
}

// add counts an event for the accounts that are kept.
func (s *spending) add(e *event) {
	if e.counts.Cost.IsZero() {
		return
	}
	for _, a := range [...]account{{e.workspace, ""}, {e.workspace, e.key}} {
		s.with(a, func(of *spent, _ map[account]*spent) {
			if of != nil {
				of.add(minuteOf(e.at), e.counts.Cost)
			}
		})
		if e.key == "" {
			return // one account
		}
	}
}

// Spent is the exact cost of the requests of a workspace, or of one of its keys,
// that began at from or later, as far as they are counted. from is the beginning of
// a day or a month, UTC, or zero: ever.
//
// It does not wait for queries. The first question about an account, and those about
// periods before the last two in which it spent anything, sum up all that it ever
// used: some milliseconds where that is much.
func (f *Folder) Spent(workspace, key string, from time.Time) money.Amount {
	a := account{workspace, key}
	var cost money.Amount
	var ok bool
	var summed chan struct{}
	f.spending.with(a, func(of *spent, _ map[account]*spent) {
		if of != nil {
			summed = of.summed
			cost, ok = of.since(from)
		}
	})
	if summed == nil {
		f.keepSpent(a)
		return f.Spent(workspace, key, from)
	}
	select {
	case <-summed:
	default:
		<-summed
		return f.Spent(workspace, key, from)
	}
	if ok {
		return cost
	}
	f.mu.RLock()
	parts := f.state.parts(a)
	f.mu.RUnlock()
	return parts.since(minuteAt(from))
}

// keepSpent begins to keep an account, and returns when what it had spent before is
// in it.
func (f *Folder) keepSpent(a account) {
	made := &spent{summed: make(chan struct{})}
	// No event is counted meanwhile: each one is in the parts or comes behind them.
	f.mu.RLock()
	first := false
	f.spending.with(a, func(of *spent, accounts map[account]*spent) {
		if first = of == nil; first {
			accounts[a] = made
		}
	})
	var parts spentParts
	if first {
		parts = f.state.parts(a)
	}
	f.mu.RUnlock()
	if !first {
		return
	}
	before := parts.sum()
	f.spending.with(a, func(*spent, map[account]*spent) { made.merge(before) })
	close(made.summed)
}

// spentParts are histories, which don't change.
type spentParts struct {
	packed [][]byte
	hot    []entry
}

// parts are the histories of an account. It looks at each of its series.
func (s *state) parts(a account) (p spentParts) {
	s.match(&Query{Workspace: a.workspace, Key: a.key}, func(x *series) {
		p.hot = append(p.hot, x.hot...)
		if len(x.packed) > 0 {
			p.packed = append(p.packed, x.packed)
		}
	})
	return p
}

func (p *spentParts) each(yield func(*entry)) {
	for _, b := range p.packed {
		unpack(b, yield)
	}
	for i := range p.hot {
		yield(&p.hot[i])
	}
}

func (p *spentParts) sum() *spent {
	s := &spent{}
	p.each(func(e *entry) {
		if !e.Cost.IsZero() {
			s.add(e.minute, e.Cost)
		}
	})
	return s
}

func (p *spentParts) since(minute uint32) (cost money.Amount) {
	p.each(func(e *entry) {
		if e.minute >= minute {
			cost = cost.Add(e.Cost)
		}
	})
	return cost
}
