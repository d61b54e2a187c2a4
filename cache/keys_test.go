package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tollgate/authz/key"
)

// memory is a store that answers with the newest record it has at the moment of
// the read, and then takes as long as delay says to deliver it: what a slow
// network does to a leader read.
type memory struct {
	mu      sync.Mutex
	records map[string]*key.Record
	rev     uint64
	reads   atomic.Int64
	delay   func()
	err     error
}

func newMemory() *memory { return &memory{records: map[string]*key.Record{}, delay: func() {}} }

func (m *memory) put(rec key.Record) key.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rev++
	rec.Revision = m.rev
	m.records[rec.ID] = &rec
	return key.Change{Workspace: rec.Workspace, ID: rec.ID, Revision: rec.Revision, Record: &rec}
}

func (m *memory) Get(ctx context.Context, workspace, id string) (*key.Record, error) {
	m.reads.Add(1)
	m.mu.Lock()
	rec, err := m.records[id], m.err
	m.mu.Unlock()
	m.delay()
	if err != nil {
		return nil, err
	}
	if rec == nil || rec.Workspace != workspace {
		return nil, key.ErrNotFound
	}
	return rec, ctx.Err()
}

func record(id string, secrets ...string) key.Record {
	r := key.Record{ID: id, Workspace: "demo", Status: key.Active}
	for _, s := range secrets {
		r.Secrets = append(r.Secrets, key.Secret{Digest: key.DigestOf(s)})
	}
	return r
}

func revoked(r key.Record) key.Record {
	r.Status = key.Revoked
	return r
}

func newKeys(t *testing.T, m *memory) *Keys {
	t.Helper()
	k, err := New(Config{Store: m, Records: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	k.SetReady(true)
	return k
}

func valid(t *testing.T, k *Keys, secret string) bool {
	t.Helper()
	rec, err := k.Lookup(t.Context(), key.DigestOf(secret))
	if errors.Is(err, key.ErrNotFound) {
		return false
	}
	if err != nil {
		t.Fatalf("Lookup: %v", err)
	}
	return rec.Valid(key.DigestOf(secret), time.Now())
}

func TestUnknownSecretsDoNotReadTheStore(t *testing.T) {
	m := newMemory()
	k := newKeys(t, m)
	k.Apply(m.put(record("a", "s")))
	for i := range 10_000 {
		if _, err := k.Lookup(t.Context(), key.DigestOf(fmt.Sprint(i))); !errors.Is(err, key.ErrNotFound) {
			t.Fatalf("an unknown secret: %v", err)
		}
	}
	if n := m.reads.Load(); n != 0 {
		t.Errorf("%d reads of the store for unknown secrets", n)
	}
}

func TestRecordIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.delay = func() { time.Sleep(time.Second) }
		k := newKeys(t, m)
		k.Apply(m.put(record("a", "s")))
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if !valid(t, k, "s") {
					t.Error("a valid key was refused")
				}
			})
		}
		wg.Wait()
		k.records.Wait()
		if !valid(t, k, "s") {
			t.Error("a valid key was refused")
		}
		if n := m.reads.Load(); n != 1 {
			t.Errorf("51 look-ups read the store %d times", n)
		}
	})
}

func TestNotReadyIsNotUnknown(t *testing.T) {
	m := newMemory()
	k := newKeys(t, m)
	k.SetReady(false)
	if _, err := k.Lookup(t.Context(), key.DigestOf("s")); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("before the index is whole: %v", err)
	}
}

func TestStoreAwayIsUnavailable(t *testing.T) {
	m := newMemory()
	k := newKeys(t, m)
	k.Apply(m.put(record("a", "s")))
	m.err = errors.New("no responders")
	if _, err := k.Lookup(t.Context(), key.DigestOf("s")); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("with the store away: %v", err)
	}
}

func TestFirstCallersHangUpDoesNotFailTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.delay = func() { time.Sleep(time.Second) }
		k := newKeys(t, m)
		k.Apply(m.put(record("a", "s")))
		first, hangUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := k.Lookup(first, key.DigestOf("s")); !errors.Is(err, key.ErrUnavailable) {
				t.Errorf("the caller that hung up: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if !valid(t, k, "s") {
				t.Error("a valid key was refused")
			}
		})
		synctest.Wait()
		hangUp()
		wg.Wait()
	})
}

// TestInterleavings runs every order of the steps that a slow load and a
// revocation can take, with a second look-up at every place. The rule: a look-up
// that starts after the revocation was applied never finds the key valid.
func TestInterleavings(t *testing.T) {
	// The steps; "write" is the revocation in the store, "apply" its
	// application here (after "write"), "deliver" the end of the slow read,
	// "again" a second look-up, which may join the first one's flight, "late" a
	// write of the old record to ristretto, as a delayed buffer of its would do.
	steps := []string{"write", "apply", "deliver", "again", "late"}
	ran := 0
	permute(steps, func(order []string) {
		if index(order, "write") > index(order, "apply") {
			return
		}
		ran++
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { interleave(t, order) })
		})
	})
	if ran != 60 {
		t.Fatalf("%d orders ran, 60 were meant", ran)
	}
}

func interleave(t *testing.T, order []string) {
	m := newMemory()
	gate := make(chan struct{})
	m.delay = func() { <-gate }
	k := newKeys(t, m)
	old := m.put(record("a", "s"))
	k.Apply(old)

	var wg sync.WaitGroup
	lookup := func(after bool) {
		wg.Go(func() {
			if valid(t, k, "s") && after {
				t.Error("a look-up after the revocation was applied found the key valid")
			}
		})
		synctest.Wait()
	}
	var revocation key.Change
	applied := false
	lookup(false)
	for _, step := range order {
		switch step {
		case "write":
			revocation = m.put(revoked(*old.Record))
		case "apply":
			k.Apply(revocation)
			applied = true
		case "deliver":
			close(gate)
			synctest.Wait()
		case "again":
			lookup(applied)
		case "late":
			k.records.Set("a", kept{k.find(key.DigestOf("s")), old.Record}, 1)
			k.records.Wait()
		}
	}
	wg.Wait()
	k.records.Wait()
	if valid(t, k, "s") {
		t.Error("valid in the end")
	}
	// The feed repeats what was applied already, the old record included.
	k.Apply(old)
	k.Apply(revocation)
	if valid(t, k, "s") {
		t.Error("valid after the feed repeated an older change")
	}
}

func permute(s []string, visit func([]string)) {
	var rec func(int)
	rec = func(i int) {
		if i == len(s) {
			visit(append([]string(nil), s...))
			return
		}
		for j := i; j < len(s); j++ {
			s[i], s[j] = s[j], s[i]
			rec(i + 1)
			s[i], s[j] = s[j], s[i]
		}
	}
	rec(0)
}

func index(s []string, what string) int {
	for i, v := range s {
		if v == what {
			return i
		}
	}
	return -1
}

// TestNoKeyIsAcceptedAfterItsRevocation lets slow loads race against revocations
// of many keys on a cache that is too small for them.
func TestNoKeyIsAcceptedAfterItsRevocation(t *testing.T) {
	const keys, checks = 400, 40
	m := newMemory()
	m.delay = func() { time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond) }
	k, err := New(Config{Store: m, Records: keys / 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	k.SetReady(true)
	var wg sync.WaitGroup
	var accepted, refused, before atomic.Int64
	for i := range keys {
		id, secret := fmt.Sprintf("key-%d", i), fmt.Sprintf("secret-%d", i)
		k.Apply(m.put(record(id, secret)))
		var applied atomic.Bool
		for range 3 {
			wg.Go(func() {
				for n := 0; n < checks; {
					after := applied.Load()
					switch ok := valid(t, k, secret); {
					case after && ok:
						accepted.Add(1)
						n++
					case after:
						refused.Add(1)
						n++
					case ok:
						before.Add(1)
					}
				}
			})
		}
		wg.Go(func() {
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
			k.Apply(m.put(revoked(record(id, secret))))
			applied.Store(true)
		})
	}
	wg.Wait()
	if accepted.Load() != 0 {
		t.Errorf("%d checks accepted a key after its revocation was applied (%d refused it)", accepted.Load(), refused.Load())
	}
	if before.Load() == 0 {
		t.Error("no check passed before a revocation: the test shows nothing")
	}
}

func TestRotationAndItsEnd(t *testing.T) {
	m := newMemory()
	k := newKeys(t, m)
	k.Apply(m.put(record("a", "old")))
	k.Apply(m.put(record("a", "new", "old")))
	if !valid(t, k, "old") || !valid(t, k, "new") {
		t.Error("both secrets open the key while it is rotated")
	}
	k.Apply(m.put(record("a", "new")))
	if valid(t, k, "old") {
		t.Error("a secret that left the record still opens the key")
	}
	if !valid(t, k, "new") {
		t.Error("the new secret doesn't open the key")
	}
	if k.find(key.DigestOf("old")) != nil {
		t.Error("the index still leads from the old secret")
	}
}

func TestResetForgets(t *testing.T) {
	m := newMemory()
	k := newKeys(t, m)
	k.Apply(m.put(record("a", "s")))
	if !valid(t, k, "s") {
		t.Fatal("a valid key was refused")
	}
	k.Reset()
	if _, err := k.Lookup(t.Context(), key.DigestOf("s")); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("after Reset: %v", err)
	}
	k.SetReady(true)
	if valid(t, k, "s") {
		t.Error("a key from before Reset is still known")
	}
}

func TestUnreadableChangeClosesTheKey(t *testing.T) {
	m := newMemory()
	k := newKeys(t, m)
	c := m.put(record("a", "s"))
	k.Apply(c)
	if !valid(t, k, "s") {
		t.Fatal("a valid key was refused")
	}
	k.Apply(key.Change{Workspace: "demo", ID: "a", Revision: c.Revision + 1})
	if _, err := k.Lookup(t.Context(), key.DigestOf("s")); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("a key whose newest record can't be read: %v", err)
	}
}

func TestHitDoesNotAllocate(t *testing.T) {
	m := newMemory()
	k := newKeys(t, m)
	k.Apply(m.put(record("a", "s")))
	d := key.DigestOf("s")
	valid(t, k, "s")
	k.records.Wait()
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := k.Lookup(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a hit", n)
	}
}
