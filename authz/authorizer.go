// Package authz decides: whether a request may pass, as whom, to which model and
// at what reservation (Authorizer), and what became of it (Settler).
//
// It is the domain. It knows no proxy, no store and no network; what it needs of
// them are the small interfaces it declares. Decisions are reproducible: now is
// an argument.
package authz

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/reason"
)

// Keys finds whose secret it is that was presented. Lookup's errors are
// key.ErrNotFound, and ones that wrap key.ErrUnavailable where it can't be told.
// It may wait for a store, but no longer than ctx.
type Keys interface {
	Lookup(ctx context.Context, d key.Digest) (*key.Record, error)
}

// Authorizer answers checks. All fields but Budgets, Objects, Resources and Used are needed. It is safe for
// concurrent use; no lock of its own is shared by all keys.
type Authorizer struct {
	Replica string
	// Tables returns the tables of now: workspaces, users, plans, models,
	// routes. A check takes them once.
	Tables    func() *catalog.Tables
	Keys      Keys
	Limits    limit.Limiter
	Ledger    Ledger
	Sealer    *Sealer
	Estimator *Estimator
	// Budgets are the Settler's too. nil: who has a budget is refused.
	Budgets *Budgets
	// Objects and Resources are asked only about requests that name an object or
	// make one. nil: who names one, or makes one that the plan caps, is refused.
	Objects   Objects
	Resources Resources
	// Current reports whether the tables can't be out of date. It must not block.
	// nil: they never are, on a replica that makes all changes itself.
	Current func() bool
	// NewID makes an admission's id: unique, and hard to guess.
	NewID func() string
	// Used is told of each admission of a key, and by which of its secrets. nil:
	// nobody is told.
	Used func(keyID string, secret int, now time.Time)
}

// check is one check under way.
type check struct {
	*Authorizer
	now    time.Time
	req    *dialect.Request
	d      *Decision
	tables *catalog.Tables

	route     *catalog.Route
	call      dialect.Call
	record    *key.Record
	presented string // the key, as it stands in the request
	secret    int    // number of the one that was presented
	workspace *catalog.Workspace
	user      *catalog.User
	model     *catalog.Model
	id        string
	holds     bool // a place of a counted resource

	why dialect.Refusal // set by the step that refused
	// question is what an explanation is asked for: then the limits are only
	// looked at, and nothing is admitted. nil: this is a check.
	question *Question
}

// sweepGrace is how long after a route's maxDuration an admission stays open for
// its settlement.
const sweepGrace = 2 * time.Minute

// Check decides about a request and fills in d, whatever was in it before. It
// waits only for a key that isn't in memory, and for what the store knows of objects
// and capped resources, and in that for ctx. The steps, and so which of several
// reasons is given, are in the order that the README states.
func (a *Authorizer) Check(ctx context.Context, now time.Time, req *dialect.Request, d *Decision) {
	*d = Decision{HeadersOnly: req.HeadersOnly}
	c := check{Authorizer: a, now: now, req: req, d: d, tables: a.Tables(), id: a.NewID()}
	if c.decide(ctx) {
		return
	}
	c.why.RequestID = c.id
	c.hideKey()
	response := c.call.Dialect.Refuse(c.why)
	response.Headers = append(response.Headers, d.ResponseHeaders...)
	d.Reason, d.Response, d.ResponseHeaders = c.why.Reason, &response, nil
}

// decide takes the steps, in their order, of a check and of an explanation. It
// returns false where one refused, for c.why.
func (c *check) decide(ctx context.Context) bool {
	if !c.findRoute() {
		return false
	}
	if !c.identify(ctx) {
		return false
	}
	switch {
	case c.req.HeadersOnly:
		return true
	case c.call.Answer == dialect.AnswerModels:
		c.answerModels()
		return true
	case !c.readCall() || !c.findObjects(ctx) || !c.findModel():
		return false
	case c.call.Answer == dialect.AnswerModel:
		response := c.call.Dialect.ModelAnswer(dialect.Model{ID: c.model.ID}, c.id)
		c.d.Response = &response
		return true
	}
	return c.admit(ctx)
}

// identify finds who asks, and that they may do what they ask for.
func (c *check) identify(ctx context.Context) bool {
	identified := c.findKey(ctx) && c.checkState()
	if !identified && c.observe() {
		// Nobody asked for a key's sake whether what is known here still holds.
		if c.Current != nil && !c.Current() {
			return c.refuse(reason.Unavailable)
		}
		identified = c.checkState()
	}
	return identified && c.checkAction()
}

// refuse is how a step ends the check.
func (c *check) refuse(r reason.Reason) bool {
	c.why.Reason = r
	return r == reason.None
}

// hideKey sees to it that the refusal doesn't repeat the presented key, which people
// put where the model's name belongs: what answers say is logged.
func (c *check) hideKey() {
	switch c.why.Reason {
	case reason.ModelUnknown, reason.ModelNotDeployed, reason.ModelDenied, reason.ModelAmbiguous: // these quote it
		if c.presented != "" && (strings.Contains(c.why.Model, c.presented) || strings.Contains(c.why.Detail, c.presented)) {
			c.why.Model, c.why.Detail = "", "The request has the presented key where the model's name belongs. Name the model there, and send the key in a header only."
		}
	}
}

// defaultFormat is what most keys look like. Its checksum makes guesses and typos
// cost nothing; its first letters belong to it (a catalog can't have them in
// another format), so what begins like it and doesn't match was never made.
var defaultFormat = key.MustFormat(key.DefaultFormat)

func (c *check) findKey(ctx context.Context) bool {
	if c.question != nil && c.question.Record != nil {
		return c.present(c.question.Record, someSecret(c.question.Record, c.now))
	}
	secret, why, detail := dialect.Credential(c.req)
	if why == reason.None {
		why, detail = dialect.CheckSecret(c.req.Path, secret)
	}
	if c.presented, c.why.Detail = secret, detail; why != reason.None {
		return c.refuse(why)
	}
	if defaultFormat.Claims(secret) && !defaultFormat.Match(secret) {
		return c.refuse(reason.KeyInvalid)
	}
	digest := key.DigestOf(secret)
	record, err := c.Keys.Lookup(ctx, digest)
	switch {
	case errors.Is(err, key.ErrNotFound):
		return c.refuse(reason.KeyInvalid)
	case err != nil:
		return c.refuse(reason.Unavailable)
	}
	// The look-up may have waited, and what it said holds now: so must the tables
	// that it is joined with.
	c.tables = c.Tables()
	return c.present(record, digest)
}

// present takes a key whose secret with this digest was presented.
func (c *check) present(record *key.Record, digest key.Digest) bool {
	if !record.Valid(digest, c.now) {
		return c.refuse(reason.KeyInvalid)
	}
	c.record, c.secret = record, record.Secrets[record.Secret(digest)].Number
	return true
}

// observe lets a request without a valid key go on where its route only observes,
// as what the route has in a key's place. What is refused for any other reason
// stays so.
func (c *check) observe() bool {
	if c.route.Observe == nil || c.why.Reason != reason.KeyMissing && c.why.Reason != reason.KeyInvalid {
		return false
	}
	c.d.Observed, c.why = c.why.Reason, dialect.Refusal{}
	c.record, c.workspace, c.user = c.route.Observe, nil, nil
	return true
}

// checkState joins the key with its workspace and user as they are now. A key of
// a workspace or a user that was deleted opens nothing, also when there is another
// one of the same id.
func (c *check) checkState() bool {
	var exists bool
	c.workspace, c.user, exists = c.tables.Owner(c.record)
	switch {
	case !exists:
		return c.refuse(reason.KeyInvalid)
	case c.workspace.Suspended:
		return c.refuse(reason.WorkspaceSuspended)
	case c.user != nil && c.user.Suspended:
		return c.refuse(reason.UserSuspended)
	}
	return true
}

func (c *check) checkAction() bool {
	if c.record.May(c.call.Action) {
		return true
	}
	c.why.Detail = "This path needs " + keyFor(c.call.Action) + "; what was presented is " + describe(c.record) + "."
	return c.refuse(reason.ActionDenied)
}

// keyFor and describe name kinds of keys as people know them.
func keyFor(a key.Action) string {
	if a == key.Infer {
		return "an inference key (one with the action infer)"
	}
	return "a key with the action " + string(a)
}

func describe(r *key.Record) string {
	switch {
	case !r.May(key.Infer):
		return "an account token (a key without the action infer)"
	case len(r.Actions) == 1:
		return "an inference key (a key with the action infer only)"
	}
	return "a key without that action"
}

func (c *check) answerModels() {
	var models []dialect.Model
	for _, m := range c.tables.ModelsFor(c.workspace.ID) {
		if m.Deployed && c.opens(m.ID) {
			models = append(models, dialect.Model{ID: m.ID})
		}
	}
	response := c.call.Dialect.ModelsAnswer(models, c.id)
	c.d.Response = &response
}

// opens reports whether the key and its plan open a model.
func (c *check) opens(model string) bool {
	return c.record.Opens(model) && c.workspace.Plan.Allows(model)
}

func (c *check) readCall() bool {
	most := c.route.MaxBody
	if c.call.Path.ModelIn == dialect.ModelInForm {
		most = c.route.MaxMultipart
	}
	// A body that is cut where the route's bound is has more than that.
	if int64(len(c.req.Body)) > most || c.req.BodyCut && c.req.CutAt >= most {
		return c.refuse(reason.RequestTooLarge)
	}
	c.why.Reason, c.why.Detail, c.why.Param = c.call.Read(c.req)
	c.why.Model = c.call.Model
	return c.why.Reason == reason.None
}

func (c *check) findModel() bool {
	if c.call.Model == "" { // the request names none, nor does what it mentions
		c.call.Model = c.route.Model
	}
	if c.call.Model == "" {
		return true
	}
	c.why.Model, c.why.Param = c.call.Model, cmp.Or(c.call.Path.ModelField, "model")
	c.model = c.tables.Model(c.call.Model, c.workspace.ID)
	switch {
	case c.model == nil:
		return c.refuse(reason.ModelUnknown)
	case !c.model.Deployed:
		return c.refuse(reason.ModelNotDeployed)
	case !c.opens(c.model.ID):
		return c.refuse(reason.ModelDenied)
	}
	c.why.Param = "" // nothing is wrong with it
	return true
}
