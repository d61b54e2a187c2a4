package cache

import (
	"container/heap"
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"tollgate/authz/key"
)

// parallelReads is how many records of a page are read from the store at once.
const parallelReads = 16

// Page returns records of a workspace's keys that are not revoked, in the order of
// their ids, from the first id behind after on ("": from the first): up to limit
// (at least 1) of the keys whose owner is wanted. It reads these and no others, from
// memory or the store. next is the id behind which the next page begins; "": there is
// none. A key that is there throughout is on one page, whatever becomes of others;
// what is revoked meanwhile may be missing, so a page may have fewer than limit.
//
// wanted must be quick: changes of keys wait for it. The error wraps
// key.ErrUnavailable, for want of a lease too.
func (k *Keys) Page(ctx context.Context, workspace, after string, limit int, wanted func(key.Owner) bool) (page []*key.Record, next string, err error) {
	if !k.leased() {
		return nil, "", errNoLease
	}
	entries, more, err := k.entries(workspace, after, limit, wanted)
	if err != nil {
		return nil, "", err
	}
	records, err := k.readAll(ctx, entries)
	if err != nil {
		return nil, "", err
	}
	for _, rec := range records {
		if rec.Status == key.Active {
			page = append(page, rec)
		}
	}
	if more {
		next = entries[len(entries)-1].id
	}
	return page, next, nil
}

// Records returns the records of keys, by their ids and in their order; of what is no
// key's there is none. The error is as Page's.
func (k *Keys) Records(ctx context.Context, ids []string) ([]*key.Record, error) {
	if !k.leased() {
		return nil, errNoLease
	}
	var entries []*entry
	k.mu.RLock()
	ready := k.ready.Load()
	for _, id := range ids {
		if e := k.ids[id]; e != nil {
			entries = append(entries, e)
		}
	}
	k.mu.RUnlock()
	if !ready {
		return nil, errNotReady
	}
	return k.readAll(ctx, entries)
}

// readAll returns the records of entries. What was deleted by hand has none.
func (k *Keys) readAll(ctx context.Context, entries []*entry) ([]*key.Record, error) {
	records := make([]*key.Record, len(entries))
	missing := map[string][]int{} // by workspace
	for i, e := range entries {
		if records[i] = k.remembered(e); records[i] == nil {
			missing[e.owner.Workspace] = append(missing[e.owner.Workspace], i)
		}
	}
	for workspace, places := range missing {
		if err := k.readMany(ctx, workspace, entries, records, places); err != nil {
			return nil, err
		}
	}
	var reads errgroup.Group
	reads.SetLimit(parallelReads)
	for i, e := range entries {
		if records[i] != nil {
			continue
		}
		reads.Go(func() (err error) {
			if records[i], err = k.load(ctx, e); errors.Is(err, key.ErrNotFound) {
				return nil
			}
			return err
		})
	}
	if err := reads.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(records, func(rec *key.Record) bool { return rec == nil }), nil
}

// readMany puts in their places the records of a workspace's entries that many reads at
// once have, and that are no older than what was applied. The others are left to load,
// also where many can't be asked.
func (k *Keys) readMany(ctx context.Context, workspace string, entries []*entry, records []*key.Record, places []int) error {
	if k.many == nil || len(places) < 2 {
		return nil
	}
	ids, at := make([]string, len(places)), make(map[string]int, len(places))
	for n, i := range places {
		ids[n], at[entries[i].id] = entries[i].id, i
	}
	found, _ := k.many.GetMany(ctx, workspace, ids)
	k.storeReads.Add(uint64(len(found)))
	// As in load: the lease may have run out meanwhile, and comes before the floors.
	if !k.leased() {
		return errNoLease
	}
	for _, rec := range found {
		if i, asked := at[rec.ID]; asked && entries[i].current(rec) {
			records[i] = rec
			k.records.Set(rec.ID, kept{entries[i], rec}, 1)
		}
	}
	return nil
}

// entries returns those of a page, and whether there are more behind them.
func (k *Keys) entries(workspace, after string, limit int, wanted func(key.Owner) bool) (page []*entry, more bool, err error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if !k.ready.Load() { // nor will it be emptied before the lock is released
		return nil, false, errNotReady
	}
	var lists merged
	for _, o := range k.owners.byWorkspace[workspace] {
		if !wanted(o.Owner) {
			continue
		}
		at := cursor{list: &o.active}
		if at.run, at.at = o.active.behind(after); at.settle() {
			lists = append(lists, at)
		}
	}
	heap.Init(&lists)
	for len(lists) > 0 && len(page) < limit {
		first := &lists[0]
		page = append(page, first.entry())
		if first.at++; first.settle() {
			heap.Fix(&lists, 0)
		} else {
			heap.Pop(&lists)
		}
	}
	return page, len(lists) > 0, nil
}

// cursor is a place in a list.
type cursor struct {
	list    *ordered
	run, at int
}

func (c *cursor) entry() *entry { return c.list.runs[c.run][c.at] }

// settle goes on to the next run at the end of one; false at the end of all.
func (c *cursor) settle() bool {
	if c.run < len(c.list.runs) && c.at == len(c.list.runs[c.run]) {
		c.run, c.at = c.run+1, 0
	}
	return c.run < len(c.list.runs)
}

// merged are lists by their next entry: a heap.
type merged []cursor

func (m merged) Len() int           { return len(m) }
func (m merged) Less(i, j int) bool { return m[i].entry().id < m[j].entry().id }
func (m merged) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merged) Push(x any)        { *m = append(*m, x.(cursor)) }
func (m *merged) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

// Owner tells whose a key is, also of one that is revoked; false: there is no such
// key, or the index is not whole. It reads nothing but the index.
func (k *Keys) Owner(id string) (key.Owner, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	e := k.ids[id]
	if e == nil {
		return key.Owner{}, false
	}
	return e.owner.Owner, true
}
