package manage

import (
	"context"

	"tollgate/authz/key"
)

const (
	// maxExamined is how many keys are looked at for one page. Only a caller that is
	// limited to some models sees fewer than are looked at.
	maxExamined = 2 * maxPageSize
	// leastExamined is how many such a caller's page looks at in one step.
	leastExamined = 200
)

// page returns up to limit keys that a caller sees, behind an id. next is the place
// behind which to go on, also where the page is not full; "": there are no more.
//
// Ids sort by the time of their making, so a page goes on behind its cursor whatever
// became of that key. A place is the id of a key on the page, or of none: a caller
// doesn't learn the ids of keys that were looked at and are not its to see.
func (a *api) page(ctx context.Context, who *caller, workspace, after string, limit int) (page []Key, next string, err error) {
	page = []Key{}
	for examined := 0; len(page) < limit && examined < maxExamined; {
		most := max(limit-len(page), 2) // see between
		if who.selective() {
			most = max(most, leastExamined)
		}
		records, next, err := a.Index.Page(ctx, workspace, after, most, func(o key.Owner) bool { return a.exists(o) && who.reachesOwner(o) })
		if err != nil {
			return nil, "", err
		}
		for _, rec := range records {
			if !a.owned(rec) || !who.sees(rec) {
				continue
			}
			if len(page) == limit {
				return page, page[limit-1].ID, nil
			}
			page = append(page, a.view(rec))
		}
		if next == "" {
			return page, "", nil
		}
		// What is looked at next begins with the last of these, if that isn't the caller's.
		after = next
		if n := len(records); n > 1 && (len(page) == 0 || page[len(page)-1].ID != records[n-1].ID) {
			after = between(records[n-2].ID, records[n-1].ID)
		}
		examined += most
	}
	return page, after, nil
}
