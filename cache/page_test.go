package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/authz/key"
)

func anyOwner(key.Owner) bool { return true }

// personal is a record of a user's.
func personal(id, user string) key.Record {
	r := record(id, id)
	r.Kind, r.User = key.Personal, user
	return r
}

// listed pages through a workspace, and calls between after each page.
func listed(t interface{ Fatal(args ...any) }, k *Keys, limit int, wanted func(key.Owner) bool, between func()) (ids []string) {
	after := ""
	for range 10_000 {
		page, next, err := k.Page(context.Background(), "demo", after, limit, wanted)
		if err != nil || len(page) > limit {
			t.Fatal(fmt.Sprintf("a page of %d has %d records (%v)", limit, len(page), err))
		}
		for _, rec := range page {
			ids = append(ids, rec.ID)
		}
		if next == "" {
			return ids
		}
		if next <= after {
			t.Fatal(fmt.Sprintf("the page behind %q says to go on behind %q", after, next))
		}
		after = next
		between()
	}
	t.Fatal("the list has no end")
	return nil
}

// TestPagesOfAnythingAtAnyTime: while keys are made and revoked between pages, no
// key is listed twice, none that is there throughout is missed, none of another
// owner is there, and all are in order.
func TestPagesOfAnythingAtAnyTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory()
		k, err := New(Config{Store: m, Records: 100})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		k.SetReady(true)
		users := []string{"", "ada", "max"}
		is := map[string]key.Record{} // active ones
		change := func() {
			id := fmt.Sprintf("%04d", rapid.IntRange(0, 3*maxRun).Draw(t, "id"))
			rec, there := is[id]
			switch {
			case !there:
				rec = record(id, id)
				if rec.User = users[rapid.IntRange(0, 2).Draw(t, "user")]; rec.User != "" {
					rec.Kind = key.Personal
				}
				if was := m.records[id]; was != nil { // for good, and somebody's
					rec.Kind, rec.User = was.Kind, was.User
				}
				is[id] = rec
			case rapid.Bool().Draw(t, "revoked"):
				delete(is, id)
				rec = revoked(rec)
			}
			k.Apply(m.put(rec))
		}
		for i := range rapid.SampledFrom([]int{0, 5, maxRun + 9}).Draw(t, "first") { // as a feed brings them
			id := fmt.Sprintf("%04d", i*2)
			is[id] = personal(id, users[1+i%2])
			k.Apply(m.put(is[id]))
		}
		for range rapid.IntRange(0, 100).Draw(t, "more") {
			change()
		}
		user := rapid.SampledFrom(users).Draw(t, "whose")
		wanted := func(o key.Owner) bool { return user == "" || o.User == user }
		throughout, ever := map[string]bool{}, map[string]bool{}
		note := func() {
			for id, rec := range is {
				if wanted(rec.Owner()) {
					ever[id] = true
				}
			}
		}
		for id, rec := range is {
			throughout[id] = wanted(rec.Owner())
		}
		note()
		got := listed(t, k, rapid.SampledFrom([]int{3, 50, maxRun + 10}).Draw(t, "limit"), wanted, func() {
			change()
			note()
			for id := range throughout {
				throughout[id] = throughout[id] && is[id].ID != ""
			}
		})
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("listed %q", got)
		}
		for _, id := range got {
			if !ever[id] {
				t.Fatalf("%s is listed, and was never there, or is somebody else's", id)
			}
			delete(throughout, id)
		}
		for id, there := range throughout {
			if there {
				t.Fatalf("%s was there throughout and is missed in %q", id, got)
			}
		}
	})
}

// TestOrderedWhateverComes: entries that come and go in any order stand in the order
// of their ids, each once, in runs of bounded size.
func TestOrderedWhateverComes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o ordered
		is := map[string]bool{}
		step := rapid.SampledFrom([]int{1, -1, 7, 997}).Draw(t, "step")
		at := 5000
		for range rapid.IntRange(0, 3*maxRun).Draw(t, "entries") {
			at = (at + step + 10_000) % 10_000
			id := fmt.Sprintf("%04d", at)
			o.insert(&entry{id: id})
			o.insert(&entry{id: id})
			is[id] = true
		}
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, 9999), 0, 300).Draw(t, "removed") {
			id := fmt.Sprintf("%04d", i)
			o.remove(&entry{id: id})
			delete(is, id)
		}
		last, count := "", 0
		for _, run := range o.runs {
			if len(run) == 0 || len(run) > maxRun {
				t.Fatalf("a run of %d", len(run))
			}
			for _, e := range run {
				if e.id <= last || !is[e.id] {
					t.Fatalf("%s after %s (there: %v)", e.id, last, is[e.id])
				}
				last = e.id
				count++
			}
		}
		if count != len(is) {
			t.Fatalf("%d entries, want %d", count, len(is))
		}
	})
}

// TestPageReadsNoMoreThanItHolds: of a workspace with many keys.
func TestPageReadsNoMoreThanItHolds(t *testing.T) {
	m := newMemory()
	k := newKeys(t, m)
	for i := range 5000 {
		k.Apply(m.put(personal(fmt.Sprintf("%05d", i), fmt.Sprint("u", i%100))))
	}
	read := func(reads int64, page []*key.Record, _ string, err error) {
		t.Helper()
		if n := m.reads.Swap(0); err != nil || len(page) != int(reads) || n > reads {
			t.Errorf("a page of %d (%v) read the store %d times", len(page), err, n)
		}
	}
	page, next, err := k.Page(t.Context(), "demo", "", 10, anyOwner)
	read(10, page, next, err)
	page, next, err = k.Page(t.Context(), "demo", "04989", 100, anyOwner)
	read(10, page, next, err)
	if next != "" {
		t.Errorf("the last page says to go on behind %q", next)
	}
	page, next, err = k.Page(t.Context(), "demo", "02500", 7, func(o key.Owner) bool { return o.User == "u42" })
	read(7, page, next, err)
	for i, rec := range page {
		if want := fmt.Sprintf("%05d", 2542+100*i); rec.ID != want {
			t.Errorf("key %d of a user's page is %s, want %s", i, rec.ID, want)
		}
	}
	page, next, err = k.Page(t.Context(), "another", "", 7, anyOwner)
	read(0, page, next, err)
}

// TestPageGoesByWhatWasApplied: a page after a change has it, whatever is in memory,
// and says 503 where the index can't tell.
func TestPageGoesByWhatWasApplied(t *testing.T) {
	h, m := newHand(1), newMemory()
	l := leaseOf(h, int64(time.Second))
	k := leasedKeys(t, m, l)
	l.Begin()()
	k.Apply(m.put(record("a", "s")))
	k.Apply(m.put(record("b", "t")))
	want := func(name string, ids ...string) {
		t.Helper()
		page, _, err := k.Page(t.Context(), "demo", "", 10, anyOwner)
		if err != nil || len(page) != len(ids) {
			t.Fatalf("%d keys, %v; want %q", len(page), err, ids)
		}
		for i, rec := range page {
			if rec.ID != ids[i] || rec.Name != name {
				t.Errorf("listed %+v, want %s, %q", rec, ids[i], name)
			}
		}
	}
	want("", "a", "b")
	for _, id := range []string{"a", "b"} {
		changed := record(id, id)
		changed.Name = "new"
		k.Apply(m.put(changed))
	}
	want("new", "a", "b")
	k.Apply(m.put(revoked(record("a", "s"))))
	k.Apply(m.put(record("c", "u")))
	m.put(revoked(record("c", "u"))) // elsewhere: the store says so before the feed does
	want("new", "b")
	if o, ok := k.Owner("a"); !ok || o.Workspace != "demo" {
		t.Errorf("a revoked key's owner is %+v, %v", o, ok)
	}
	if all, err := k.Records(t.Context(), []string{"b", "nobody", "a"}); err != nil || len(all) != 2 || all[0].ID != "b" || all[1].Status != key.Revoked {
		t.Errorf("Records: %v, %v", all, err)
	}
	k.Apply(key.Change{Workspace: "demo", ID: "b", Revision: 100}) // it can't be read
	want("new")
	closed := func(when string) {
		t.Helper()
		if _, _, err := k.Page(t.Context(), "demo", "", 10, anyOwner); !errors.Is(err, key.ErrUnavailable) {
			t.Errorf("%s, a page: %v", when, err)
		}
		if _, err := k.Records(t.Context(), []string{"a"}); !errors.Is(err, key.ErrUnavailable) {
			t.Errorf("%s, records: %v", when, err)
		}
	}
	h.jump(time.Second)
	closed("without a lease")
	l.Begin()()
	k.Reset()
	closed("while keys are read anew")
	k.SetReady(true)
	want("")
}
