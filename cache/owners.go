package cache

import (
	"slices"
	"strings"

	"tollgate/authz/key"
)

// owners are who keys belong to. There are few: the users of the catalog, which is
// one document, and those that were deleted. Keys.mu guards all of it.
type owners struct {
	byName      map[key.Owner]*owner
	byWorkspace map[string][]*owner
}

// owner is one of them, with its keys that are not revoked.
type owner struct {
	key.Owner         // never changes
	active    ordered // entries
}

func newOwners() owners {
	return owners{map[key.Owner]*owner{}, map[string][]*owner{}}
}

// of returns an owner, which is noted where it wasn't known.
func (o *owners) of(name key.Owner) *owner {
	if is := o.byName[name]; is != nil {
		return is
	}
	name = key.Owner{
		Workspace: strings.Clone(name.Workspace), Kind: key.Kind(strings.Clone(string(name.Kind))),
		User: strings.Clone(name.User), Generation: strings.Clone(name.Generation),
	}
	is := &owner{Owner: name}
	o.byName[name] = is
	o.byWorkspace[name.Workspace] = append(o.byWorkspace[name.Workspace], is)
	return is
}

// ordered are entries in the order of their ids. They are in runs of at most maxRun,
// so that one in the middle is put in and taken out without moving all behind it:
// what a feed brings is in the order of changes, not of ids. Eight bytes an entry,
// and up to as many again where they came out of order.
type ordered struct {
	runs [][]*entry // none is empty
}

const maxRun = 512

// place is where an entry is, or would be: in which run, and where in it.
func (o *ordered) place(id string) (run, at int, found bool) {
	if len(o.runs) == 0 {
		return 0, 0, false
	}
	// The last run that does not begin behind it, which the newest key's always is.
	if run = len(o.runs) - 1; o.runs[run][0].id > id {
		run, found = slices.BinarySearchFunc(o.runs, id, func(r []*entry, id string) int { return strings.Compare(r[0].id, id) })
		if !found {
			run = max(0, run-1)
		}
	}
	at, found = slices.BinarySearchFunc(o.runs[run], id, func(e *entry, id string) int { return strings.Compare(e.id, id) })
	return run, at, found
}

func (o *ordered) insert(e *entry) {
	run, at, found := o.place(e.id)
	if found {
		return
	}
	if len(o.runs) == 0 {
		o.runs = [][]*entry{{e}}
		return
	}
	if r := o.runs[run]; len(r) == maxRun {
		// Keys are made in the order of their ids: a run at the end stays full.
		half := maxRun / 2
		if at == maxRun {
			half = maxRun
		}
		o.runs = slices.Insert(o.runs, run+1, append(make([]*entry, 0, maxRun-half), r[half:]...))
		clear(r[half:])
		o.runs[run] = r[:half]
		if at > half || half == maxRun {
			run, at = run+1, at-half
		}
	}
	o.runs[run] = slices.Insert(o.runs[run], at, e)
}

// behind returns where the first entry behind an id is.
func (o *ordered) behind(id string) (run, at int) {
	run, at, found := o.place(id)
	if found {
		at++
	}
	return run, at
}

func (o *ordered) remove(e *entry) {
	run, at, found := o.place(e.id)
	if !found {
		return
	}
	if o.runs[run] = slices.Delete(o.runs[run], at, at+1); len(o.runs[run]) == 0 {
		o.runs = slices.Delete(o.runs, run, run+1)
	}
}
