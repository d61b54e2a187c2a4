package manage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/reason"
)

// maxBody is the most that a request's body may have where its route says
// nothing else: 1 MiB.
const maxBody = 1 << 20

// route is all that the wrapper and the OpenAPI document need to know of an
// endpoint.
type route struct {
	method, path string
	summary      string
	who          access
	status       int // of a success
	query        []param
	// body is the most bytes a body may have; 0: maxBody.
	body int64
	// media is the type of a raw answer.
	media string
	// matches: the endpoint heeds If-Match. once: it heeds Idempotency-Key.
	matches, once bool
	// asks: it is a POST that changes nothing.
	asks bool
	// example is a body that the endpoint takes, for the document; nil: none.
	example any
}

// changes reports whether the endpoint changes something that replicas go by,
// and so takes waitParam.
func (rt *route) changes() bool { return rt.method != http.MethodGet && rt.who != anybody && !rt.asks }

// takesAway reports whether all that the endpoint does is to take something away,
// which nobody must be kept from.
func (rt *route) takesAway() bool {
	return rt.method == http.MethodDelete || strings.HasSuffix(rt.path, "/suspend")
}

// param is a parameter of a query. What a route doesn't list is refused, so
// that a mistyped dryRun doesn't change anything.
type param struct{ name, doc string }

// none is the input of an endpoint without a body, and the output of one that
// answers without one.
type none struct{}

// raw is an input or output that is not the JSON of a Go value.
type raw []byte

// call is a request that got through to its endpoint.
type call struct {
	who    *caller // nil only where anybody may ask
	secret string  // as presented, "" where nobody asked for it
	query  url.Values
	body   []byte      // as it came, where the endpoint takes one
	header http.Header // of the answer
	w      http.ResponseWriter
	r      *http.Request

	began    *catalog.Tables // in force when the request came
	patience time.Duration   // of who waits for the answer to a change
	note     note            // for the audit trail
}

// answer is what the outermost wrapper knows of an answer.
type answer struct {
	http.ResponseWriter
	status    int
	operation string
	speaks    *dialect.Dialect // see api
}

func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *answer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// handle adds an endpoint: it documents it, and on each request authenticates,
// checks the query, decodes the body strictly into an In, calls fn, and writes
// its Out or its error.
func handle[In, Out any](a *api, rt route, fn func(context.Context, *call, In) (Out, error)) {
	if rt.body == 0 {
		rt.body = maxBody
	}
	describe[In, Out](a.doc, rt)
	fn = thawed(a, rt, fn)
	a.mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
		if known, ok := w.(*answer); ok {
			known.operation = rt.method + " " + rt.path
		}
		c := &call{header: w.Header(), w: w, r: r, began: a.Tables()}
		out, err := func() (out Out, err error) {
			defer a.audited(c, rt, &err)
			if err = a.admit(c, rt); err != nil {
				return out, err
			}
			var in In
			if err = readInput(c, rt, &in); err != nil {
				return out, err
			}
			if err = a.admitAgain(c, rt); err != nil {
				return out, err
			}
			return fn(r.Context(), c, in)
		}()
		if err != nil {
			e := errorFor(err).hiding(c.secret)
			gone := errors.Is(err, context.Canceled) && r.Context().Err() != nil // who asked went away
			if e.Status >= http.StatusInternalServerError && !gone && rt.path != readyPath {
				a.Logger.Error("management request failed", "operation", rt.method+" "+rt.path,
					"status", e.Status, "request", w.Header().Get("X-Request-Id"), "error", err)
			}
			writeError(w, e)
			return
		}
		writeOutput(w, rt, out)
	})
}

// admitAgain looks again at who asks for a change, because the body may have taken
// a minute: whoever was revoked, suspended or narrowed meanwhile changes nothing.
func (a *api) admitAgain(c *call, rt route) error {
	if !rt.changes() || c.who == nil {
		return nil
	}
	who, err := a.authenticate(c.r.Context(), c.secret)
	if err != nil {
		return err // c.who stays: the audit tells who it was
	}
	c.who = who
	if err := a.check(rt.who, who); err != nil {
		return err
	}
	return a.paced(c, rt)
}

// paced refuses a tenant that has changed so much lately that the audit trail must be
// kept from filling: all but what takes away.
func (a *api) paced(c *call, rt route) error {
	if a.Audit == nil || c.who.operator() || rt.takesAway() {
		return nil
	}
	wait := a.allowances.spent(a.Now(), c.who.home())
	if wait == 0 {
		return nil
	}
	c.header.Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
	return refuse(http.StatusTooManyRequests, "The workspace has changed more than the audit trail takes of it; go on after %v, or ask who runs this service", wait)
}

// admit is what comes before an endpoint looks at the body.
func (a *api) admit(c *call, rt route) (err error) {
	if c.query, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return refuse(http.StatusBadRequest, "The query can't be read: escape its values")
	}
	if rt.who != anybody {
		if c.secret, err = credential(c.r); err != nil {
			return err
		}
		if c.who, err = a.authenticate(c.r.Context(), c.secret); err != nil {
			return err
		}
		if err = a.check(rt.who, c.who); err != nil {
			return err
		}
	}
	for name, values := range c.query {
		if !knows(rt.query, name) && (name != waitParam.name || !rt.changes()) {
			return refuse(http.StatusBadRequest,
				"The query has a parameter that this endpoint does not know; GET /openapi.json has the list. A key belongs into the Authorization header")
		}
		if len(values) > 1 {
			return invalid(name, "stands twice in the query")
		}
	}
	if rt.changes() {
		if err = c.readWait(); err != nil {
			return err
		}
	}
	return c.checkConditions(rt)
}

func knows(params []param, name string) bool {
	for _, p := range params {
		if p.name == name {
			return true
		}
	}
	return false
}

func readInput(c *call, rt route, in any) (err error) {
	switch in := in.(type) {
	case *none:
		if c.r.Method != http.MethodPost {
			return nil
		}
		// It may be an empty object. What else somebody asks for would not be done.
	case *raw:
		*in, err = readBody(c.w, c.r, rt.body, "application/yaml", "application/x-yaml", "text/yaml", "application/json")
		return err
	}
	if c.body, err = readBody(c.w, c.r, rt.body, "application/json", "application/merge-patch+json"); err != nil {
		return err
	}
	return decode(c.body, in)
}

func writeOutput(w http.ResponseWriter, rt route, out any) {
	var body []byte
	switch out := out.(type) {
	case none:
	case raw:
		w.Header().Set("Content-Type", rt.media)
		body = out
	case stream:
		out.send(w, rt)
		return
	default:
		w.Header().Set("Content-Type", "application/json")
		var err error
		if body, err = json.Marshal(out, json.Deterministic(true), json.FormatNilSliceAsNull(true)); err != nil {
			writeError(w, errorFor(err))
			return
		}
	}
	w.WriteHeader(rt.status)
	_, _ = w.Write(body) // nobody is left to tell of an error
}

// outermost is what happens to every request, whatever its path.
func (a *api) outermost() http.Handler {
	// Keys travel in headers, never in cookies, so another site's page can do
	// nothing in a user's name. This refuses it before anything is looked at.
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		w := &answer{ResponseWriter: rw, operation: "none", speaks: a.speaks}
		h := w.Header()
		h.Set("X-Request-Id", newID(a.Now()))
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if p := recover(); p != nil {
				a.Logger.Error("panic in the management API", "operation", w.operation,
					"request", h.Get("X-Request-Id"), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if w.status != 0 {
					panic(http.ErrAbortHandler) // the answer has begun; break it off
				}
				writeError(w, errorFor(fmt.Errorf("panic: %v", p)))
			}
			a.Served(Served{w.operation, w.status, time.Since(start)})
		}()
		if err := crossOrigin.Check(r); err != nil {
			writeError(w, refuse(http.StatusForbidden, "A page of another site may not use this API"))
			return
		}
		// Before anything else, as the gate does.
		if why, _ := dialect.CheckQuery(r.URL.RawQuery); a.gateway && why != reason.None {
			writeError(w, because(why, "An API key in the query is refused: URLs are logged. Send it in a header"))
			return
		}
		// The mux answers a path that isn't clean by a redirect, and a known path
		// with another method in its own words.
		if _, pattern := a.mux.Handler(r); pattern == "" || !clean(r.URL.Path) {
			switch {
			case a.gateway: // it tells nobody what else there might be
				writeError(w, errNotHere)
			case a.allow(h, r):
				writeError(w, errMethod)
			default:
				writeError(w, errNoEndpoint)
			}
			return
		}
		a.mux.ServeHTTP(w, r)
	})
}

// allow sets the header Allow for a path that takes other methods, and reports whether
// there are any.
func (a *api) allow(h http.Header, r *http.Request) bool {
	if !clean(r.URL.Path) {
		return false
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := a.mux.Handler(&other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		return false
	}
	h.Set("Allow", strings.Join(allowed, ", "))
	return true
}

func clean(path string) bool {
	for i := 1; i < len(path); i++ {
		if path[i-1] == '/' && (path[i] == '/' || path[i] == '.') {
			return false
		}
	}
	return true
}

// number reads a whole number from the query, within bounds.
func (c *call) number(name string, missing, least, most int) (int, error) {
	s := c.query.Get(name)
	if s == "" {
		return missing, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, invalid(name, "must be a whole number from %d to %d", least, most)
	}
	return n, nil
}

// linkNext tells where the next page is: this request's query with the changes.
func (c *call) linkNext(name, value string) {
	next := url.Values{}
	maps.Copy(next, c.query)
	next.Set(name, value)
	c.header.Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, c.r.URL.EscapedPath(), next.Encode()))
}
