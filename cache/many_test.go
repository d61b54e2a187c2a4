package cache

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"tollgate/authz/key"
)

// copied is a copy of the store that may be behind it, and answers about many keys.
type copied struct {
	records map[string]*key.Record
	asked   atomic.Int64
	before  func()
	err     error
}

func (c *copied) GetMany(_ context.Context, workspace string, ids []string) (found []*key.Record, _ error) {
	c.asked.Add(1)
	if c.before != nil {
		c.before()
	}
	for _, id := range ids {
		if rec := c.records[id]; rec != nil && rec.Workspace == workspace {
			found = append([]*key.Record{rec}, found...) // in another order than asked
		}
	}
	return found, c.err
}

func newCopied(t *testing.T, m *memory, l *Lease) (*Keys, *copied) {
	t.Helper()
	c := &copied{records: map[string]*key.Record{}}
	k, err := New(Config{Store: m, Many: c, Records: 1000, Lease: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	k.SetReady(true)
	return k, c
}

// TestPageAsksOnce: a page of keys that are not in memory is one question, and the
// next page of the same ones none.
func TestPageAsksOnce(t *testing.T) {
	m := newMemory()
	k, c := newCopied(t, m, nil)
	for i := range 300 {
		change := m.put(record(fmt.Sprintf("%04d", i)))
		c.records[change.ID] = change.Record
		k.Apply(change)
	}
	for range 2 {
		page, _, err := k.Page(t.Context(), "demo", "", 200, anyOwner)
		if err != nil || len(page) != 200 || page[199].ID != "0199" {
			t.Fatalf("a page of %d: %v", len(page), err)
		}
		k.records.Wait() // its writes are asynchronous
	}
	if asked, read := c.asked.Load(), m.reads.Load(); asked != 1 || read != 0 {
		t.Errorf("%d questions about many keys and %d about one, want 1 and 0", asked, read)
	}
}

// TestACopyThatIsBehind: what it has from before a change, or not at all, is read from
// the store itself; so is everything where it doesn't answer.
func TestACopyThatIsBehind(t *testing.T) {
	m := newMemory()
	k, c := newCopied(t, m, nil)
	for _, id := range []string{"a", "b", "c", "d"} {
		change := m.put(record(id))
		c.records[id] = change.Record
		k.Apply(change)
	}
	k.Apply(m.put(revoked(record("a"))))
	changed := record("b")
	changed.Name = "new"
	k.Apply(m.put(changed))
	delete(c.records, "c")
	ids := []string{"a", "b", "c", "d"}
	got, err := k.Records(t.Context(), ids)
	if err != nil || len(got) != 4 || got[0].Status != key.Revoked || got[1].Name != "new" || got[2].ID != "c" || m.reads.Load() != 3 {
		t.Errorf("%d records with %d reads (%v)", len(got), m.reads.Load(), err)
	}
	k.Apply(m.put(record("e")))
	k.Apply(m.put(record("f")))
	c.err = key.ErrUnavailable
	if got, err := k.Records(t.Context(), []string{"e", "f"}); err != nil || len(got) != 2 {
		t.Errorf("without the copy %d records (%v)", len(got), err)
	}
}

// TestManyWhileTheWorldChanges: a record that was read before a change was applied, for
// a lease that ran out, or of a store that turned out to be another one, isn't used.
func TestManyWhileTheWorldChanges(t *testing.T) {
	h, m := newHand(1), newMemory()
	l := leaseOf(h, int64(time.Second))
	k, c := newCopied(t, m, l)
	both := func() {
		for _, id := range []string{"a", "b"} {
			change := m.put(record(id))
			c.records[id] = change.Record
			k.Apply(change)
		}
	}
	l.Begin()()
	both()
	c.before = func() { k.Apply(m.put(revoked(record("a")))) }
	if got, err := k.Records(t.Context(), []string{"a", "b"}); err != nil || len(got) != 2 || got[0].Status != key.Revoked {
		t.Errorf("revoked meanwhile: %v (%v)", got, err)
	}
	both()
	c.before = func() { h.jump(time.Second) }
	if _, err := k.Records(t.Context(), []string{"a", "b"}); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("without a lease: %v", err)
	}
	l.Begin()()
	both()
	c.before = k.Reset
	if _, err := k.Records(t.Context(), []string{"a", "b"}); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("while the store turned out to be another one: %v", err)
	}
}
