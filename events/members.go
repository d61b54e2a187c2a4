package events

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Lease is what heartbeats renew: this replica's right to answer by what it has
// applied. Begin is called before a heartbeat is sent, and grant when it came back
// behind everything that was stored before it. Age is how long ago the heartbeat
// was sent that the lease goes by, by a clock that goes on while the machine
// sleeps.
type Lease interface {
	Begin() (grant func())
	GiveUp()
	Age() time.Duration
}

// MembersConfig is what Members need. Keys, Replica, Bound and Lease are required.
type MembersConfig struct {
	// Keys is the store, with the rights of a replica.
	Keys *Keys
	// Changes is the same store with the rights of who makes changes: Wait asks it
	// who there is, by a request that a replica has no right to. Nil: Keys.
	Changes *Keys
	// Replica is this one's name, [A-Za-z0-9_-]{1,64}: the same after a restart,
	// and no other's.
	Replica string
	// Incarnation is the process's. Empty: a fresh UUID.
	Incarnation string
	// Bound is for how long a heartbeat grants the lease, 1 ms to 24 h. It should
	// be the same everywhere; others go by what the heartbeat says.
	Bound time.Duration
	// Every is the time between two heartbeats. Zero: 1 s.
	Every time.Duration
	// Version is this program's, for people who look at the bucket.
	Version string
	// Deployment is the name of the one that this replica is of, for Strangers.
	Deployment string
	Lease      Lease
	// Logger. Nil: slog.Default().
	Logger *slog.Logger
}

// Members knows which replicas there are and what each has applied, and says the
// same of this one: by a heartbeat under h.<replica> in the bucket of keys. The
// Feed that it is given to (Feed.Members) reads for it and runs it.
//
// A heartbeat of ours that the feed brings back proves that everything was applied
// that was stored before it, and extends the lease to the time of its sending +
// the bound. Each is a compare-and-set on the one before. Where that fails, or
// where the name does not hold what we wrote when a session of the feed begins,
// the store is not the one it was, and everything is forgotten and read anew.
//
// Heartbeats stay when their replica is gone. They are of no consequence once they
// are older than their bound by an hour, and may be deleted by hand then; a
// replica that runs must not lose its own.
//
// All methods are safe for concurrent use.
type Members struct {
	cfg     MembersConfig
	changes changes
	lister  changes // for heartbeats
	log     *slog.Logger

	writing chan struct{} // holds a token for who writes our heartbeat

	mu      sync.Mutex
	changed chan struct{} // closed when anything below changed, and replaced
	roll    *roll
	own     own
	applied uint64
	told    uint64 // applied when a key or a document was applied last
	// strange is until when replicas may go by a store that was here before.
	strange time.Time
	caught  map[string]entry // heartbeats read since the session began, while it is not whole
	ear     ear
	left    bool
}

// NewMembers makes the members of a deployment. Nothing happens before the Feed
// runs that they are given to.
func NewMembers(cfg MembersConfig) (*Members, error) {
	if cfg.Changes == nil {
		cfg.Changes = cfg.Keys
	}
	return newMembers(cfg.Keys.bucket, cfg.Changes.bucket, cfg)
}

func newMembers(c, lister changes, cfg MembersConfig) (*Members, error) {
	switch {
	case !keyIDForm.MatchString(cfg.Replica):
		return nil, fmt.Errorf("the replica's name %q must be 1 to 64 of A-Z, a-z, 0-9, _ and -", cfg.Replica)
	case cfg.Bound < time.Millisecond || cfg.Bound > longestBound:
		return nil, fmt.Errorf("a revocation bound of %v: want 1ms to %v", cfg.Bound, longestBound)
	}
	if cfg.Every == 0 {
		cfg.Every = time.Second
	}
	if cfg.Incarnation == "" {
		cfg.Incarnation = uuid.NewString()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Members{
		cfg: cfg, changes: c, lister: lister, log: cfg.Logger.With("replica", cfg.Replica),
		writing: make(chan struct{}, 1),
		changed: make(chan struct{}),
		roll:    newRoll(cfg.Replica, cfg.Bound),
		own:     own{incarnation: cfg.Incarnation, epoch: rand.Text()},
		caught:  map[string]entry{},
	}, nil
}

// Alive are the replicas whose lease may hold, this one among them, by name.
func (m *Members) Alive() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roll.alive(m.ear.heard(time.Now()))
}

// Gone is for how long nothing was heard of a replica: 0 while its lease may hold;
// since it said that it leaves, else since its last heartbeat. Of one that was
// never heard of it is the time since this replica listens. Time in which this
// replica itself was cut off does not count.
func (m *Members) Gone(replica string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roll.gone(replica, m.ear.heard(time.Now()))
}

// Incarnation is the process that a replica was when it was heard of last; another
// one after a restart. Empty where it was never heard of.
func (m *Members) Incarnation(replica string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if replica == m.cfg.Replica {
		return m.cfg.Incarnation
	}
	if other := m.roll.members[replica]; other != nil {
		return other.beat.Incarnation
	}
	return ""
}

// Fresh reports whether a heartbeat of ours came back that was sent within the
// last z: whether the others can have thought this replica gone for longer.
func (m *Members) Fresh(z time.Duration) bool {
	age := m.cfg.Lease.Age()
	return age != math.MaxInt64 && age <= z
}

// changedNow wakes who waits. m.mu is held.
func (m *Members) changedNow() {
	close(m.changed)
	m.changed = make(chan struct{})
}
