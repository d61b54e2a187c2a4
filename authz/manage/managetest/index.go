package managetest

import (
	"context"
	"slices"
	"strings"

	"tollgate/authz/key"
)

// index knows what was stored, applied or not.
type index Store

func (i *index) Page(_ context.Context, workspace, after string, limit int, wanted func(key.Owner) bool) (page []*key.Record, next string, err error) {
	s := (*Store)(i)
	if err := s.before("page"); err != nil {
		return nil, "", err
	}
	if limit < 1 || limit > 1000 {
		s.t.Errorf("a page of %d keys was asked for", limit)
	}
	for _, rec := range s.sorted() {
		switch {
		case rec.Workspace != workspace || rec.ID <= after || rec.Status != key.Active || !wanted(rec.Owner()):
		case len(page) == limit:
			return page, page[limit-1].ID, nil
		default:
			page = append(page, rec)
		}
	}
	return page, "", nil
}

// sorted are all records in the order of their ids.
func (s *Store) sorted() []*key.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*key.Record, 0, len(s.keys))
	for _, rec := range s.keys {
		all = append(all, rec)
	}
	slices.SortFunc(all, func(a, b *key.Record) int { return strings.Compare(a.ID, b.ID) })
	return all
}

func (i *index) Records(_ context.Context, ids []string) (records []*key.Record, err error) {
	s := (*Store)(i)
	if err := s.before("records"); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if rec := s.Key(id); rec != nil {
			records = append(records, rec)
		}
	}
	return records, nil
}

func (i *index) Owner(id string) (o key.Owner, ok bool) {
	if rec := (*Store)(i).Key(id); rec != nil {
		return rec.Owner(), true
	}
	return o, false
}
