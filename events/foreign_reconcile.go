package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tollgate/authz"
)

// errDoubt says that this replica does not know what others closed.
var errDoubt = errors.New("this replica can't be sure that its heartbeats are seen")

// Reconcile looks into the stream for the admissions that are open here and that
// others may have closed, and calls elsewhere with what it says of each that it
// has. Each is looked for once after a doubt, so a call mostly does nothing. An
// error means that it is not known of all yet: they should not be closed for
// want of a settlement. It asks NATS for up to a minute.
func (l *Ledger) Reconcile(ctx context.Context, elsewhere func(*authz.Usage) error) error {
	if l.shared == nil || l.shared.standing == nil {
		return nil
	}
	generation := l.shared.look(time.Now())
	open := l.notLooked(generation)
	if len(open) == 0 {
		return nil
	}
	if !l.shared.standing.Fresh(l.shared.gone / 2) {
		return errDoubt
	}
	const together = 1024
	for len(open) > 0 {
		n := min(together, len(open))
		if err := l.reconcile(ctx, generation, open[:n], elsewhere); err != nil {
			return err
		}
		open = open[n:]
	}
	return nil
}

func (l *Ledger) reconcile(ctx context.Context, generation uint64, open []*openAdmission, elsewhere func(*authz.Usage) error) error {
	sought := make([]Sought, len(open))
	for i, o := range open {
		sought[i] = l.Sought(o.admission)
	}
	found, _, err := l.shared.stream.Look(ctx, sought, time.Now())
	if err != nil {
		return fmt.Errorf("looking for what others closed: %w", err)
	}
	for i, o := range open {
		if u := found[i].Of(o.admission); u != nil {
			if err := elsewhere(u); err != nil {
				return err
			}
		}
		s := l.shard(requestOf(o.admission))
		s.mu.Lock()
		o.looked = generation
		s.mu.Unlock()
	}
	return nil
}

// Sought is what to look for an admission by.
func (l *Ledger) Sought(a *authz.Admission) Sought {
	return Sought{MsgID: MsgID(l.source, a.ID), Subject: Subject(a.Workspace, a.Key, a.Model), Start: a.Start}
}

// Of is what the stream says became of an admission; nil: it does not say.
func (f *Found) Of(a *authz.Admission) *authz.Usage {
	if f.Usage == nil {
		return nil
	}
	return &authz.Usage{
		Admission: a, Outcome: f.Usage.Outcome, Measurement: f.Usage.Measurement,
		Tokens:   authz.Tokens{Input: f.Usage.InputTokens, Output: f.Usage.OutputTokens},
		ListCost: f.Usage.ListCost, Cost: f.Usage.Cost,
	}
}

// notLooked are the open admissions that were not looked for since a generation
// began.
func (l *Ledger) notLooked(generation uint64) []*openAdmission {
	var open []*openAdmission
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for _, first := range s.open {
			for o := first; o != nil; o = o.next {
				if o.looked != generation {
					open = append(open, o)
				}
			}
		}
		s.mu.Unlock()
	}
	return open
}

// Release ends an admission of this replica without an event, because another
// replica has published what became of it: u. It reports whether it was open. An
// error means that it is still.
func (l *Ledger) Release(u *authz.Usage) (bool, error) {
	s, open := l.take(u)
	if open == nil {
		return false, nil
	}
	if err := l.journal.Release(open.ref); err != nil {
		return false, l.reopen(s, open, err)
	}
	return true, nil
}

// Look looks into the stream for admissions of other replicas.
func (l *Ledger) Look(ctx context.Context, sought []Sought) ([]Found, error) {
	found, _, err := l.shared.stream.Look(ctx, sought, time.Now())
	return found, err
}

// Watch lets the ledger know whether this replica can be taken for gone by
// others. It is called several times in Gone/4, or events are taken for contested
// that need not be.
func (l *Ledger) Watch(now time.Time) {
	if l.shared != nil {
		l.shared.look(now)
	}
}
