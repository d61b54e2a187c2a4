// Package cache answers "whose key is this" from memory, and never with an answer
// that a revocation has overtaken.
//
// Two things are kept. The index has a small entry for every secret in the store:
// a stranger's secret is refused by it without reading the store. The records
// themselves are in a ristretto cache of bounded size and are read from the store
// when they are not there.
//
// The index entry of a key holds its floor: the newest revision that was applied
// for it. A record is used only if its revision is at least the floor, and that is
// compared on every read, after the record was taken out of the cache and again
// after it was read from the store. So it does not matter that ristretto may drop
// or delay writes, or that a slow load may put an old record back: an old record
// is never used. (Measured without floors: 728 of 7,200 checks after a revocation
// still passed. See docs/design/keys.md.)
package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"golang.org/x/sync/singleflight"

	"tollgate/authz/key"
)

// Store reads one key's record. It must answer with the newest acknowledged
// record (a leader read, not a follower's), and the errors of package key:
// key.ErrNotFound, or one that wraps key.ErrUnavailable.
type Store interface {
	Get(ctx context.Context, workspace, id string) (*key.Record, error)
}

// Many reads records of many keys at once. What it returns may be older than what was
// acknowledged, some may be missing, also beside an error, and the order is any: each
// is compared with its key's floor, and read from the Store where it isn't there.
type Many interface {
	GetMany(ctx context.Context, workspace string, ids []string) ([]*key.Record, error)
}

// Config is what Keys need.
type Config struct {
	Store Store
	// Many is for pages of keys. Nil: they are read one by one.
	Many Many
	// Records is how many records are kept in memory at most. Zero: 1,000,000.
	Records int64
	// LoadTimeout bounds one read of the store. Zero: 2 s.
	LoadTimeout time.Duration
	// Lease is what look-ups need to be answered. Nil: nothing, for the only
	// replica, which makes every change itself before it answers.
	Lease *Lease
}

// Keys is the cache. All methods are safe for concurrent use. Look-ups of
// different secrets share no lock, but for those that fall into the same of 256
// shards.
type Keys struct {
	store       Store
	many        Many // nil: there is none
	loadTimeout time.Duration
	lease       *Lease // nil: none is needed
	records     *ristretto.Cache[string, kept]
	loads       singleflight.Group
	ready       atomic.Bool
	storeReads  atomic.Uint64

	shards [shardCount]shard // by the first byte of a digest

	mu     sync.RWMutex      // held to apply and to reset; guards ids and owners
	ids    map[string]*entry // by key id
	owners owners
}

const shardCount = 256

// shard holds part of the index. Sixteen bytes of a SHA-256 name a secret as
// surely as all of them would; the whole digest is compared in the record.
type shard struct {
	mu      sync.RWMutex
	entries map[[16]byte]*entry
}

// entry is one key's place in the index, shared by all of its secrets. There may be
// a million: it has 64 bytes, which is a size class.
type entry struct {
	owner   *owner        // never changes, as the id
	id      string        //
	floor   atomic.Uint64 // the newest applied revision; only rises
	secrets [][16]byte    // guarded by Keys.mu: where the shards point here
}

// kept is a record in memory. It counts only for the entry that it was read for:
// one that a slow read puts there after Reset is of another store, whose revisions
// can't be compared.
type kept struct {
	of     *entry
	record *key.Record
}

// New makes an empty cache that answers key.ErrUnavailable until SetReady.
func New(cfg Config) (*Keys, error) {
	if cfg.Records == 0 {
		cfg.Records = 1_000_000
	}
	if cfg.LoadTimeout == 0 {
		cfg.LoadTimeout = 2 * time.Second
	}
	records, err := ristretto.NewCache(&ristretto.Config[string, kept]{
		NumCounters:        10 * cfg.Records, // ristretto's advice: ten per item
		MaxCost:            cfg.Records,
		BufferItems:        64,
		IgnoreInternalCost: true, // a cost is a number of records here
		KeyToHash:          hashID,
	})
	if err != nil {
		return nil, fmt.Errorf("the cache of keys: %w", err)
	}
	k := &Keys{store: cfg.Store, many: cfg.Many, loadTimeout: cfg.LoadTimeout, lease: cfg.Lease, records: records, ids: map[string]*entry{}, owners: newOwners()}
	for i := range k.shards {
		k.shards[i].entries = map[[16]byte]*entry{}
	}
	return k, nil
}

// Close stops ristretto's goroutines. The cache must not be used after it.
func (k *Keys) Close() { k.records.Close() }

// hashID gives ristretto both of its hashes. Key ids are made by us, so nobody
// outside can choose ones that collide; a collision would cost a read of the
// store, because the record's id is compared.
func hashID(id string) (uint64, uint64) {
	const prime = 1099511628211 // FNV-1a
	a, b := uint64(14695981039346656037), uint64(0x9E3779B97F4A7C15)
	for i := range len(id) {
		a = (a ^ uint64(id[i])) * prime
		b = (b + uint64(id[i])) * prime
		b ^= b >> 29
	}
	return a, b
}

func slot(d key.Digest) (shard byte, name [16]byte) { return d[0], [16]byte(d[:16]) }

// find returns the index entry of a secret, or nil.
func (k *Keys) find(d key.Digest) *entry {
	n, name := slot(d)
	s := &k.shards[n]
	s.mu.RLock()
	e := s.entries[name]
	s.mu.RUnlock()
	return e
}

// Lookup returns the record of the key that has a secret with this digest, at
// least as new as any that was applied before the call. Whether the key is valid
// now is for the caller to ask (key.Record.Valid). The record is shared: it must
// not be changed.
//
// The error is key.ErrNotFound for a secret that no key has, which costs no read
// of the store, and wraps key.ErrUnavailable where that can't be told, also for
// want of a lease. A record that isn't in memory is read from the store, once
// however many callers wait; ctx ends the waiting, not the read.
func (k *Keys) Lookup(ctx context.Context, d key.Digest) (*key.Record, error) {
	if !k.ready.Load() {
		return nil, errNotReady
	}
	// Before the index and the floor are looked at: what a valid lease promises
	// is that they have everything that was stored before it began.
	if !k.leased() {
		return nil, errNoLease
	}
	e := k.find(d)
	if e == nil {
		if !k.ready.Load() {
			return nil, errNotReady // Reset emptied the index meanwhile
		}
		return nil, key.ErrNotFound
	}
	if rec := k.remembered(e); rec != nil {
		return rec, nil
	}
	return k.load(ctx, e)
}

// remembered is a key's record if it is in memory and may be used, or nil.
func (k *Keys) remembered(e *entry) *key.Record {
	if r, ok := k.records.Get(e.id); ok && r.of == e && e.current(r.record) {
		return r.record
	}
	return nil
}

// Made once: in an outage every check answers one of them.
var (
	errNotReady = fmt.Errorf("%w: keys are still being read", key.ErrUnavailable)
	errNoLease  = fmt.Errorf("%w: the lease of this replica ran out, because NATS did not confirm that it is current", key.ErrUnavailable)
)

func (k *Keys) leased() bool { return k.lease == nil || k.lease.Valid() }

// current reports whether a record may be used. The floor is read after the
// record was taken: whoever starts after a revocation was applied sees its floor.
func (e *entry) current(rec *key.Record) bool {
	return rec.ID == e.id && rec.Revision >= e.floor.Load()
}

// loadTries is how often a read is repeated that was overtaken by a change. Each
// change can overtake a read once.
const loadTries = 4

func (k *Keys) load(ctx context.Context, e *entry) (*key.Record, error) {
	for range loadTries {
		// Of the entry, not of the id: after Reset nobody may join a read of the
		// store that was here before.
		done := k.loads.DoChan(fmt.Sprintf("%p", e), func() (any, error) {
			// Of its own: the first caller's hang-up must not fail the others.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.loadTimeout)
			defer cancel()
			k.storeReads.Add(1)
			return k.store.Get(ctx, e.owner.Workspace, e.id)
		})
		var loaded singleflight.Result
		select {
		case loaded = <-done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", key.ErrUnavailable, ctx.Err())
		}
		if errors.Is(loaded.Err, key.ErrNotFound) {
			return nil, key.ErrNotFound // whatever the lease: nothing passes by it
		}
		if loaded.Err != nil {
			return nil, fmt.Errorf("%w: %w", key.ErrUnavailable, loaded.Err)
		}
		// Again, because the read may have taken as long as the lease was to last,
		// and before the floor is looked at, as in Lookup.
		if !k.leased() {
			return nil, errNoLease
		}
		rec := loaded.Val.(*key.Record)
		if e.current(rec) {
			k.records.Set(e.id, kept{e, rec}, 1)
			return rec, nil
		}
		// The read began before a change was applied, here or in another
		// caller's flight that this one joined.
	}
	return nil, fmt.Errorf("%w: the key changes faster than it can be read", key.ErrUnavailable)
}

// Apply takes in a change of a key: the feed's, or this replica's own before its
// answer goes out. When Apply returns, no Lookup that starts afterwards answers
// with an older record. Changes may come twice and in any order; an older one
// than was applied already changes nothing.
func (k *Keys) Apply(c key.Change) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.ids[c.ID]
	if e == nil {
		if c.Record == nil {
			return // unreadable, and no secret points to it: it opens nothing
		}
		// The strings are cloned, here and in of, so that the index doesn't hold
		// the whole message that they were read from.
		e = &entry{owner: k.owners.of(c.Record.Owner()), id: strings.Clone(c.ID)}
		k.ids[e.id] = e
	} else if c.Revision < e.floor.Load() {
		return
	}
	e.floor.Store(c.Revision)
	k.records.Del(e.id)
	if c.Record != nil {
		k.point(e, c.Record)
	}
	if c.Record != nil && c.Record.Status == key.Active {
		e.owner.active.insert(e)
	} else {
		e.owner.active.remove(e)
	}
}

// point makes the index lead from the record's secrets to e, and from no other.
func (k *Keys) point(e *entry, rec *key.Record) {
	old := e.secrets
	e.secrets = make([][16]byte, 0, len(rec.Secrets))
	for i := range rec.Secrets {
		n, name := slot(rec.Secrets[i].Digest)
		s := &k.shards[n]
		s.mu.Lock()
		s.entries[name] = e
		s.mu.Unlock()
		e.secrets = append(e.secrets, name)
	}
	for _, name := range old {
		if slices.Contains(e.secrets, name) {
			continue
		}
		s := &k.shards[name[0]]
		s.mu.Lock()
		if s.entries[name] == e {
			delete(s.entries, name)
		}
		s.mu.Unlock()
	}
}

// SetReady says whether the index is whole. Until it is, every Lookup answers
// key.ErrUnavailable: a key that isn't there yet must not be called unknown.
func (k *Keys) SetReady(ready bool) { k.ready.Store(ready) }

// Ready reports what SetReady said last.
func (k *Keys) Ready() bool { return k.ready.Load() }

// Reset forgets everything, for a store that turned out to be another one or to
// have lost revisions. The cache is not ready after it.
func (k *Keys) Reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ready.Store(false)
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.Lock()
		s.entries = map[[16]byte]*entry{}
		s.mu.Unlock()
	}
	// Entries that a running Lookup holds must not let an old record pass: no
	// revision reaches this floor.
	for _, e := range k.ids {
		e.floor.Store(^uint64(0))
	}
	k.ids, k.owners = map[string]*entry{}, newOwners()
	k.records.Clear()
}

// Stats are figures for metrics.
type Stats struct {
	Keys       int    // in the index
	StoreReads uint64 // since the start
}

// Stats returns the figures of now.
func (k *Keys) Stats() Stats {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return Stats{Keys: len(k.ids), StoreReads: k.storeReads.Load()}
}
