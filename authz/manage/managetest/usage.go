package managetest

import (
	"cmp"
	"slices"
	"time"

	"tollgate/authz/manage"
)

// Usage is what a key used at once.
type Usage struct {
	At        time.Time `json:"at"`
	Workspace string    `json:"workspace"`
	Key       string    `json:"key"`
	User      string    `json:"user"`
	Model     string    `json:"model"`
	manage.UsageCounts
}

// AddUsage adds to the totals.
func (s *Store) AddUsage(u Usage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usage = append(s.usage, u)
}

// SetPending says how many events the totals don't have; negative: not known.
func (s *Store) SetPending(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = n
}

type totals Store

// Usage implements manage.Totals, by the definition.
func (t *totals) Usage(q *manage.UsageQuery) (*manage.UsageSums, error) {
	if q.Key != "" && q.Workspace == "" {
		t.t.Error("the totals are asked about a key without its workspace")
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		t.t.Error("the totals are asked about no time")
	}
	t.mu.Lock()
	usage, pending := t.usage, t.pending
	t.mu.Unlock()
	sums := map[manage.UsageSum]manage.UsageCounts{}
	if q.Group == (manage.UsageGroup{}) {
		sums[manage.UsageSum{}] = manage.UsageCounts{}
	}
	for _, u := range usage {
		if counts(q, &u) {
			name := nameOf(q.Group, &u)
			sums[name] = plus(sums[name], u.UsageCounts)
		}
	}
	answer := &manage.UsageSums{From: q.From, To: q.To, Pending: pending, Current: pending >= 0}
	for sum, n := range sums {
		sum.UsageCounts = n
		answer.Rows = append(answer.Rows, sum)
	}
	slices.SortFunc(answer.Rows, func(a, b manage.UsageSum) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Workspace, b.Workspace), cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.User, b.User), cmp.Compare(a.Model, b.Model))
	})
	return answer, nil
}

func counts(q *manage.UsageQuery, u *Usage) bool {
	is := func(want, got string) bool { return want == "" || want == got }
	return is(q.Workspace, u.Workspace) && is(q.Key, u.Key) && is(q.User, u.User) && is(q.Model, u.Model) &&
		(q.Only == nil || q.Only(u.Key, u.Model)) &&
		(q.From.IsZero() || !u.At.Before(q.From)) && (q.To.IsZero() || u.At.Before(q.To))
}

func nameOf(by manage.UsageGroup, u *Usage) (name manage.UsageSum) {
	if by.Workspace || by.Key {
		name.Workspace = u.Workspace
	}
	if by.Key {
		name.Key = u.Key
	}
	if by.User {
		name.User = u.User
	}
	if by.Model {
		name.Model = u.Model
	}
	if by.Every != 0 {
		name.Start = u.At.UTC().Truncate(by.Every)
	}
	return name
}

func plus(a, b manage.UsageCounts) manage.UsageCounts {
	a.Requests += b.Requests
	a.InputTokens += b.InputTokens
	a.CacheReadInputTokens += b.CacheReadInputTokens
	a.CacheCreationInputTokens += b.CacheCreationInputTokens
	a.OutputTokens += b.OutputTokens
	a.ReasoningOutputTokens += b.ReasoningOutputTokens
	a.ListCost, a.Cost = a.ListCost.Add(b.ListCost), a.Cost.Add(b.Cost)
	return a
}
