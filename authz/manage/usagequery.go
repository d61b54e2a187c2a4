package manage

import (
	"context"
	"strings"
	"time"
)

// readUsageQuery reads what a request asks for, whoever asks.
func (a *api) readUsageQuery(c *call) (*UsageQuery, error) {
	q := &UsageQuery{
		Workspace: c.query.Get("workspace"), Key: c.query.Get("key"),
		User: c.query.Get("user"), Model: c.query.Get("model"),
	}
	if q.Key != "" && !isID(q.Key) {
		return nil, invalid("key", "is not the id of a key; GET /api/v1/api-keys lists them")
	}
	var err error
	if q.Group, err = parseUsageGroup(c.query.Get("groupBy")); err != nil {
		return nil, err
	}
	return q, a.readUsageTimes(c, q)
}

func (a *api) readUsageTimes(c *call, q *UsageQuery) (err error) {
	now := a.Now()
	for _, bound := range []struct {
		name string
		at   *time.Time
	}{{"from", &q.From}, {"to", &q.To}} {
		if s := c.query.Get(bound.name); s != "" {
			if *bound.at, err = parseSince(s, now); err != nil {
				return invalid(bound.name, "%v", err)
			}
		}
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return invalid("to", "must be after from")
	}
	return nil
}

// parseUsageGroup reads the parameter groupBy.
func parseUsageGroup(s string) (g UsageGroup, err error) {
	if s == "" {
		return g, nil
	}
	for word := range strings.SplitSeq(s, ",") {
		every := time.Duration(0)
		switch word {
		case "workspace":
			g.Workspace = true
		case "key":
			g.Key = true
		case "user":
			g.User = true
		case "model":
			g.Model = true
		case "day":
			every = 24 * time.Hour
		case "hour":
			every = time.Hour
		case "minute":
			every = time.Minute
		default:
			return g, invalid("groupBy", "%q is not one of workspace, key, user, model, day, hour and minute; separate several by commas", printable(word, maxLabel))
		}
		if every != 0 && g.Every != 0 && g.Every != every {
			return g, invalid("groupBy", "name one of day, hour and minute")
		}
		g.Every = max(g.Every, every)
	}
	return g, nil
}

// confine narrows a query to what the caller may see.
//
// Totals know workspaces and users by their ids only, and those may have been
// somebody else's before: what counts is the usage of keys that were made for the
// ones of now. That is not asked where nothing can have been before: a workspace
// without a generation is of the deployment's first catalog.
func (a *api) confine(ctx context.Context, who *caller, q *UsageQuery) error {
	if who.operator() {
		return a.confineOperator(q)
	}
	ws, err := a.workspace(who, q.Workspace)
	if err != nil {
		return err
	}
	q.Workspace = ws.ID
	if who.member && q.User != "" && q.User != who.rec.User {
		return invalid("user", "members see what their own keys used; leave this out")
	}
	if who.member || who.selective() || ws.Generation != "" {
		q.Only = func(id, _ string) bool {
			o, ok := a.Index.Owner(id)
			return ok && a.exists(o) && who.reachesOwner(o)
		}
	}
	if who.selective() {
		return a.confineModels(ctx, who, q)
	}
	return nil
}

// confineModels narrows a query to the models that the caller is limited to, and to
// keys that open no others. It reads the records of those that used something.
func (a *api) confineModels(ctx context.Context, who *caller, q *UsageQuery) error {
	var used []string
	collect := *q
	collect.Only = func(id, model string) bool {
		// A key's models follow each other.
		if (len(used) == 0 || used[len(used)-1] != id) && who.rec.Opens(model) && q.Only(id, model) {
			used = append(used, id)
		}
		return false
	}
	if _, err := a.Totals.Usage(&collect); err != nil {
		return err
	}
	records, err := a.Index.Records(ctx, used)
	if err != nil {
		return err
	}
	seen := make(map[string]bool, len(records))
	for _, rec := range records {
		seen[rec.ID] = a.owned(rec) && who.reaches(rec) // revoked ones too: what they used stays
	}
	q.Only = func(id, model string) bool { return seen[id] && who.rec.Opens(model) }
	return nil
}

// confineOperator sees to it that the operator's query makes sense: a key is found by
// its id, also where it was revoked or its workspace is gone.
func (a *api) confineOperator(q *UsageQuery) error {
	switch {
	case q.Workspace == "" && q.Key == "":
	case q.Workspace == "":
		o, ok := a.Index.Owner(q.Key)
		if !ok { // named with its workspace it would be one that used nothing
			return errNoKey
		}
		q.Workspace = o.Workspace
	case !consumerName.MatchString(q.Workspace): // one that was deleted has used something all the same
		return invalid("workspace", "must be 1 to 63 of a-z, 0-9 and -")
	}
	return nil
}
