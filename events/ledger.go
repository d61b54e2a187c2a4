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
}

const ledgerShards = 64

type ledgerShard struct {
	mu   sync.Mutex
	open map[string]openAdmission // by admission id
}

type openAdmission struct {
	ref       journal.Ref
	admission *authz.Admission
}

// OpenLedger makes a ledger of a journal and what was open in it. An admission
// that can't be read stays in the journal, for a program that can, and is told to
// log. source is what the events' source will be, see Source.
func OpenLedger(j *journal.Journal, open []journal.Entry, source string, log *slog.Logger) *Ledger {
	l := &Ledger{journal: j, source: source, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].open = map[string]openAdmission{}
	}
	for _, e := range open {
		a, err := authz.ParseAdmission(e.Payload)
		if err != nil {
			log.Error("an open admission in the journal can't be read and stays there", "error", err)
			continue
		}
		l.shard(a.ID).open[a.ID] = openAdmission{e.Ref, a}
	}
	return l
}

func (l *Ledger) shard(id string) *ledgerShard {
	return &l.shards[maphash.String(l.seed, id)%ledgerShards]
}

// Admit implements authz.Ledger. The admission is kept until it is closed and
// must not be changed any more.
func (l *Ledger) Admit(a *authz.Admission, written []byte) error {
	ref, err := l.journal.Admit(written)
	if err != nil {
		return err
	}
	s := l.shard(a.ID)
	s.mu.Lock()
	s.open[a.ID] = openAdmission{ref, a}
	s.mu.Unlock()
	return nil
}

// Close implements authz.Ledger.
func (l *Ledger) Close(u *authz.Usage) (bool, error) {
	id := u.Admission.ID
	s := l.shard(id)
	s.mu.Lock()
	open, ok := s.open[id]
	delete(s.open, id)
	s.mu.Unlock()
	if !ok {
		return false, nil
	}
	ev := FromUsage(l.source, u)
	err := l.journal.Settle(open.ref, journal.Event{
		Subject: Subject(u.Admission.Workspace, u.Admission.Key, u.Admission.Model),
		MsgID:   MsgID(l.source, id),
		Payload: ev.AppendJSON(make([]byte, 0, 1024)),
	})
	if errors.Is(err, journal.ErrSettled) {
		return false, nil
	}
	if err != nil {
		s.mu.Lock()
		s.open[id] = open
		s.mu.Unlock()
		return false, err
	}
	return true, nil
}

// Open returns the admissions that nobody has closed and whose deadline is
// before the given time; with a zero time, all.
func (l *Ledger) Open(deadlineBefore time.Time) []*authz.Admission {
	var open []*authz.Admission
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for _, o := range s.open {
			if deadlineBefore.IsZero() || o.admission.Deadline.Before(deadlineBefore) {
				open = append(open, o.admission)
			}
		}
		s.mu.Unlock()
	}
	return open
}

// Run brings events into the stream until ctx ends, and returns why it stopped.
// Events that are not acknowledged stay in the journal. Only one Run may be
// under way.
func (l *Ledger) Run(ctx context.Context, stream *Usage) error {
	return l.journal.Run(ctx, func(ctx context.Context, batch []journal.Outgoing) []error {
		out := make([]Outgoing, len(batch))
		for i, e := range batch {
			out[i] = Outgoing{Subject: e.Subject, MsgID: e.MsgID, Payload: e.Payload}
		}
		return stream.PublishBatch(ctx, out)
	})
}
