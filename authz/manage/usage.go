package manage

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"tollgate/authz/money"
)

// Totals are what usage events add up to. They must not block on I/O.
type Totals interface {
	// Usage sums up. Rows come in the order of Start, Workspace, Key, User and
	// Model; without a group there is one, else none for what was not used. The
	// error is an *Error where the query can't be answered.
	Usage(q *UsageQuery) (*UsageSums, error)
}

// UsageQuery says what is to be summed up. A name that is "" is not looked at.
type UsageQuery struct {
	Workspace string
	Key       string // only with a Workspace
	User      string // whom personal keys belong to
	Model     string
	// Only, if set, says which keys' use of which models counts. It is quick and
	// doesn't block.
	Only func(key, model string) bool
	// From and To are the first moment and the first one after, by the start of
	// requests; From is before To. Zero: no bound.
	From, To time.Time
	Group    UsageGroup
}

// UsageGroup is what rows are told apart by.
type UsageGroup struct {
	Workspace, Key, User, Model bool
	Every                       time.Duration // a minute, an hour, a day of UTC; 0: time is not looked at
}

// UsageSums is the answer to a UsageQuery.
type UsageSums struct {
	Rows []UsageSum
	// From and To are what was summed up: the query's, rounded to what is kept.
	From, To time.Time
	// Pending is how many stored events are not in it; negative: it is not known.
	Pending int64
	// Current says that all that is stored is in it, or will be in a moment.
	Current bool
}

// UsageSum is one row: names that the group doesn't have, and Start, are zero. A
// row by key has its workspace too.
type UsageSum struct {
	Start                       time.Time
	Workspace, Key, User, Model string
	UsageCounts
}

// UsageCounts are what events add up to, late corrections included.
type UsageCounts struct {
	Requests                 int64 `json:"requests" doc:"That were let through, of every outcome"`
	InputTokens              int64 `json:"inputTokens" doc:"Include the two kinds of cached ones"`
	CacheReadInputTokens     int64 `json:"cacheReadInputTokens"`
	CacheCreationInputTokens int64 `json:"cacheCreationInputTokens"`
	OutputTokens             int64 `json:"outputTokens" doc:"Include those for reasoning"`
	ReasoningOutputTokens    int64 `json:"reasoningOutputTokens"`
	// ListCost and Cost are in USD, exact.
	ListCost money.Amount `json:"listCost" doc:"What it costs by the models' rates, USD; a decimal, never rounded"`
	Cost     money.Amount `json:"cost" doc:"What is billed: the list cost times the multiplier of the time, USD; a decimal, never rounded"`
}

func (c *UsageCounts) add(d *UsageCounts) {
	c.Requests += d.Requests
	c.InputTokens += d.InputTokens
	c.CacheReadInputTokens += d.CacheReadInputTokens
	c.CacheCreationInputTokens += d.CacheCreationInputTokens
	c.OutputTokens += d.OutputTokens
	c.ReasoningOutputTokens += d.ReasoningOutputTokens
	c.ListCost = c.ListCost.Add(d.ListCost)
	c.Cost = c.Cost.Add(d.Cost)
}

// UsageRow is what was used, as the API tells it. What the rows are not grouped by
// is nil and not there.
type UsageRow struct {
	Start     *Time   `json:"start,omitzero" doc:"By day, hour or minute: when it begins, UTC"`
	Workspace *string `json:"workspace,omitzero" doc:"By workspace, and by key"`
	Key       *string `json:"key,omitzero" doc:"By key: its id; empty for requests without a valid key on a route that only observes"`
	User      *string `json:"user,omitzero" doc:"By user: whom personal keys belong to; empty for other keys"`
	Model     *string `json:"model,omitzero" doc:"By model; empty for requests that name none"`
	UsageCounts
	LastUsedAt *Time `json:"lastUsedAt,omitzero" doc:"By key: when it was last used for whatever, also outside of from and to"`
}

// KeyUsage is what one key used.
type KeyUsage struct {
	ID        string `json:"id"`
	Workspace string `json:"workspace"`
	UsageCounts
	LastUsedAt *Time        `json:"lastUsedAt" doc:"For whatever, also outside of from and to; null: never, as far as is known"`
	Budget     *BudgetState `json:"budget" doc:"The key's own, as it stands now; null: none"`
	ByModel    []UsageRow   `json:"byModel" doc:"The same by model"`
}

const usagePath = "/api/v1/usage"

func (a *api) usageRoutes() {
	from := param{"from", "A time of RFC 3339 or a duration before now such as 24h or 7d; without it from the beginning. Rounded down to the minute, long ago to the hour; X-Tollgate-Usage-From tells"}
	to := param{"to", "The same, and the first moment that doesn't count; without it until now. Rounded up; X-Tollgate-Usage-To tells"}
	handle(a, route{
		method: http.MethodGet, path: usagePath, who: managers, status: http.StatusOK,
		summary: "Sums usage up: of the key's workspace, for members of their own keys; for the operator of all. " +
			"The header X-Tollgate-Usage-Pending tells how many stored events are not counted yet, or unknown",
		query: []param{
			from, to,
			{"groupBy", "What rows are told apart by, separated by commas: workspace, key, user, model and one of day, hour and minute (of UTC). Without it there is one row"},
			{"workspace", "For the operator: only this one's"},
			{"key", "Only the key with this id"},
			{"user", "Only the personal keys of this user"},
			{"model", "Only this model"},
		},
	}, a.usage)
	handle(a, route{
		method: http.MethodGet, path: keysPath + "/{id}/usage", who: anyKey, status: http.StatusOK,
		summary: "Sums up what a key used, in all and by model. Every key may ask this about itself",
		query:   []param{from, to, {"workspace", "For the operator; where there is one workspace it is the default"}},
	}, a.keyUsage)
}

func (a *api) usage(ctx context.Context, c *call, _ none) ([]UsageRow, error) {
	q, err := a.readUsageQuery(c)
	if err != nil {
		return nil, err
	}
	if err := a.confine(ctx, c.who, q); err != nil {
		return nil, err
	}
	return a.sumUsage(c, q)
}

func (a *api) keyUsage(ctx context.Context, c *call, _ none) (KeyUsage, error) {
	rec := c.who.rec
	if c.who.operator() || rec.ID != c.r.PathValue("id") {
		if err := a.check(managers, c.who); err != nil {
			return KeyUsage{}, err
		}
		var err error
		if rec, err = a.find(ctx, c); err != nil {
			return KeyUsage{}, err
		}
	} else if _, err := a.workspace(c.who, c.query.Get("workspace")); err != nil {
		return KeyUsage{}, err
	}
	q := &UsageQuery{Workspace: rec.Workspace, Key: rec.ID, Group: UsageGroup{Model: true}}
	if err := a.readUsageTimes(c, q); err != nil {
		return KeyUsage{}, err
	}
	// What a key used before its models were changed is its own to know; another
	// that is limited sees its own models only.
	if !c.who.operator() && c.who.rec.ID != rec.ID && c.who.rec.Models != nil {
		q.Only = func(_, model string) bool { return c.who.rec.Opens(model) }
	}
	rows, err := a.sumUsage(c, q)
	if err != nil {
		return KeyUsage{}, err
	}
	u := KeyUsage{
		ID: rec.ID, Workspace: rec.Workspace, LastUsedAt: a.lastUsed(rec.Workspace, rec.ID, 0), Budget: a.keyBudget(rec), ByModel: rows,
	}
	for i := range rows {
		u.add(&rows[i].UsageCounts)
	}
	return u, nil
}

// sumUsage asks the totals, and tells in the answer's headers what they are of.
func (a *api) sumUsage(c *call, q *UsageQuery) ([]UsageRow, error) {
	sums, err := a.Totals.Usage(q)
	if err != nil {
		return nil, err
	}
	pending := "unknown"
	if sums.Pending >= 0 {
		pending = strconv.FormatInt(sums.Pending, 10)
	}
	c.header.Set(pendingHeader, pending)
	for name, at := range map[string]time.Time{"X-Tollgate-Usage-From": sums.From, "X-Tollgate-Usage-To": sums.To} {
		if !at.IsZero() {
			c.header.Set(name, at.UTC().Format(timeFormat))
		}
	}
	rows := make([]UsageRow, len(sums.Rows))
	for i := range sums.Rows {
		rows[i] = a.viewUsage(&sums.Rows[i], q.Group)
	}
	return rows, nil
}

const pendingHeader = "X-Tollgate-Usage-Pending"

// readPending reads pendingHeader.
func readPending(h http.Header) *uint64 {
	n, err := strconv.ParseUint(h.Get(pendingHeader), 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

func (a *api) viewUsage(s *UsageSum, by UsageGroup) UsageRow {
	row := UsageRow{UsageCounts: s.UsageCounts}
	if by.Every != 0 {
		row.Start = (*Time)(&s.Start)
	}
	if by.Workspace || by.Key {
		row.Workspace = &s.Workspace
	}
	if by.Key {
		row.Key = &s.Key
		if s.Key != "" {
			row.LastUsedAt = a.lastUsed(s.Workspace, s.Key, 0)
		}
	}
	if by.User {
		row.User = &s.User
	}
	if by.Model {
		row.Model = &s.Model
	}
	return row
}
