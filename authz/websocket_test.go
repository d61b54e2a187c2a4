package authz

import (
	"testing"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/limit"
	"tollgate/authz/reason"
)

// withCatalog puts another catalog in force.
func withCatalog(t *testing.T, a *Authorizer, text string) {
	t.Helper()
	parsed, err := catalog.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := catalog.Compile(parsed, catalog.Source{})
	if err != nil {
		t.Fatal(err)
	}
	a.Tables = func() *catalog.Tables { return tables }
}

func handshake(secret, target string) *dialect.Request {
	return &dialect.Request{Method: "GET", Path: target, Host: "gw", Headers: []dialect.Header{
		{Name: "upgrade", Value: "websocket"}, {Name: "authorization", Value: "Bearer " + secret},
	}}
}

const gateCatalog = `
plans: [{id: lite, limits: {perKey: {requestsPerMinute: 5, tokensPerMinute: 100, concurrentRequests: 1}}}]
workspaces: [{id: demo, plan: lite}]
models:
  - {id: speech, upstreams: [{url: "http://127.0.0.1:9100"}], upstreamModel: "vendor/speech 2"}
  - {id: theirs, cluster: mesh}
  - {id: routed}
`

// A WebSocket reserves a request and a slot, which it holds until it ends, and no
// tokens.
func TestWebSocketAdmission(t *testing.T) {
	a, _ := newAuthorizer(t)
	withCatalog(t, a, gateCatalog+"routes: [{dialect: openai, maxDuration: 3h, maxWebSocketDuration: 20m}]")
	s := &Settler{Replica: "r1", Sealer: a.Sealer, Ledger: a.Ledger, Limits: a.Limits, Estimator: a.Estimator}
	var first, second Decision
	a.Check(t.Context(), start, handshake("good", "/v1/realtime?x=1&model=speech&y=%2F"), &first)
	if first.Admission == nil {
		t.Fatalf("%s", first.Response.Body)
	}
	ad := first.Admission
	if ad.Model != "speech" || ad.Reserved.Tokens != 0 || ad.InputEstimate != 0 || ad.OutputEstimate != 0 || !ad.Reserved.Counted.Has(limit.Key) {
		t.Errorf("%+v", ad)
	}
	if want := start.Add(20*time.Minute + sweepGrace); !ad.Deadline.Equal(want) {
		t.Errorf("deadline %v, want %v", ad.Deadline, want)
	}
	if first.Path != "/v1/realtime?x=1&model=vendor%2Fspeech+2&y=%2F" || first.Edits != nil {
		t.Errorf("path %q, edits %v", first.Path, first.Edits)
	}
	a.Check(t.Context(), start.Add(10*time.Minute), handshake("good", "/v1/realtime?model=speech"), &second)
	if second.Reason != reason.ConcurrencyLimitExceeded {
		t.Errorf("a second one while the first goes on: %v", second.Reason)
	}
	if err := s.Settle(t.Context(), start.Add(15*time.Minute), first.Token, Observation{Status: 101, Upstream: "u:1", Duration: 15 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	a.Check(t.Context(), start.Add(15*time.Minute), handshake("good", "/v1/realtime?model=speech"), &second)
	if second.Admission == nil {
		t.Errorf("after the end of the first: %v", second.Reason)
	}

	var d Decision
	plain := handshake("good2", "/v1/realtime?model=speech")
	plain.Headers = plain.Headers[1:]
	for _, c := range []struct {
		req  *dialect.Request
		want reason.Reason
	}{
		{plain, reason.BodyInvalid},
		{handshake("good2", "/v1/realtime?model=speech&api_key=good2"), reason.KeyAmbiguous},
		{handshake("good2", "/v1/realtime?model=speech&model=theirs"), reason.ModelAmbiguous},
		{handshake("good2", "/v1/realtime?model=speech+"), reason.ModelUnknown},
		{handshake("stranger", "/v1/realtime?model=speech"), reason.KeyInvalid},
	} {
		if a.Check(t.Context(), start, c.req, &d); d.Reason != c.want {
			t.Errorf("%s: %v, want %v", c.req.Path, d.Reason, c.want)
		}
	}
}

// Gate only: where a model has no upstream of ours the mesh routes, on a header
// or to a cluster of its own.
func TestGateOnly(t *testing.T) {
	a, _ := newAuthorizer(t)
	withCatalog(t, a, gateCatalog+"routes: [{dialect: openai, settlement: none}]\nsettings: {modelHeader: X-Model}")
	for model, cluster := range map[string]string{"routed": "", "theirs": "mesh"} {
		var d Decision
		a.Check(t.Context(), start.Add(time.Hour), post("raised", chat(model)), &d)
		if d.Admission == nil || d.Cluster != cluster || !d.Unsettled {
			t.Fatalf("%s: %+v", model, d)
		}
		header := ""
		for _, h := range d.SetHeaders {
			if h.Name == "x-model" {
				header = h.Value
			}
		}
		if header != model {
			t.Errorf("%s: the model header is %q", model, header)
		}
		// What the proxy's side does at once, the slot of one being there again.
		s := &Settler{Replica: "r1", Sealer: a.Sealer, Ledger: a.Ledger, Limits: a.Limits, Estimator: a.Estimator}
		if err := s.Settle(t.Context(), start.Add(time.Hour), d.Token, Observation{Untold: true, Unwatched: true}); err != nil {
			t.Fatal(err)
		}
	}
	l := a.Ledger.(*ledger)
	want := int64(0)
	for _, u := range l.closed {
		if u.Outcome != Unknown || u.Measurement != Estimated || u.Tokens.Input+u.Tokens.Output != u.Admission.Reserved.Tokens {
			t.Errorf("%+v", u)
		}
		want += u.Admission.Reserved.Tokens
	}
	var v limit.Verdict
	a.Limits.Peek(start.Add(time.Hour), []limit.Demand{{Scope: limit.Key, Tenant: "id-of-raised", Tokens: 100}}, 0, &v)
	if len(l.closed) != 2 || v.Tokens.Remaining != 100-want {
		t.Errorf("%d closed, %d tokens remain of 100 after %d", len(l.closed), v.Tokens.Remaining, want)
	}
}
