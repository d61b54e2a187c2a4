package manage

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"

	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/reason"
)

// NewGateway makes the handler of what dialects have of the management API (their
// paths with dialect.AnswerManaged), each in its documented form and no more, for a
// gateway that many may reach. So the operator's key opens nothing there.
// Everything else about it is New's.
func NewGateway(cfg Config) (http.Handler, error) {
	cfg.OperatorKey = key.Digest{}
	var g gateway
	for _, name := range dialect.Names() {
		d, _ := dialect.Lookup(name)
		a, err := newAPI(cfg)
		if err != nil {
			return nil, err
		}
		a.gateway = true
		if d.Style != dialect.Minds { // whose form is the management API's own
			a.speaks = d
		}
		managed := false
		for i := range d.Paths {
			if p := &d.Paths[i]; p.Answer == dialect.AnswerManaged {
				managed = true
				if err := a.managedRoute(p.Method + " " + p.Pattern); err != nil {
					return nil, err
				}
			}
		}
		if managed {
			g = append(g, spoken{d, a.outermost()})
		}
	}
	return g, nil
}

// managedRoute adds the endpoint of a managed path.
func (a *api) managedRoute(path string) error {
	switch path {
	case "GET " + mePath:
		handle(a, route{
			method: http.MethodGet, path: mePath, who: anyKey, status: http.StatusOK,
			summary: "The user whose key is presented",
		}, a.me)
	case "GET " + keysPath:
		handle(a, route{
			method: http.MethodGet, path: keysPath, who: managers, status: http.StatusOK,
			summary: "Lists keys, oldest first",
			query: []param{{"cursor", "Where to go on, from the Link header"},
				{"limit", "Keys on a page, 1 to " + strconv.Itoa(maxPageSize) + ", which is the default"}},
		}, a.listMinds)
	case "POST " + keysPath:
		handle(a, route{
			method: http.MethodPost, path: keysPath, who: managers, status: http.StatusCreated,
			summary: "Makes a key", once: true, example: map[string]string{"name": "prod"},
		}, a.createMinds)
	case "DELETE " + keysPath + "/{id}":
		handle(a, route{
			method: http.MethodDelete, path: keysPath + "/{id}", who: managers, status: http.StatusNoContent,
			summary: "Revokes a key, at once and for good", matches: true,
		}, a.revokeKey)
	case "GET " + metricsPath:
		if a.Totals != nil {
			a.metricsRoute()
		}
	default:
		return fmt.Errorf("manage: nobody answers %s, which a dialect has as managed", path)
	}
	return nil
}

// gateway has the handlers of the dialects with managed paths.
type gateway []spoken

type spoken struct {
	*dialect.Dialect
	http.Handler
}

// ServeHTTP leaves a request to the dialect that has its path; what nobody has to
// one that has others like it.
func (g gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, last := r.URL.EscapedPath(), g[0]
	for _, s := range g {
		if p, _, ok := s.Match(r.Method, path); ok && p.Answer == dialect.AnswerManaged {
			last = s
			break
		}
		if s.Has(path) {
			last = s
		}
	}
	last.ServeHTTP(w, r)
}

// writeRefusal sends e as a dialect's clients know refusals.
func writeRefusal(w http.ResponseWriter, d *dialect.Dialect, e *Error) {
	h := w.Header()
	refusal := d.Refuse(dialect.Refusal{Reason: cmp.Or(e.why, reasonOf(e.Status)), Detail: e.Message, RequestID: h.Get("X-Request-Id")})
	for _, one := range refusal.Headers {
		h.Set(one.Name, one.Value)
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(refusal.Body) // nobody is left to tell of an error
}

// reasonOf is the gate's word for what the management API has a status for.
func reasonOf(status int) reason.Reason {
	switch status {
	case http.StatusBadRequest:
		return reason.BodyInvalid
	case http.StatusUnauthorized:
		return reason.KeyInvalid
	case http.StatusForbidden:
		return reason.ActionDenied
	case http.StatusNotFound:
		return reason.RouteUnknown
	case http.StatusRequestEntityTooLarge:
		return reason.RequestTooLarge
	case http.StatusTooManyRequests:
		return reason.RateLimitExceeded
	}
	return reason.Unavailable
}
