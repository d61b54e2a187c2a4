package events

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"tollgate/authz/key"
)

// TestManyKeysAtOnce: records of more keys than one question is about come with their
// revisions, and what is no record of the workspace does not.
func TestManyKeysAtOnce(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	ctx := t.Context()
	want := map[string]uint64{}
	var ids []string
	for i := range manyAtOnce + 44 {
		rec := record(fmt.Sprint("key-", i))
		revision, err := k.Put(ctx, rec, 0)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 { // the newest counts
			rec.Status = key.Revoked
			if revision, err = k.Put(ctx, rec, revision); err != nil {
				t.Fatal(err)
			}
		}
		want[rec.ID], ids = revision, append(ids, rec.ID)
	}
	for name, value := range map[string]string{"k.demo.newer": `{"v":99}`, "k.demo.broken": "{"} {
		if _, err := k.bucket.put(ctx, name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	other := record("other")
	other.Workspace = "another"
	if _, err := k.Put(ctx, other, 0); err != nil {
		t.Fatal(err)
	}
	got, err := k.GetMany(ctx, "demo", append(ids, "nobody", "*", ">", "other", "newer", "broken"))
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d records, want %d (%v)", len(got), len(want), err)
	}
	for _, rec := range got {
		if want[rec.ID] != rec.Revision || rec.Secret(key.DigestOf(rec.ID)) != 0 {
			t.Errorf("got %+v, want it at revision %d", rec, want[rec.ID])
		}
		delete(want, rec.ID)
	}
	if got, err := k.GetMany(ctx, "demo", []string{"nobody"}); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	if got, err := k.GetMany(ctx, "demo", nil); err != nil || len(got) != 0 {
		t.Errorf("of no ids: %v, %v", got, err)
	}
	ended, end := context.WithTimeout(ctx, time.Nanosecond)
	defer end()
	if _, err := k.GetMany(ended, "demo", ids); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("without time: %v", err)
	}
}
