package events

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"tollgate/authz"
	"tollgate/events/journal"
)

// Ledger is where this replica's admissions are written down: authz.Ledger on a
// journal. It knows in memory which are open, and brings the events of those that
// are closed into the stream (Run). All methods are safe for concurrent use.
type Ledger struct {
	journal *journal.Journal
	source  string
	seed    maphash.Seed
	shards  [ledgerShards]ledgerShard
	foreign []*Foreign // what OpenLedger found
	shared  *shared    // nil: nobody else closes admissions. Set once, by Share
	effects *effects   // nil: events change nothing. Set once, by Affect
}

const ledgerShards = 64

// ledgerShard has open admissions by the request that they are of (see requestOf),
// so that those of one request find each other.
type ledgerShard struct {
	mu   sync.Mutex
	open map[string]*openAdmission // guarded by mu, as what hangs on it
}

type openAdmission struct {
	ref        journal.Ref
	admission  *authz.Admission
	superseded bool           // another one of the request was settled
	next       *openAdmission // of the same request

	generation uint64 // when it was admitted, see shared
	looked     uint64 // in which the stream was last looked into for it
}

// maxSiblings bounds how many admissions are filed under one request. More come
// from a proxy that takes the ids of its callers; they stand alone.
const maxSiblings = 8

// OpenLedger makes a ledger of a journal and what was open in it. An admission
// that can't be read stays in the journal, for a program that can, and is told to
// log. source is what the events' source will be, see Source.
func OpenLedger(j *journal.Journal, open []journal.Entry, source string, log *slog.Logger) *Ledger {
	l := &Ledger{journal: j, source: source, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].open = map[string]*openAdmission{}
	}
	for _, e := range open {
		if isLateEvent(e.Payload) {
			if err := l.finishLate(e); err != nil {
				log.Error("an adjustment in the journal can't be published and stays there", "error", err)
			}
			continue
		}
		if isForeign(e.Payload) {
			if err := l.findForeign(e); err != nil {
				log.Error("another replica's admission in the journal can't be read and stays there", "error", err)
			}
			continue
		}
		a, err := authz.ParseAdmission(e.Payload)
		if err != nil {
			log.Error("an open admission in the journal can't be read and stays there", "error", err)
			continue
		}
		s := l.shard(requestOf(a))
		s.mu.Lock()
		s.add(&openAdmission{ref: e.Ref, admission: a})
		s.mu.Unlock()
	}
	return l
}

// requestOf is what an admission is filed under: its request, where the proxy
// told which, else itself.
func requestOf(a *authz.Admission) string {
	if a.ProxyRequestID != "" {
		return a.ProxyRequestID
	}
	return a.ID
}

func (l *Ledger) shard(request string) *ledgerShard {
	return &l.shards[maphash.String(l.seed, request)%ledgerShards]
}

// add files an open admission. s.mu is held.
func (s *ledgerShard) add(o *openAdmission) {
	request := requestOf(o.admission)
	first := s.open[request]
	n := 0
	for at := first; at != nil; at = at.next {
		n++
	}
	if n < maxSiblings {
		o.next, s.open[request] = first, o
		return
	}
	// In the same shard, under a name that no request has.
	s.open[crowded(o.admission.ID)] = o
}

func crowded(id string) string { return "\x00" + id }

// take removes an open admission; nil: it is not there. Where it was settled, the
// others of its request are superseded. s.mu is held.
func (s *ledgerShard) take(a *authz.Admission, settled bool) (taken *openAdmission) {
	request := requestOf(a)
	first := s.open[request]
	var before *openAdmission
	for o := first; o != nil; o = o.next {
		if o.admission.ID == a.ID {
			taken = o
			break
		}
		before = o
	}
	switch {
	case taken == nil:
		taken = s.open[crowded(a.ID)]
		delete(s.open, crowded(a.ID))
		return taken
	case before != nil:
		before.next = taken.next
	case taken.next != nil:
		s.open[request] = taken.next
	default:
		delete(s.open, request)
	}
	taken.next = nil
	if settled {
		for o := s.open[request]; o != nil; o = o.next {
			o.superseded = true
		}
	}
	return taken
}

// Admit implements authz.Ledger. The admission is kept until it is closed and
// must not be changed any more.
func (l *Ledger) Admit(a *authz.Admission, written []byte) error {
	generation := l.shared.now() // before it can be settled anywhere
	ref, err := l.journal.Admit(written)
	if err != nil {
		return err
	}
	s := l.shard(requestOf(a))
	s.mu.Lock()
	s.add(&openAdmission{ref: ref, admission: a, generation: generation, looked: generation})
	s.mu.Unlock()
	return nil
}

// Close implements authz.Ledger. Which admissions are superseded is known for
// those that were open together in one process.
func (l *Ledger) Close(u *authz.Usage) (bool, error) {
	s, open := l.take(u)
	if open == nil {
		return false, nil
	}
	if open.superseded && u.Measurement == authz.None {
		u.Supersede()
	}
	e := FromUsage(l.source, u)
	out := l.outgoing(&e, Subject(e.Data.Workspace, e.Data.Key, e.Data.Model))
	l.shared.closing(out.MsgID, open.generation)
	err := l.journal.Settle(open.ref, out)
	if err == nil {
		return true, nil
	}
	l.shared.stored(out.MsgID)
	return false, l.reopen(s, open, err)
}

// take removes the open admission that u is of, and tells its shard; nil: it is not
// there.
func (l *Ledger) take(u *authz.Usage) (*ledgerShard, *openAdmission) {
	s := l.shard(requestOf(u.Admission))
	s.mu.Lock()
	defer s.mu.Unlock()
	return s, s.take(u.Admission, u.Measurement != authz.None)
}

// reopen puts back what was taken to be ended, which failed; unless somebody else
// had ended it in the journal.
func (l *Ledger) reopen(s *ledgerShard, open *openAdmission, err error) error {
	if errors.Is(err, journal.ErrSettled) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(open)
	return err
}

func (l *Ledger) outgoing(e *Event, subject string) journal.Event {
	return journal.Event{Subject: subject, MsgID: MsgID(l.source, e.ID), Payload: e.AppendJSON(make([]byte, 0, 1024))}
}

// Adjust implements authz.Ledger.
func (l *Ledger) Adjust(u *authz.Usage) error {
	e := Adjustment(l.source, u)
	return l.publishLate(l.outgoing(&e, AdjustedSubject(e.Data.Workspace, e.Data.Key, e.Data.Model)))
}

// OfRequest returns the open admissions of a request, by the proxy's id of it.
func (l *Ledger) OfRequest(id string) []*authz.Admission {
	s := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	var open []*authz.Admission
	for o := s.open[id]; o != nil; o = o.next {
		if o.admission.ProxyRequestID == id {
			open = append(open, o.admission)
		}
	}
	return open
}

// Open returns the admissions that nobody has closed and whose deadline is
// before the given time; with a zero time, all.
func (l *Ledger) Open(deadlineBefore time.Time) []*authz.Admission {
	var open []*authz.Admission
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for _, first := range s.open {
			for o := first; o != nil; o = o.next {
				if deadlineBefore.IsZero() || o.admission.Deadline.Before(deadlineBefore) {
					open = append(open, o.admission)
				}
			}
		}
		s.mu.Unlock()
	}
	return open
}

// Publisher is a stream of events. Usage is one.
type Publisher interface {
	// PublishBatch is Usage's.
	PublishBatch(ctx context.Context, batch []Outgoing) []error
}

// Run brings events into the stream until ctx ends, and returns why it stopped.
// Events that are not acknowledged stay in the journal. Only one Run may be
// under way.
func (l *Ledger) Run(ctx context.Context, stream Publisher) error {
	return l.journal.Run(ctx, func(ctx context.Context, batch []journal.Outgoing) []error {
		out := make([]Outgoing, len(batch))
		for i, e := range batch {
			out[i] = Outgoing{Subject: e.Subject, MsgID: e.MsgID, Payload: e.Payload, Epoch: e.Epoch, Seq: e.Seq}
		}
		if l.shared != nil {
			return l.effects.publishAfter(ctx, out, l.shared.publish)
		}
		return l.effects.publishAfter(ctx, out, stream.PublishBatch)
	})
}
