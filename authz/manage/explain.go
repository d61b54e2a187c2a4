package manage

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"tollgate/authz"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/reason"
)

// ExplainRequest asks whether a request would pass now. Without Key and KeyID it
// is about the presented key.
type ExplainRequest struct {
	KeyID     *string `json:"keyId,omitzero" doc:"A key that the presented one sees"`
	Key       *string `json:"key,omitzero" doc:"Instead: the key itself, as callers present it"`
	Workspace *string `json:"workspace,omitzero" doc:"Of keyId, for the operator; without it the key is found by its id"`
	Model     *string `json:"model,omitzero" doc:"The model that the request names"`
	Path      *string `json:"path,omitzero" doc:"The request's path, without a query; without it, the first of the dialect that names a model if the question does"`
	Method    *string `json:"method,omitzero" doc:"The request's method; without it, the path's"`
	Dialect   *string `json:"dialect,omitzero" doc:"Without a path: which dialect is meant; without it, the first"`
	MaxTokens *int64  `json:"maxTokens,omitzero" minimum:"1" doc:"The most tokens of the answer that the request asks for; without it, it names none and what the model's answers usually have is taken"`
}

// Explained is what the gate would say to a request.
type Explained struct {
	Allowed bool `json:"allowed" doc:"Whether it would pass now, with an empty prompt: a longer one may still meet a limit or budget"`
	// Reason, Status and Message are those of the refusal.
	Reason  *string `json:"reason" doc:"Why it would be refused; null: it would pass"`
	Status  *int64  `json:"status" doc:"Of the refusal, as the dialect has it"`
	Message *string `json:"message" doc:"What the refusal says is wrong; null: it would pass"`
	// RetryAt is when the limits would let it pass, if nothing else changes.
	RetryAt  *Time   `json:"retryAt" doc:"When it could pass, if nothing else changes; null: it would now, or nobody knows"`
	Observed *string `json:"observed" doc:"Why it would be refused if its route were not in observe mode"`

	Method    string  `json:"method" doc:"Of the request that was looked at"`
	Path      string  `json:"path"`
	Dialect   *string `json:"dialect"`
	Model     *string `json:"model"`
	KeyID     *string `json:"keyId"`
	Workspace *string `json:"workspace"`
	User      *string `json:"user"`
	Plan      *string `json:"plan"`

	Limits  []Standing `json:"limits" doc:"Every limit that binds the request, and what remains of it before the request"`
	Budgets []BudgetOf `json:"budgets" doc:"Every budget and credit that binds the request, as far as it is known"`
}

// Standing is where the limits of one scope stand.
type Standing struct {
	Scope      string  `json:"scope" enum:"key,user,workspace,model"`
	Models     *string `json:"models" doc:"Of the scope model: the plan's pattern, whose models share the limit"`
	Requests   *Left   `json:"requests" doc:"Per minute; null: no limit"`
	Tokens     *Left   `json:"tokens" doc:"Per minute; null: no limit"`
	Concurrent *Left   `json:"concurrent" doc:"At a time; null: no limit"`
}

// Left is what remains of a limit.
type Left struct {
	Limit     int64 `json:"limit"`
	Remaining int64 `json:"remaining"`
	ResetsAt  *Time `json:"resetsAt" doc:"When all of it is there again; null: it is now, or when requests end"`
}

func (a *api) explainRoutes() {
	handle(a, route{
		method: http.MethodPost, path: "/api/v1/explain", who: anyKey, status: http.StatusOK, asks: true,
		summary: "Says whether a request would pass now and why not, what remains of its limits and when they reset; uses nothing up",
		example: map[string]string{"model": "meta-llama/Llama-3.1-8B-Instruct"},
	}, a.explain)
}

func (a *api) explain(ctx context.Context, c *call, req ExplainRequest) (Explained, error) {
	q := authz.Question{Model: given(req.Model), Path: given(req.Path), Method: given(req.Method), Dialect: given(req.Dialect)}
	if req.MaxTokens != nil {
		if q.MaxTokens = *req.MaxTokens; q.MaxTokens < 1 {
			return Explained{}, invalid("maxTokens", "must be 1 or more")
		}
	}
	if _, known := dialect.Lookup(q.Dialect); q.Dialect != "" && !known {
		return Explained{}, invalid("dialect", "there is none %q; it may be %s", printable(q.Dialect, 63), strings.Join(dialect.Names(), ", "))
	}
	rec, err := a.explained(ctx, c, &req)
	if err != nil {
		return Explained{}, err
	}
	if q.Record = rec; rec == nil {
		// Nobody's, or none of the caller's business: the two are not told apart.
		q.Record = &key.Record{}
	}
	now := a.Now()
	v := viewExplanation(a.Explain(ctx, now, &q), now)
	if rec != nil {
		v.KeyID, v.Workspace, v.User = &rec.ID, &rec.Workspace, orNull(rec.User)
	}
	if !c.who.operator() && v.Observed != nil {
		// What stands in for the key is another workspace's.
		v.Plan, v.Limits, v.Budgets = nil, []Standing{}, []BudgetOf{}
		if rec == nil {
			v.Workspace, v.User = nil, nil
		}
	}
	return v, nil
}

func given(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// explained is the key that is asked about, nil where no key that the caller sees
// has the secret that is named.
func (a *api) explained(ctx context.Context, c *call, req *ExplainRequest) (*key.Record, error) {
	switch {
	case req.Key != nil && req.KeyID != nil:
		return nil, invalid("keyId", "and key are both named; name one")
	case req.Key != nil:
		rec, err := a.Identify(ctx, *req.Key)
		switch {
		case errors.Is(err, key.ErrUnavailable):
			return nil, err
		case err == nil && a.mayExplain(c.who, rec):
			return rec, nil
		}
		return nil, nil
	case req.KeyID == nil && c.who.operator():
		return nil, invalid("keyId", "is missing; name a key")
	case req.KeyID == nil:
		return c.who.rec, nil
	}
	ws, err := a.workspaceOfKey(c.who, *req.KeyID, given(req.Workspace))
	if err != nil {
		return nil, err
	}
	if !isID(*req.KeyID) {
		return nil, errNoKey
	}
	rec, err := a.Keys.Get(ctx, ws.ID, *req.KeyID)
	if err != nil {
		return nil, err
	}
	if !a.mayExplain(c.who, rec) {
		return nil, errNoKey
	}
	return rec, nil
}

// mayExplain reports whether a caller is told about a key: about itself, and
// about what it sees where it may manage. The operator is told about revoked keys
// too.
func (a *api) mayExplain(who *caller, rec *key.Record) bool {
	switch {
	case who.operator() || rec.ID == who.rec.ID && rec.Workspace == who.rec.Workspace:
		return true
	case !who.rec.May(key.Manage):
		return false
	}
	return a.owned(rec) && who.sees(rec)
}

func viewExplanation(e *authz.Explanation, now time.Time) Explained {
	v := Explained{
		Allowed: e.Reason == reason.None, Message: orNull(e.Detail), Method: e.Method, Path: e.Path,
		Dialect: orNull(e.Dialect), Model: orNull(e.Model), KeyID: orNull(e.Key), Workspace: orNull(e.Workspace), User: orNull(e.User),
		Plan: orNull(e.Plan), Limits: []Standing{}, Budgets: viewBudgets(e.Budgets),
	}
	if !v.Allowed {
		v.Reason, v.Status = new(e.Reason.String()), new(int64(e.Status))
	}
	if e.Observed != reason.None {
		v.Observed = new(e.Observed.String())
	}
	if e.Wait > 0 {
		v.RetryAt = new(Time(now.Add(e.Wait)))
	}
	for _, s := range e.Limits {
		v.Limits = append(v.Limits, Standing{
			Scope: s.Scope.String(), Models: orNull(s.Name),
			Requests: left(s.Requests, now), Tokens: left(s.Tokens, now), Concurrent: left(s.Concurrent, now),
		})
	}
	return v
}

func left(s limit.State, now time.Time) *Left {
	if s.Limit == 0 {
		return nil
	}
	l := &Left{Limit: s.Limit, Remaining: s.Remaining}
	if s.Reset > 0 {
		l.ResetsAt = new(Time(now.Add(s.Reset)))
	}
	return l
}
