// Package relay is what replicas do for each other's admissions. An admission
// belongs to the replica that made it; what another one is told of its end it
// writes down, brings to the owner, and lets go of when the owner has recorded
// it. When the owner is gone, it closes the admission in the owner's place. At
// its end a replica hands what is open over to another, which keeps its slots and
// closes what nobody settles.
//
// That no admission is closed twice is not decided here, but where its event is
// published: see events.Ledger's Share.
package relay

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tollgate/authz"
	"tollgate/events"
)

// Gone is for how long nobody may have heard of a replica before others close its
// admissions, unless Config says otherwise.
const Gone = 2 * time.Minute

// Peers is what is known of the replicas. It is safe for concurrent use and does
// not block.
type Peers interface {
	events.Standing // of this replica
	// Gone is for how long nothing has been heard of a replica; 0: it is there.
	// One that was never heard of has been gone since this replica can know.
	Gone(replica string) time.Duration
	// Incarnation names the process that a replica was last heard as; "": it
	// never was.
	Incarnation(replica string) string
}

// Config is what a Relay works with; everything but Gone is needed.
type Config struct {
	// Incarnation is this process of the replica, as Peers of others name it.
	Incarnation string
	Ledger      *events.Ledger // of this replica, shared (see its Share)
	Settler     *authz.Settler // of this replica. Its Foreign is to be Take
	Peers       Peers
	Link        Link
	// Gone must be the Gone of the Ledger's Sharing. 0: Gone.
	Gone time.Duration
	Log  *slog.Logger
}

// Relay is told in the package's comment. All methods are safe for concurrent
// use.
type Relay struct {
	cfg Config
	// wake has a token after something was added or has landed.
	wake chan struct{}

	mu      sync.Mutex
	custody custody       // guarded by mu, as the following
	copies  copies        //
	empty   chan struct{} // closed when custody comes to be empty; nil: nobody asked

	delivered, inPlace, malformed, refused atomic.Int64
}

// New makes the Relay of a replica, with what its journal kept, and takes slots
// and reservations of copies in the limits.
func New(cfg Config) *Relay {
	if cfg.Gone == 0 {
		cfg.Gone = Gone
	}
	r := &Relay{
		cfg: cfg, wake: make(chan struct{}, 1),
		custody: custody{owners: map[string]*owner{}},
		copies:  copies{owners: map[string]*adopted{}},
	}
	now := time.Now()
	var kept []*authz.Admission
	all := cfg.Ledger.Foreign()
	for _, f := range all {
		if f.Seen != nil && !r.custody.add(now, f, size(f.Admission)) {
			r.drop(f)
		}
	}
	for _, f := range all {
		if f.Seen != nil {
			continue
		}
		if r.custody.has(f.Admission.Replica, f.Admission.ID) || !r.copies.add(now, f) {
			r.drop(f)
			continue
		}
		kept = append(kept, f.Admission)
	}
	cfg.Settler.Restore(now, kept)
	return r
}

// size is about what an admission takes in a request.
func size(a *authz.Admission) int { return 256 + len(a.AppendBinary(nil)) }

// Take writes down a settlement of another replica's admission; it is authz's
// Settler.Foreign. On nil it will be seen to, also by the next process; the work
// is done by Run.
func (r *Relay) Take(a *authz.Admission, o authz.Observation) error {
	f, err := r.cfg.Ledger.Hold(a, o)
	if err != nil {
		return err
	}
	now := time.Now()
	r.mu.Lock()
	added := r.custody.add(now, f, size(a))
	copied := r.copies.take(a.Replica, a.ID)
	r.mu.Unlock()
	if !added {
		r.drop(f)
	}
	if copied != nil {
		// The request has ended, so what it holds here need not wait for the owner.
		r.drop(copied)
		r.cfg.Settler.GiveBack(now, authz.Measure(a, o, r.cfg.Settler.Estimator))
	}
	r.wakeUp()
	return nil
}

// drop lets go of what is in the journal. Should that fail, the journal is being
// closed: the next process finds it there and finds out again.
func (r *Relay) drop(f *events.Foreign) {
	if err := r.cfg.Ledger.Drop(f); err != nil {
		r.cfg.Log.Warn("another replica's admission stays in the journal until the next start", "id", f.Admission.ID, "error", err)
	}
}

func (r *Relay) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run answers other replicas, brings them what is theirs, and closes what is
// theirs while they are gone, until ctx ends. Only one Run may be under way. An
// error means that it can't answer.
func (r *Relay) Run(ctx context.Context) error {
	self := r.cfg.Settler.Replica
	stopSettle, err := r.cfg.Link.Answer(settleSubject(self), r.answerSettle)
	if err != nil {
		return err
	}
	defer stopSettle()
	stopAdopt, err := r.cfg.Link.Answer(adoptSubject(self), r.answerAdopt)
	if err != nil {
		return err
	}
	defer stopAdopt()
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { r.watch(ctx) })
	r.forward(ctx, &tasks)
	return nil
}

// Stats are figures for metrics.
type Stats struct {
	Held      int   // settlements that wait for their owner
	Copies    int   // admissions that owners handed over
	Delivered int64 // settlements that owners have recorded, since New
	InPlace   int64 // admissions closed in place of their owner
	Malformed int64 // requests that could not be read
	Refused   int64 // settlements and copies that were not for this replica, or not sealed by this deployment
}

// Stats returns the current figures.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{
		Held: r.custody.count, Copies: r.copies.count, Delivered: r.delivered.Load(),
		InPlace: r.inPlace.Load(), Malformed: r.malformed.Load(), Refused: r.refused.Load(),
	}
}
