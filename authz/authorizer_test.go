package authz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/reason"
)

const testCatalog = `
plans:
  - id: lite
    limits:
      perKey: {requestsPerMinute: 5, tokensPerMinute: 1000}
      perModel: {"small/*": {tokensPerMinute: 100}}
    models: ["meta-llama/*", "small/*", "idle"]
  - id: free
workspaces:
  - {id: demo, plan: lite, externalId: cust-7, labels: {team: search, tier: gold}}
  - {id: other, plan: free}
  - {id: late, plan: free, suspended: true}
users:
  - {id: ann, workspace: demo, labels: {team: ranking}}
  - {id: bob, workspace: demo, suspended: true}
models:
  - {id: meta-llama/Llama, upstreams: [{url: "http://127.0.0.1:9100"}], upstreamModel: llama-3}
  - {id: small/one, upstreams: [{url: "http://127.0.0.1:9100"}]}
  - {id: closed, upstreams: [{url: "http://127.0.0.1:9100"}]}
  - {id: idle, deployed: false, upstreams: [{url: "http://127.0.0.1:9100"}]}
  - {id: theirs, workspaces: [other], cluster: theirs}
  - {id: swapped, workspaces: [other], cluster: swapped, credential: "env:UPSTREAM_KEY"}
  - {id: injected, workspaces: [other], upstreams: [{url: "http://127.0.0.1:9100"}], credential: "env:UPSTREAM_KEY"}
routes:
  - {dialect: openai, maxBody: 1KiB, maxDuration: 90s}
settings:
  tagHeaders: [X-Tag]
`

// keyring is a Keys that knows the secrets it was given, and fails for one.
type keyring map[key.Digest]*key.Record

const brokenSecret = "the-store-is-away"

func (k keyring) Lookup(_ context.Context, d key.Digest) (*key.Record, error) {
	if d == key.DigestOf(brokenSecret) {
		return nil, fmt.Errorf("%w: no responders", key.ErrUnavailable)
	}
	if r := k[d]; r != nil {
		return r, nil
	}
	return nil, key.ErrNotFound
}

func (k keyring) add(secret string, r key.Record) {
	r.ID = "id-of-" + secret
	if r.Workspace == "" {
		r.Workspace = "demo"
	}
	if r.Status == "" {
		r.Status = key.Active
	}
	if r.Actions == nil {
		r.Actions = []key.Action{key.Infer}
	}
	d := key.DigestOf(secret)
	r.Secrets = []key.Secret{{Digest: d}}
	k[d] = &r
}

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newAuthorizer(t testing.TB) (*Authorizer, *ledger) {
	t.Helper()
	parsed, err := catalog.Parse("test.yaml", []byte(testCatalog))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := catalog.Compile(parsed, catalog.Source{Env: func(string) (string, bool) { return "sk-upstream", true }})
	if err != nil {
		t.Fatal(err)
	}
	tables.Version = 3
	expired := start.Add(-time.Second)
	keys := keyring{}
	keys.add("good", key.Record{Labels: map[string]string{"team": "mine"}})
	keys.add("good2", key.Record{})
	keys.add("ann", key.Record{Kind: key.Personal, User: "ann"})
	keys.add("bob", key.Record{Kind: key.Personal, User: "bob"})
	keys.add("gone-user", key.Record{Kind: key.Personal, User: "zoe"})
	keys.add("gone-workspace", key.Record{Workspace: "deleted"})
	keys.add("late", key.Record{Workspace: "late"})
	keys.add("other", key.Record{Workspace: "other"})
	keys.add("revoked", key.Record{Status: key.Revoked})
	keys.add("expired", key.Record{ExpiresAt: &expired})
	keys.add("account", key.Record{Actions: []key.Action{key.Manage}})
	keys.add("one-model", key.Record{Models: []string{"small/*"}})
	keys.add("raised", key.Record{Limits: key.Limits{RequestsPerMinute: 50}, Raised: key.Limits{RequestsPerMinute: 50}})
	keys.add("own", key.Record{Limits: key.Limits{RequestsPerMinute: 50}})
	l := newLedger(t)
	n := 0
	return &Authorizer{
		Replica: "r1", Tables: func() *catalog.Tables { return tables }, Keys: keys,
		Limits: limit.NewLocal(start), Ledger: l, Sealer: sealer(t, 1, 1), Estimator: new(Estimator),
		NewID: func() string { n++; return fmt.Sprintf("admission-%d", n) },
	}, l
}

func post(secret, body string, headers ...dialect.Header) *dialect.Request {
	h := append([]dialect.Header{{Name: "content-type", Value: "application/json"}}, headers...)
	if secret != "" {
		h = append(h, dialect.Header{Name: "authorization", Value: "Bearer " + secret})
	}
	return &dialect.Request{Method: "POST", Path: "/v1/chat/completions", Host: "gw", Headers: h, Body: []byte(body)}
}

func chat(model string) string {
	return `{"model":"` + model + `","messages":[{"role":"user","content":"Hello!"}],"max_tokens":20}`
}

func TestReasons(t *testing.T) {
	a, l := newAuthorizer(t)
	long := chat("meta-llama/Llama") + strings.Repeat(" ", 2000)
	repeated := post("good", chat("meta-llama/Llama"))
	repeated.Path += "?session=good"
	for _, c := range []struct {
		name string
		req  *dialect.Request
		want reason.Reason
	}{
		{"no route", &dialect.Request{Method: "POST", Path: "/v2/x"}, reason.RouteUnknown},
		{"no key", post("", chat("meta-llama/Llama")), reason.KeyMissing},
		{"no key comes before no model", post("", `{}`), reason.KeyMissing},
		{"two keys", post("good", chat("meta-llama/Llama"), dialect.Header{Name: "x-api-key", Value: "good2"}), reason.KeyAmbiguous},
		{"the key in the query, too", repeated, reason.KeyAmbiguous},
		{"unknown key", post("stranger", chat("meta-llama/Llama")), reason.KeyInvalid},
		{"wrong checksum", post("tg_aaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", chat("meta-llama/Llama")), reason.KeyInvalid},
		{"revoked key", post("revoked", chat("meta-llama/Llama")), reason.KeyInvalid},
		{"expired key", post("expired", chat("meta-llama/Llama")), reason.KeyInvalid},
		{"key of a workspace that is gone", post("gone-workspace", chat("meta-llama/Llama")), reason.KeyInvalid},
		{"key of a user that is gone", post("gone-user", chat("meta-llama/Llama")), reason.KeyInvalid},
		{"store away", post(brokenSecret, chat("meta-llama/Llama")), reason.Unavailable},
		{"suspended workspace", post("late", chat("meta-llama/Llama")), reason.WorkspaceSuspended},
		{"suspended user", post("bob", chat("meta-llama/Llama")), reason.UserSuspended},
		{"account token", post("account", chat("meta-llama/Llama")), reason.ActionDenied},
		{"too large", post("good", long), reason.RequestTooLarge},
		{"broken body", post("good", `{"model":`), reason.BodyInvalid},
		{"no model", post("good", `{"messages":[]}`), reason.ModelMissing},
		{"two models", post("good", `{"model":"small/one","model":"closed"}`), reason.ModelAmbiguous},
		{"unknown model", post("good", chat("no/such")), reason.ModelUnknown},
		{"another workspace's model", post("good", chat("theirs")), reason.ModelUnknown},
		{"not deployed", post("good", chat("idle")), reason.ModelNotDeployed},
		{"not in the plan", post("good", chat("closed")), reason.ModelDenied},
		{"not in the key", post("one-model", chat("meta-llama/Llama")), reason.ModelDenied},
		{"more than the whole limit", post("good", `{"model":"meta-llama/Llama","max_tokens":1001,"messages":[]}`), reason.TokenRequestTooLarge},
		{"more than the model's limit", post("good", `{"model":"small/one","max_tokens":101,"messages":[]}`), reason.TokenRequestTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d Decision
			a.Check(t.Context(), start, c.req, &d)
			if d.Reason != c.want {
				t.Fatalf("reason %v, want %v", d.Reason, c.want)
			}
			if d.Admission != nil || d.Response == nil || d.Response.Status != c.want.Status() {
				t.Errorf("decision %+v", d)
			}
			if at := strings.HasPrefix(c.want.String(), "model_"); c.want != reason.BodyInvalid && at != strings.Contains(string(d.Response.Body), `"param":"model"`) {
				t.Errorf("the model is at fault: %t, and the body says %s", at, d.Response.Body)
			}
			for _, secret := range []string{"good", "good2", "revoked", "stranger", brokenSecret} {
				if strings.Contains(string(d.Response.Body), `"`+secret) {
					t.Errorf("the refusal repeats the key: %s", d.Response.Body)
				}
			}
		})
	}
	if len(l.open) != 0 {
		t.Errorf("refused requests are in the ledger: %v", l.open)
	}
	var v limit.Verdict
	a.Limits.Peek(start, []limit.Demand{{Scope: limit.Key, Tenant: "id-of-good", Requests: 5, Tokens: 1000}}, 0, &v)
	if v.Requests.Remaining != 5 || v.Tokens.Remaining != 1000 {
		t.Errorf("refused requests used up quota: %+v", v)
	}
}

func TestActionDeniedSaysWhichKeyIsNeeded(t *testing.T) {
	a, _ := newAuthorizer(t)
	var d Decision
	a.Check(t.Context(), start, post("account", chat("meta-llama/Llama")), &d)
	body := string(d.Response.Body)
	if !strings.Contains(body, "inference key") || !strings.Contains(body, "account token") {
		t.Errorf("body %s", body)
	}
}

func TestAdmission(t *testing.T) {
	a, l := newAuthorizer(t)
	var used string
	a.Used = func(id string, _ int, _ time.Time) { used = id }
	req := post("ann", chat("meta-llama/Llama"),
		dialect.Header{Name: "x-tag", Value: "nightly"}, dialect.Header{Name: "x-client-request-id", Value: "c-1"})
	var d Decision
	a.Check(t.Context(), start, req, &d)
	if d.Reason != reason.None || d.Admission == nil {
		t.Fatalf("refused: %v %s", d.Reason, d.Response.Body)
	}
	adm := d.Admission
	if adm.Workspace != "demo" || adm.User != "ann" || adm.Key != "id-of-ann" || adm.Model != "meta-llama/Llama" ||
		adm.ExternalID != "cust-7" || adm.RatesVersion != 3 || adm.ClientRequestID != "c-1" ||
		!adm.Deadline.Equal(start.Add(90*time.Second+sweepGrace)) {
		t.Errorf("admission %+v", adm)
	}
	if fmt.Sprint(adm.Labels) != "[{team ranking} {tier gold}]" || fmt.Sprint(adm.Tags) != "[{x-tag nightly}]" {
		t.Errorf("labels %v, tags %v", adm.Labels, adm.Tags)
	}
	if adm.OutputEstimate != 20 || adm.Reserved.Tokens != adm.InputEstimate+20 {
		t.Errorf("reserved %d of %d + %d", adm.Reserved.Tokens, adm.InputEstimate, adm.OutputEstimate)
	}
	if !l.open[adm.ID] || used != "id-of-ann" {
		t.Errorf("in the ledger: %v, used: %q", l.open[adm.ID], used)
	}
	if sealed, err := a.Sealer.Open(d.Token); err != nil || sealed.ID != adm.ID {
		t.Errorf("token: %v, %v", sealed, err)
	}
	if d.Cluster != "model:meta-llama/Llama" || len(d.Edits) != 1 || d.Edits[0].Text != `"llama-3"` ||
		string(req.Body[d.Edits[0].Span.Start:d.Edits[0].Span.End]) != `"meta-llama/Llama"` {
		t.Errorf("cluster %q, edits %+v", d.Cluster, d.Edits)
	}
	want := "[{x-tollgate-request-id admission-1} {x-tollgate-workspace demo} {x-tollgate-key-id id-of-ann} " +
		"{x-tollgate-plan lite} {x-tollgate-user ann} {x-tollgate-model meta-llama/Llama}]"
	if got := fmt.Sprint(d.SetHeaders); got != want {
		t.Errorf("the upstream is told\n%s, want\n%s", got, want)
	}
	if fmt.Sprint(d.RemoveHeaders) != "[authorization x-api-key api-key "+foreign+"]" {
		t.Errorf("removed %v", d.RemoveHeaders)
	}
	want = "[{x-ratelimit-limit-requests 5} {x-ratelimit-remaining-requests 4} "
	if got := fmt.Sprint(d.ResponseHeaders); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "{x-request-id admission-1}]") {
		t.Errorf("the caller is told %s", got)
	}
}

// What is kept of a caller's headers goes into the journal and the event: the presented
// key must not, wherever people put it.
func TestKeptHeadersHaveNoKey(t *testing.T) {
	a, _ := newAuthorizer(t)
	var d Decision
	a.Check(t.Context(), start, post("good", chat("meta-llama/Llama"), dialect.Header{Name: "x-tag", Value: "Bearer good"},
		dialect.Header{Name: "x-client-request-id", Value: "good"}, dialect.Header{Name: "traceparent", Value: "00-good-01"}), &d)
	if d.Admission == nil {
		t.Fatalf("refused: %s", d.Response.Body)
	}
	if kept := fmt.Sprint(d.Admission.ClientRequestID, d.Admission.TraceParent, d.Admission.Tags); strings.Contains(kept, "good") || !strings.Contains(kept, "x-tag") {
		t.Errorf("kept %s", kept)
	}
	// A tag that has a short word in another one is kept: "good" stands for a client's
	// placeholder here.
	a.Check(t.Context(), start, post("good", chat("meta-llama/Llama"), dialect.Header{Name: "x-tag", Value: "goodness"}), &d)
	if kept := fmt.Sprint(d.Admission.Tags); !strings.Contains(kept, "goodness") {
		t.Errorf("kept %s", kept)
	}
}

// foreign are the headers of other services' credentials and accounts.
const foreign = "proxy-authorization x-goog-api-key ocp-apim-subscription-key openai-organization openai-project"

func TestUsageOfAStreamIsAskedFor(t *testing.T) {
	a, _ := newAuthorizer(t)
	for body, want := range map[string]string{
		`{"stream":true,"model":"meta-llama/Llama","messages":[]}`:                                           `{"stream_options":{"include_usage":true},"stream":true,"model":"llama-3","messages":[]}`,
		`{"model":"meta-llama/Llama","stream":true,"stream_options":{"include_usage":false},"messages":[]}`:  `{"model":"llama-3","stream":true,"stream_options":{"include_usage":true},"messages":[]}`,
		`{"model":"meta-llama/Llama","stream":true,"stream_options":{"include_usage" : true},"messages":[]}`: `{"model":"llama-3","stream":true,"stream_options":{"include_usage" : true},"messages":[]}`,
		`{"model":"meta-llama/Llama","stream":false,"messages":[]}`:                                          `{"model":"llama-3","stream":false,"messages":[]}`,
	} {
		a.Limits = limit.NewLocal(start)
		var d Decision
		if a.Check(t.Context(), start, post("good", body), &d); d.Admission == nil {
			t.Fatalf("refused: %s", d.Response.Body)
		}
		got, at := "", 0
		for _, e := range d.Edits {
			got += body[at:e.Span.Start] + e.Text
			at = e.Span.End
		}
		if got += body[at:]; got != want {
			t.Errorf("%s\nbecomes %s\nwant    %s", body, got, want)
		}
		if asked := strings.Contains(want, "include_usage") && !strings.Contains(body, ": true"); d.Strip != asked {
			t.Errorf("%s: strip %v", body, d.Strip)
		}
	}
}

func TestCredentialIsSwapped(t *testing.T) {
	a, _ := newAuthorizer(t)
	var d Decision
	a.Check(t.Context(), start, post("other", chat("swapped")), &d)
	if d.Admission == nil {
		t.Fatalf("refused: %s", d.Response.Body)
	}
	set := fmt.Sprint(d.SetHeaders)
	if !strings.Contains(set, "{authorization Bearer sk-upstream}") {
		t.Errorf("set %s", set)
	}
	// A proxy removes after it sets: what is set must not be removed.
	if fmt.Sprint(d.RemoveHeaders) != "[x-api-key api-key "+foreign+"]" {
		t.Errorf("removed %v", d.RemoveHeaders)
	}
	// Where the cluster is Tollgate's, Envoy adds the credential by itself.
	d = Decision{}
	a.Check(t.Context(), start, post("other", chat("injected")), &d)
	if d.Admission == nil {
		t.Fatalf("refused: %s", d.Response.Body)
	}
	if text := fmt.Sprintf("%+v", d); strings.Contains(text, "sk-upstream") {
		t.Errorf("the answer carries the credential: %s", text)
	}
	if fmt.Sprint(d.RemoveHeaders) != "[authorization x-api-key api-key "+foreign+"]" {
		t.Errorf("removed %v", d.RemoveHeaders)
	}
}

func TestHeadersOnlyReservesNothing(t *testing.T) {
	a, l := newAuthorizer(t)
	for range 20 {
		req := post("good", "")
		req.Body, req.HeadersOnly = nil, true
		var d Decision
		a.Check(t.Context(), start, req, &d)
		if d.Reason != reason.None || d.Admission != nil || d.Response != nil {
			t.Fatalf("decision %+v", d)
		}
	}
	req := post("stranger", "")
	req.HeadersOnly = true
	var d Decision
	a.Check(t.Context(), start, req, &d)
	if d.Reason != reason.KeyInvalid {
		t.Errorf("a stranger's headers: %v", d.Reason)
	}
	if len(l.open) != 0 {
		t.Error("a look was written down")
	}
}

func TestLimitsOfAKey(t *testing.T) {
	a, _ := newAuthorizer(t)
	var d Decision
	for range 5 {
		if a.Check(t.Context(), start, post("good", chat("meta-llama/Llama")), &d); d.Admission == nil {
			t.Fatalf("refused: %s", d.Response.Body)
		}
	}
	a.Check(t.Context(), start, post("good", chat("meta-llama/Llama")), &d)
	if d.Reason != reason.RateLimitExceeded {
		t.Fatalf("the sixth of five: %v", d.Reason)
	}
	got := fmt.Sprint(d.Response.Headers)
	for _, want := range []string{"{retry-after ", "{retry-after-ms ", "{x-ratelimit-remaining-requests 0}", "{x-request-id "} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
	// A higher one of its own doesn't help a key.
	for i := range 6 {
		if a.Check(t.Context(), start, post("own", chat("meta-llama/Llama")), &d); (d.Admission != nil) != (i < 5) {
			t.Fatalf("request %d of a key that sets itself 50: %v", i, d.Reason)
		}
	}
	// Unless the operator raised it.
	for i := range 6 {
		if a.Check(t.Context(), start, post("raised", chat("meta-llama/Llama")), &d); d.Admission == nil {
			t.Fatalf("request %d of a key that may 50: %s", i, d.Response.Body)
		}
	}
}

func TestGuessedAnswerIsCutToTheLimitNotRefused(t *testing.T) {
	a, _ := newAuthorizer(t)
	var d Decision
	body := `{"model":"small/one","messages":[{"role":"user","content":"Hello!"}]}`
	a.Check(t.Context(), start, post("good", body), &d)
	if d.Admission == nil || d.Admission.Reserved.Tokens != 100 {
		t.Fatalf("decision %+v", d)
	}
	a.Check(t.Context(), start, post("good2", body), &d)
	if d.Reason != reason.TokenLimitExceeded {
		t.Errorf("the model's limit is of the workspace and is taken: %v", d.Reason)
	}
}

func TestConcurrentRequestsDoNotPassATokenLimit(t *testing.T) {
	a, _ := newAuthorizer(t)
	var mu sync.Mutex
	admitted := 0
	var wg sync.WaitGroup
	n := 0
	a.NewID = func() string { mu.Lock(); defer mu.Unlock(); n++; return fmt.Sprint(n) }
	a.Ledger = discard{}
	for range 20 {
		wg.Go(func() {
			var d Decision
			a.Check(t.Context(), start, post("raised", `{"model":"meta-llama/Llama","messages":[],"max_tokens":300}`), &d)
			if d.Admission != nil {
				mu.Lock()
				admitted++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if admitted != 3 {
		t.Errorf("%d requests of 300 tokens passed a limit of 1000", admitted)
	}
}

type discard struct{}

func (discard) Admit(*Admission, []byte) error { return nil }
func (discard) Close(*Usage) (bool, error)     { return true, nil }
func (discard) Adjust(*Usage) error            { return nil }

func TestNothingIsTakenWhenTheLedgerFails(t *testing.T) {
	a, l := newAuthorizer(t)
	l.err = errors.New("disk full")
	var d Decision
	for range 10 {
		a.Check(t.Context(), start, post("good", chat("meta-llama/Llama")), &d)
		if d.Reason != reason.Unavailable || d.Response.Status != 503 {
			t.Fatalf("with a full disk: %v", d.Reason)
		}
	}
	l.err = nil
	if a.Check(t.Context(), start, post("good", chat("meta-llama/Llama")), &d); d.Admission == nil {
		t.Errorf("afterwards: %s", d.Response.Body)
	}
}

func TestModelsAreThoseThatTheKeyOpens(t *testing.T) {
	a, _ := newAuthorizer(t)
	get := func(secret, path string) *Decision {
		req := post(secret, "")
		req.Method, req.Path, req.Body = "GET", path, nil
		d := &Decision{}
		a.Check(t.Context(), start, req, d)
		return d
	}
	body := string(get("good", "/v1/models").Response.Body)
	for model, want := range map[string]bool{"meta-llama/Llama": true, "small/one": true, "closed": false, "idle": false, "theirs": false} {
		if strings.Contains(body, `"`+model+`"`) != want {
			t.Errorf("%s in the list: %v, want %v", model, !want, want)
		}
	}
	if d := get("good", "/v1/models/meta-llama/Llama"); d.Reason != reason.None || d.Response.Status != 200 {
		t.Errorf("one model: %+v", d)
	}
	theirs, unknown := get("good", "/v1/models/theirs"), get("good", "/v1/models/no-such")
	if string(theirs.Response.Body) != strings.ReplaceAll(string(unknown.Response.Body), "no-such", "theirs") {
		t.Errorf("another workspace's model can be told from an unknown one:\n%s\n%s", theirs.Response.Body, unknown.Response.Body)
	}
}

// checkAllocations is the budget of the decision path: a whole check that ends in
// an admission, everything but the ledger's disk included.
const checkAllocations = 12 + raceAllocations

func TestAllocationBudget(t *testing.T) {
	a, _ := newAuthorizer(t)
	a.Ledger = discard{}
	a.NewID = func() string { return "admission" }
	req := post("other", `{"model":"swapped","messages":[{"role":"user","content":"Hello!"}],"max_tokens":20}`)
	var d Decision
	got := testing.AllocsPerRun(1000, func() {
		if a.Check(t.Context(), start, req, &d); d.Admission == nil {
			t.Fatal(string(d.Response.Body))
		}
	})
	t.Logf("%v allocations a check", got)
	if got > checkAllocations {
		t.Errorf("%v allocations a check, the budget is %d", got, checkAllocations)
	}
	stranger := post("tg_aaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "")
	stranger.HeadersOnly = true
	if got := testing.AllocsPerRun(1000, func() { a.Check(t.Context(), start, stranger, &d) }); got > 16 {
		t.Errorf("%v allocations to refuse a stranger", got)
	}
}

func BenchmarkCheck(b *testing.B) {
	a, _ := newAuthorizer(b)
	a.Ledger = discard{}
	req := post("other", chat("swapped"))
	var d Decision
	b.ReportAllocs()
	for b.Loop() {
		a.Check(b.Context(), start, req, &d)
	}
}

// TestManagedPathsAreNotChecked: a Check of one, by a proxy that isn't configured
// for Tollgate, lets nothing through and admits nothing, whatever key there is; and
// what is unknown beside them is refused in the same dialect's style.
func TestManagedPathsAreNotChecked(t *testing.T) {
	a, l := newAuthorizer(t)
	tables := compiled(t, "plans: [{id: p}]\nworkspaces: [{id: demo, plan: p}]\nroutes: [{dialect: openai}, {dialect: minds}]")
	a.Tables = func() *catalog.Tables { return tables }
	for path, style := range map[string]string{
		"/api/v1/auth/me": `{"statusCode":404,`, "/api/v1/api-keys?limit=1": `{"statusCode":404,`, "/api/v1": `{"statusCode":404,`,
		"/api/v1/people": `{"statusCode":404,`, "/api/v1x": `{"error":`, "/api": `{"error":`, "/v1/nothing": `{"error":`,
	} {
		req := &dialect.Request{Method: "GET", Path: path, Headers: []dialect.Header{{Name: "authorization", Value: "Bearer good"}}}
		var d Decision
		a.Check(t.Context(), start, req, &d)
		if d.Reason != reason.RouteUnknown || d.Response == nil || !strings.HasPrefix(string(d.Response.Body), style) {
			t.Errorf("%s: %v %+v", path, d.Reason, d.Response)
		}
	}
	if len(l.open) != 0 {
		t.Errorf("admitted: %v", l.open)
	}
}
