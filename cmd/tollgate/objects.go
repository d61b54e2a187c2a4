package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"tollgate/authz"
	"tollgate/authz/manage"
	"tollgate/events"
)

// openObjects opens whose objects are and what is counted. Whoever makes changes may
// make the bucket, a replica only use it.
func (n *node) openObjects(ctx context.Context, copies int) (*events.Objects, error) {
	if n.admin != n.conn {
		if _, err := events.OpenObjects(ctx, n.admin, copies); err != nil {
			return nil, err
		}
	}
	return events.OpenObjects(ctx, n.conn, copies)
}

// countedResources implements manage.Resources.
type countedResources struct{ objects *events.Objects }

func (r countedResources) Tally(ctx context.Context, of authz.Resource) (authz.Tally, error) {
	t, err := r.objects.Tally(ctx, of)
	return t, asKeyError(err)
}

func (r countedResources) Correct(ctx context.Context, of authz.Resource, count int64) error {
	return asKeyError(r.objects.Correct(ctx, of, count))
}

// resourceLine is what a workspace has of what plans count, and its plan's caps.
func resourceLine(all map[string]manage.ResourceCount) string {
	if len(all) == 0 {
		return "-"
	}
	list := make([]string, 0, len(all))
	for name, r := range all {
		one := fmt.Sprintf("%s %d", name, r.Count)
		if r.Cap != nil {
			one += fmt.Sprintf(" of %d", *r.Cap)
		}
		if r.Held > 0 {
			one += fmt.Sprintf(" (%d under way)", r.Held)
		}
		list = append(list, one)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
