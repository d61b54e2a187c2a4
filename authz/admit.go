package authz

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/money"
	"tollgate/authz/reason"
)

// admit reserves, writes the admission down and fills in the decision: the last
// step, after which the request goes on. A request that is refused here has used
// up nothing. An explanation ends where something would be taken.
func (c *check) admit(ctx context.Context) bool {
	a := c.admission()
	c.noteEffects(a)
	var scratch [limit.Scopes]limit.Demand
	demands := c.limits(scratch[:0], a)
	tokens, ok := c.reservation(a, demands)
	if !ok {
		return c.refuse(reason.TokenRequestTooLarge)
	}
	var v limit.Verdict
	if c.question != nil {
		c.Limits.Peek(c.now, demands, tokens, &v)
	} else {
		c.Limits.Reserve(c.now, demands, tokens, &v)
	}
	c.d.ResponseHeaders = c.call.Dialect.AppendLimits(c.d.ResponseHeaders, c.now, dialect.Standing(v.Requests), dialect.Standing(v.Tokens))
	if v.Reason != reason.None {
		c.why.RetryAfter = v.Wait
		c.why.Detail = limitSentence(&v)
		return c.refuse(v.Reason)
	}
	if c.question != nil {
		return c.spend(a) && c.reserveResource(ctx, a)
	}
	a.Reserved = limit.Grant{At: a.Start, Tokens: tokens, Counted: v.Counted}
	if !c.spend(a) {
		c.Limits.Settle(c.now, demands, a.Reserved, -1)
		c.d.ResponseHeaders = nil
		return false
	}
	if !c.reserveResource(ctx, a) || !c.stillIdentified(ctx) || !c.countObject(ctx) {
		c.giveBack(ctx, a, demands)
		return false
	}

	var buf [768]byte
	written := a.AppendBinary(buf[:0])
	if err := c.Ledger.Admit(a, written); err != nil {
		c.giveBack(ctx, a, demands)
		return c.refuse(reason.Unavailable)
	}
	if c.Used != nil && a.Key != "" {
		c.Used(a.Key, c.secret, c.now)
	}
	c.d.Admission = a
	c.d.Token = c.Sealer.Seal(written)
	c.d.Unsettled = c.route.Unsettled
	c.forward(a)
	return true
}

// giveBack ends all that was reserved for an admission that comes to nothing.
func (c *check) giveBack(ctx context.Context, a *Admission, demands []limit.Demand) {
	c.Limits.Settle(c.now, demands, a.Reserved, -1)
	c.Budgets.Settle(c.now, a, money.Amount{})
	c.freeResource(ctx, a)
	c.d.ResponseHeaders = nil
}

// admission is what is known of it before anything is reserved.
func (c *check) admission() *Admission {
	start := c.now.UTC().Truncate(time.Microsecond)
	a := &Admission{
		ID: c.id, Replica: c.Replica, Workspace: c.workspace.ID, Key: c.record.ID, User: c.record.User,
		ExternalID: c.workspace.ExternalID, Labels: c.labels(), Tags: c.tags(),
		Dialect: c.call.Dialect.Name, Path: c.call.Path.Name(), Stream: c.call.Stream, Choices: c.call.Choices,
		RatesVersion: c.tables.Version, Multiplier: c.workspace.Multiplier, Billing: c.tables.Settings.Billing,
		Start: start, Deadline: start.Add(c.route.Duration(c.call.Path) + sweepGrace),
		PromptBytes: c.call.PromptBytes, Observed: c.d.Observed,
	}
	if c.model != nil {
		a.Model = c.model.ID
		if card := c.model.RatesAt(start); card != nil {
			a.Rates, a.RatesFrom = card.Rates, card.From
		}
	}
	for i := range c.req.Headers {
		switch h := &c.req.Headers[i]; h.Name {
		case "x-client-request-id":
			a.ClientRequestID = c.kept(h.Value)
		case "x-request-id":
			a.ProxyRequestID = c.kept(h.Value)
		case "traceparent":
			a.TraceParent = c.kept(h.Value)
		}
	}
	return a
}

// maxKept bounds what is kept of one header of the caller.
const maxKept = 256

// leastSecret is the length from which what was presented can be a key. Shorter is what
// clients send that must send something, where a route lets pass without a key.
const leastSecret = 16

// kept is a copy of a caller's header that may be kept: not the request's memory, no
// more than maxKept bytes, and nothing where it has the presented key in it, which
// would go into the journal and the event. What can't be a key counts as a word only:
// "x" is no part of "team-xray".
func (c *check) kept(s string) string {
	if len(c.presented) >= leastSecret && strings.Contains(s, c.presented) || c.presented != "" && dialect.HasWord(s, c.presented) {
		return ""
	}
	return strings.Clone(strings.ToValidUTF8(s[:min(len(s), maxKept)], ""))
}

// labels are those of the workspace, the user and the key; what is nearer to the
// key wins.
func (c *check) labels() []Label {
	n := len(c.workspace.Labels) + len(c.record.Labels)
	if c.user != nil {
		n += len(c.user.Labels)
	}
	if n == 0 {
		return nil
	}
	var labels []Label
	add := func(from map[string]string) {
		for name, value := range from {
			labels = setLabel(labels, name, value)
		}
	}
	add(c.workspace.Labels)
	if c.user != nil {
		add(c.user.Labels)
	}
	add(c.record.Labels)
	slices.SortFunc(labels, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	return labels
}

func setLabel(labels []Label, name, value string) []Label {
	for i := range labels {
		if labels[i].Name == name {
			labels[i].Value = value
			return labels
		}
	}
	return append(labels, Label{Name: name, Value: value})
}

func (c *check) tags() []Label {
	var tags []Label
	for _, name := range c.tables.Settings.TagHeaders {
		for i := range c.req.Headers {
			if c.req.Headers[i].Name == name {
				tags = append(tags, Label{Name: name, Value: c.kept(c.req.Headers[i].Value)})
				break
			}
		}
	}
	return tags
}

// limits are the demands of every scope that has a limit. It notes in a which of
// the plan's model limits applies.
func (c *check) limits(d []limit.Demand, a *Admission) []limit.Demand {
	plan := c.workspace.Plan
	var of [limit.Scopes]key.Limits
	if a.Key != "" { // else nobody presented one, see observe
		of[limit.Key] = c.record.Bound(plan.PerKey)
	}
	if a.User != "" {
		of[limit.User] = plan.PerUser
	}
	of[limit.Workspace] = plan.PerWorkspace
	a.ModelLimit, of[limit.Model] = plan.ModelLimits(a.Model)
	var scopes limit.Set
	for s := range of {
		if of[s] != (key.Limits{}) {
			scopes |= 1 << s
		}
	}
	d = demands(d, scopes, a.Key, a.User, a.Workspace, a.ModelLimit)
	for i := range d {
		l := &of[d[i].Scope]
		d[i].Requests, d[i].Tokens, d[i].Concurrent = l.RequestsPerMinute, l.TokensPerMinute, l.ConcurrentRequests
	}
	return d
}

// reservation is how many tokens a request may use: the prompt's estimate and,
// for each answer that it wants, the maximum that it names. Where it names none,
// what answers of this model usually have; that is our guess and not the
// caller's wish, so it is cut to what the tightest limit could ever give rather
// than refused for ever. How many answers is the caller's wish: several of them are
// not cut below leastAnswerTokens each. ok is false where what the caller asked for
// is more than a whole limit. A WebSocket, accounted by time, and what is free of tokens
// reserve none.
func (c *check) reservation(a *Admission, demands []limit.Demand) (tokens int64, ok bool) {
	if c.call.Path.WebSocket || c.call.Path.Free {
		return 0, true
	}
	tightest := int64(0)
	for i := range demands {
		if t := demands[i].Tokens; t > 0 && (tightest == 0 || t < tightest) {
			tightest = t
		}
	}
	a.InputEstimate = c.Estimator.Prompt(a.Model, c.call.PromptBytes)
	each := c.call.MaxOutput
	a.Capped = each > 0
	if each == 0 {
		each = c.Estimator.Answer(a.Model, a.Workspace)
	}
	a.OutputEstimate = saturatingMul(each, c.call.Choices)
	tokens = a.InputEstimate + a.OutputEstimate
	if tokens < 0 { // beyond any limit
		tokens = 1<<63 - 1
	}
	if tightest == 0 || tokens <= tightest {
		return tokens, true
	}
	if room := tightest - a.InputEstimate; !a.Capped && room >= leastAnswers(c.call.Choices) {
		a.OutputEstimate = room
		return tightest, true
	}
	instead := "Shorten the prompt or lower the maximum of output tokens."
	if c.call.Choices > 1 {
		instead = "Ask for fewer answers at once, shorten the prompt, or name a lower maximum of output tokens."
	}
	c.why.Detail = fmt.Sprintf("This one request may use %d tokens (about %d of prompt, up to %d of output) and the whole limit is %d per minute. %s",
		tokens, a.InputEstimate, a.OutputEstimate, tightest, instead)
	return 0, false
}

// leastAnswers is the least that so many answers without a maximum are reserved.
func leastAnswers(choices int64) int64 {
	if choices == 1 { // a limit may be lower than that
		return 0
	}
	return saturatingMul(leastAnswerTokens, choices)
}

func saturatingMul(a, b int64) int64 {
	if a != 0 && b > (1<<62)/a {
		return 1 << 62
	}
	return a * b
}

// limitSentence tells a caller which limit it met and for how long.
func limitSentence(v *limit.Verdict) string {
	var what string
	switch v.Reason {
	case reason.RateLimitExceeded:
		what = "requests per minute"
	case reason.TokenLimitExceeded:
		what = "tokens per minute"
	case reason.ConcurrencyLimitExceeded:
		return fmt.Sprintf("The %s's limit of %d requests at the same time is reached. Wait for one of them to end, then try again.", v.Scope, v.Limit)
	default:
		return ""
	}
	return fmt.Sprintf("The %s's limit of %d %s is reached. Try again in %s.", v.Scope, v.Limit, what, v.Wait.Round(time.Millisecond))
}

// credentialHeaders are what a caller's credential may stand in, here or at a service
// that an upstream is, and by what OpenAI's clients name who pays: none of them goes on.
// At the upstream the operator's credential decides, for all callers alike.
var credentialHeaders = append(dialect.CredentialHeaders(), "openai-organization", "openai-project")

// forward says where the request goes and what the upstream is told.
func (c *check) forward(a *Admission) {
	d := c.d
	d.Watch = c.call.Path.Watched()
	d.RemoveHeaders = credentialHeaders
	d.SetHeaders = append(make([]dialect.Header, 0, 8),
		dialect.Header{Name: "x-tollgate-request-id", Value: a.ID},
		dialect.Header{Name: "x-tollgate-workspace", Value: a.Workspace})
	if a.Key != "" {
		d.SetHeaders = append(d.SetHeaders, dialect.Header{Name: "x-tollgate-key-id", Value: a.Key})
	}
	d.SetHeaders = append(d.SetHeaders, dialect.Header{Name: "x-tollgate-plan", Value: c.workspace.Plan.ID})
	if a.User != "" {
		d.SetHeaders = append(d.SetHeaders, dialect.Header{Name: "x-tollgate-user", Value: a.User})
	}
	d.Cluster = c.route.Cluster
	if c.model != nil {
		d.Cluster = c.model.Cluster
		d.SetHeaders = append(d.SetHeaders, dialect.Header{Name: c.tables.Settings.ModelHeader, Value: a.Model})
		if name := c.model.UpstreamModel; name != c.model.ID {
			d.Path = c.call.Retarget(c.req.Path, name)
			if at, text, ok := c.call.Rename(name); ok {
				d.Edits = append(d.Edits, Edit{Span: at, Text: text})
			}
			if at, text, ok := c.call.Relength(name); ok {
				d.Edits = append(d.Edits, Edit{Span: at, Text: text})
			}
		}
		if c.model.Credential != nil {
			d.SetHeaders = c.markRetries(d.SetHeaders)
		}
		if cr := c.model.CheckCredential(); cr != nil {
			d.SetHeaders = append(d.SetHeaders, dialect.Header{Name: cr.Header, Value: cr.Value()})
			// A proxy removes after it sets.
			d.RemoveHeaders = slices.DeleteFunc(slices.Clone(credentialHeaders), func(h string) bool { return h == cr.Header })
		}
	} else {
		// Of the caller's, on which a mesh would route.
		d.RemoveHeaders = append(slices.Clone(credentialHeaders), c.tables.Settings.ModelHeader)
	}
	if c.call.Path.BodyIn() == dialect.ModelInURLForm {
		// To PHP without a php.ini cookies are fields of the form, and count more.
		d.RemoveHeaders = append(slices.Clone(d.RemoveHeaders), "cookie")
	}
	if u := c.call.UsageOption; u.Text != "" {
		// The caller didn't ask for the usage, or asked that it be left out:
		// it is stated all the same, and taken out of the stream again.
		d.Edits = append(d.Edits, Edit{Span: u.Edit, Text: u.Text})
		d.Strip = true
	}
	slices.SortFunc(d.Edits, func(a, b Edit) int { return a.Span.Start - b.Span.Start })
	d.ResponseHeaders = c.call.Dialect.AppendID(d.ResponseHeaders, a.ID)
}
