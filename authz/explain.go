package authz

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/reason"
)

// Question is what an explanation is asked for: would a request with this key, to
// this path, for this model pass now?
type Question struct {
	// Record is the key. nil: the one whose secret is Secret, "" for none.
	Record *key.Record
	Secret string
	// Model is the id that the request would name; "": it names none.
	Model string
	// Method and Path, without a query, are those of the request. Path "": the
	// first path of the dialect, or of any, that names a model as the question
	// does. Method "": the one that the path has.
	Method, Path string
	// Dialect, where Path is "", is the one to ask about; "": any.
	Dialect string
	// MaxTokens is the most tokens of an answer that the request would ask for, where
	// its path reads that; 0: it names none.
	MaxTokens int64
}

// Explanation is what a check would say, and what is left of the limits.
type Explanation struct {
	// Reason is why the request would be refused; None: it would pass.
	Reason reason.Reason
	// Observed is why it would have been refused on a route that enforces.
	Observed reason.Reason
	Status   int           // of the answer, as the dialect refuses; 0: it would pass
	Detail   string        // the sentence for the caller; "": it would pass
	Wait     time.Duration // until it could pass, if nothing else changes; 0: not known, or it does

	Method, Path, Dialect string // of the request that was looked at
	Model                 string
	// Key, Workspace, User and Plan are ids, "" where the decision did not get
	// so far.
	Key, Workspace, User, Plan string
	// Limits are where each limit stands that binds the request, without it.
	Limits []Standing
	// Budgets are where each budget stands that binds the request, without it; none
	// where that is not known.
	Budgets []BudgetStanding
}

// Standing is where the limits of one scope stand. A State whose Limit is 0 is
// of no limit.
type Standing struct {
	Scope                        limit.Scope
	Name                         string // of limit.Model: the plan's pattern; else ""
	Requests, Tokens, Concurrent limit.State
}

// Explain decides as Check would about the shortest request that fits the
// question, by the same steps, and uses nothing up. It waits only as Check does,
// and where q has a Record for nothing.
func (a *Authorizer) Explain(ctx context.Context, now time.Time, q *Question) *Explanation {
	var d Decision
	tables := a.Tables()
	c := check{Authorizer: a, now: now, req: q.request(tables), d: &d, tables: tables, question: q}
	e := &Explanation{}
	if !c.decide(ctx) {
		e.Reason, e.Wait = c.why.Reason, c.why.RetryAfter
		if c.req.Path == "" {
			c.why.Detail = q.unrouted(tables)
		}
		// What a caller would get, which is the dialect's to say.
		e.Status, e.Detail = c.call.Dialect.Refuse(c.why).Status, c.call.Dialect.Sentence(&c.why)
	}
	e.Observed = d.Observed
	e.Method, e.Dialect, e.Model = c.req.Method, d.Dialect, c.call.Model
	e.Path, _ = dialect.SplitPath(c.req.Path)
	if c.record != nil {
		e.Key, e.Workspace, e.User = c.record.ID, c.record.Workspace, c.record.User
	}
	if c.workspace != nil {
		e.Plan = c.workspace.Plan.ID
		e.Limits = c.standings()
		e.Budgets = c.budgetStandings()
	}
	return e
}

// standings looks at each limit that binds the request by itself.
func (c *check) standings() []Standing {
	demands := c.limits(nil, c.admission())
	all := make([]Standing, 0, len(demands))
	for i := range demands {
		var v limit.Verdict
		c.Limits.Peek(c.now, demands[i:i+1], 0, &v)
		s := Standing{Scope: demands[i].Scope, Requests: v.Requests, Tokens: v.Tokens, Concurrent: v.Concurrent}
		if s.Scope == limit.Model {
			s.Name = demands[i].Name
		}
		all = append(all, s)
	}
	return all
}

// someSecret is the digest of a secret of a key by which it opens something, if
// there is one.
func someSecret(r *key.Record, now time.Time) key.Digest {
	for i := range r.Secrets {
		if r.Valid(r.Secrets[i].Digest, now) {
			return r.Secrets[i].Digest
		}
	}
	return key.Digest{}
}

// request is the shortest request that fits the question.
func (q *Question) request(t *catalog.Tables) *dialect.Request {
	req := &dialect.Request{Method: q.Method, Path: q.Path}
	route, path := q.find(t)
	if q.Secret != "" {
		req.Headers = append(req.Headers, dialect.Header{Name: "authorization", Value: "Bearer " + q.Secret})
	}
	if path == nil {
		return req // which no route has
	}
	req.Method, req.Host = path.Method, route.SomeHost()
	if path.Header != "" {
		req.Headers = append(req.Headers, dialect.Header{Name: path.Header})
	}
	if q.Path == "" {
		req.Path = fill(path.Pattern, q.Model)
	}
	if path.WebSocket {
		req.Headers = append(req.Headers, dialect.Header{Name: "upgrade", Value: "websocket"})
	}
	q.name(req, path)
	return req
}

// find is the path that the question is about, and the route that has it; nil where
// there is none.
func (q *Question) find(t *catalog.Tables) (route *catalog.Route, path *dialect.Path) {
	for i := range t.Routes {
		r := &t.Routes[i]
		d := r.Dialect
		for j := range d.Paths {
			p := &d.Paths[j]
			if q.Method != "" && q.Method != p.Method {
				continue
			}
			if q.Path != "" {
				if found, _, ok := d.Match(p.Method, q.Path); ok {
					return r, found
				}
				continue
			}
			if q.Dialect != "" && q.Dialect != d.Name || p.Answer != dialect.AnswerNone {
				continue
			}
			if (p.ModelIn == dialect.ModelNone) == (q.Model == "") {
				return r, p
			}
			if path == nil {
				route, path = r, p
			}
		}
	}
	return route, path
}

// unrouted says why no path is there to ask about, where that is the dialect's fault.
func (q *Question) unrouted(t *catalog.Tables) string {
	var routed []string
	for i := range t.Routes {
		if name := t.Routes[i].Dialect.Name; !slices.Contains(routed, name) {
			routed = append(routed, name)
		}
	}
	switch {
	case len(routed) == 0:
		return "The catalog has no routes. Add one."
	case q.Dialect == "" || slices.Contains(routed, q.Dialect):
		return ""
	}
	return "The catalog has no route with the dialect " + q.Dialect + ". It has routes with " + strings.Join(routed, ", ") + "."
}

// name makes the request name the question's model where its path has it.
func (q *Question) name(req *dialect.Request, p *dialect.Path) {
	const boundary = "explain"
	switch p.BodyIn() {
	case dialect.ModelInJSON:
		var members []string
		if q.Model != "" {
			quoted, _ := jsontext.AppendQuote(nil, q.Model) // what isn't UTF-8 is no model's id either
			members = append(members, `"`+p.ModelField+`":`+string(quoted))
		}
		if q.bounds(p) {
			members = append(members, `"`+p.MaxOutput[0]+`":`+strconv.FormatInt(q.MaxTokens, 10))
		}
		req.Body = []byte("{" + strings.Join(members, ",") + "}")
	case dialect.ModelInForm:
		req.Headers = append(req.Headers, dialect.Header{Name: "content-type", Value: "multipart/form-data; boundary=" + boundary})
		field := p.ModelField
		if q.Model == "" {
			field = "none" // a form has a field
		}
		part := func(name, value string) {
			req.Body = append(req.Body, "--"+boundary+"\r\nContent-Disposition: form-data; name=\""+name+"\"\r\n\r\n"+value+"\r\n"...)
		}
		part(field, q.Model)
		for i := range p.Must {
			part(p.Must[i].Field, p.Must[i].Values[0])
		}
		req.Body = append(req.Body, "--"+boundary+"--\r\n"...)
	case dialect.ModelInURLForm:
		req.Headers = append(req.Headers, dialect.Header{Name: "content-type", Value: "application/x-www-form-urlencoded"})
		form := url.Values{p.ModelField: {q.Model}}
		for i := range p.Must {
			form.Set(p.Must[i].Field, p.Must[i].Values[0])
		}
		if q.bounds(p) {
			form.Set(p.MaxOutput[0], strconv.FormatInt(q.MaxTokens, 10))
		}
		req.Body = []byte(form.Encode())
	case dialect.ModelInQuery:
		if q.Model != "" {
			req.Path += "?" + url.Values{p.ModelField: {q.Model}}.Encode()
		}
	}
	for i := range p.Mentions { // of which nobody asks whose they are
		if m := &p.Mentions[i]; m.In == dialect.ModelInQuery {
			req.Path += "?" + m.Field + "=0"
		}
	}
	if req.Body == nil && req.Method != http.MethodGet {
		req.Body = []byte{}
	}
}

// bounds reports whether the request says how long its answer may be.
func (q *Question) bounds(p *dialect.Path) bool { return q.MaxTokens > 0 && len(p.MaxOutput) > 0 }

// fill puts a model in the place of a pattern's {model}.
func fill(pattern, model string) string {
	before, rest, variable := strings.Cut(pattern, "{")
	if !variable {
		return pattern
	}
	kind, after, _ := strings.Cut(rest, "}")
	if !strings.HasSuffix(kind, "...") {
		return before + url.PathEscape(model) + after
	}
	segments := strings.Split(model, "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	return before + strings.Join(segments, "/") + after
}
