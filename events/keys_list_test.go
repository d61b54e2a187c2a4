package events

import (
	"cmp"
	"context"
	"slices"
	"testing"

	"tollgate/authz/key"
)

// listed reads all keys of a workspace through the stream, in the order of their ids.
// What can't be read is left out.
func listed(t *testing.T, k *Keys, workspace string) []*key.Record {
	t.Helper()
	all, err := list(t.Context(), k, workspace)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func list(ctx context.Context, k *Keys, workspace string) ([]*key.Record, error) {
	r, err := k.bucket.read(ctx, k.bucket.subject("k."+workspace+".>"), 1)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	var all []*key.Record
	for r.pending > 0 {
		name, e, err := r.next()
		if err != nil {
			return nil, err
		}
		workspace, id, _ := splitKeyName(name)
		if rec, err := decodeRecord(e.value, workspace, id); err == nil && !e.deleted {
			all = append(all, rec)
		}
	}
	slices.SortFunc(all, func(a, b *key.Record) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}
