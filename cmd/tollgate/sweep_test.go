package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"tollgate/authz"
	"tollgate/events"
)

// TestSweep runs a whole replica without an Envoy, and plays what Envoys do that
// die, ask twice, or come late, on the wire. Time is an argument of the sweep.
func TestSweep(t *testing.T) {
	r := newReplica(t)
	r.start(t)
	secret, err := r.node.makeDemoKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lost := r.admit(t, secret, "request-1")
	asked, askedAgain := r.admit(t, secret, "request-2"), r.admit(t, secret, "request-2")
	r.settle(t, askedAgain)

	begin := time.Now()
	r.node.sweep(begin.Add(time.Minute + 2*time.Minute - 30*time.Second)) // maxDuration, the grace, less than since
	if n := len(r.node.ledger.Open(time.Time{})); n != 2 {
		t.Fatalf("%d admissions are open before their deadline, want 2", n)
	}
	r.node.sweep(begin.Add(3*time.Minute + time.Second))
	for range 3 { // Envoy repeats what it has lost the answer of
		r.settle(t, lost)
	}

	// And after a restart, which has forgotten all of it; the stream has not.
	again := r.admit(t, secret, "request-3")
	r.node.sweep(time.Now().Add(3*time.Minute + time.Second))
	r.stop(t)
	r.start(t)
	for range 3 {
		r.settle(t, again)
		r.settle(t, lost)
		r.settle(t, askedAgain)
	}
	if text, _, err := r.node.config.Get(t.Context(), learnedDocument); err != nil {
		t.Errorf("nothing that was learned is kept: %v", err)
	} else if got := r.node.settler.Estimator.Learned(); len(got) != 1 || got[0].StreamTokens != 100 {
		t.Errorf("of %s is known after a restart: %+v", text, got)
	}
	if err := r.node.journal.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	all := r.events(t)
	usage := func(id string) *events.UsageData { return &all[events.TypeUsage+" "+id].Data }
	for id, superseded := range map[string]bool{lost.id: false, asked.id: true, again.id: false} {
		d := usage(id)
		if d.Outcome != authz.Unknown || d.Measurement != authz.None || d.InputTokens+d.OutputTokens != 0 || d.Superseded != superseded {
			t.Errorf("swept, superseded %v: %+v", superseded, d)
		}
	}
	if d := usage(askedAgain.id); d.Outcome != authz.Completed || d.Superseded {
		t.Errorf("settled in time: %+v", d)
	}
	for _, id := range []string{lost.id, again.id} {
		e := all[events.TypeAdjusted+" "+id]
		if e.Data.InputTokens != 7 || e.Data.OutputTokens != 100 || e.Data.Outcome != authz.Completed || e.Data.Measurement != authz.Reported ||
			e.ID == id || e.Time != usage(id).Start || e.Data.Key != usage(id).Key {
			t.Errorf("the truth that came late: %+v", e)
		}
	}
	if len(all) != 6 {
		t.Errorf("%d events, want four of usage and two adjustments", len(all))
	}
}

// replica is one that is started and stopped in this process.
type replica struct {
	dir  string
	node *node
	conn *grpc.ClientConn
}

func newReplica(t *testing.T) *replica {
	t.Helper()
	r := &replica{dir: t.TempDir()}
	catalog := "workspaces: [{id: demo, plan: open}]\nplans: [{id: open}]\nroutes: [{dialect: openai, maxDuration: 1m}]\nmodels: [{id: m, cluster: mine}]\n"
	if err := os.WriteFile(filepath.Join(r.dir, "catalog.yaml"), []byte(catalog), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.node != nil {
			r.stop(t)
		}
	})
	return r
}

func (r *replica) start(t *testing.T) {
	t.Helper()
	local := func(name string) address { return address{name: name, value: "127.0.0.1:0", given: true} }
	s := &settings{
		gateway: local("gateway"), api: local("api"), grpc: local("grpc"), metrics: local("metrics"),
		data: filepath.Join(r.dir, "data"), catalog: filepath.Join(r.dir, "catalog.yaml"), name: "test",
	}
	if err := bind(s.addresses(), ""); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.node, err = start(t.Context(), s, false, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if r.conn, err = grpc.NewClient(s.grpc.value, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
}

func (r *replica) stop(t *testing.T) {
	t.Helper()
	_ = r.conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r.node.stop(ctx)
	r.node = nil
}

// admitted is what Envoy keeps of a check.
type admitted struct{ id, token string }

// admit is a check of a stream, as Envoy makes it for a request of this id.
func (r *replica) admit(t *testing.T, secret, request string) admitted {
	t.Helper()
	header := func(name, value string) *corev3.HeaderValue {
		return &corev3.HeaderValue{Key: name, RawValue: []byte(value)}
	}
	answer, err := authv3.NewAuthorizationClient(r.conn).Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: http.MethodPost, Path: "/v1/chat/completions", RawBody: []byte(`{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}`),
			HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
				header("authorization", "Bearer "+secret), header("content-type", "application/json"), header("x-request-id", request),
			}},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := admitted{token: answer.GetDynamicMetadata().GetFields()["adm"].GetStringValue()}
	for _, h := range answer.GetOkResponse().GetResponseHeadersToAdd() {
		if h.GetHeader().GetKey() == "x-request-id" {
			a.id = h.GetHeader().GetValue()
		}
	}
	if a.token == "" || a.id == "" {
		t.Fatalf("not admitted: %v", answer)
	}
	return a
}

// settle is Envoy's call when the stream of an admission is done.
func (r *replica) settle(t *testing.T, a admitted) {
	t.Helper()
	d := &ratelimitv3.RateLimitDescriptor{}
	for _, e := range [][2]string{
		{"seen", "s=200 f=- d=20 t=10 u=10.0.0.1:80 c=via_upstream"}, {"adm", a.token}, {"in", "7"}, {"out", "100"},
		{"events", "21"}, {"bytes", "900"}, {"complete", "1"}, {"reported", "1"},
	} {
		d.Entries = append(d.Entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: e[0], Value: e[1]})
	}
	_, err := rlsv3.NewRateLimitServiceClient(r.conn).ShouldRateLimit(t.Context(),
		&rlsv3.RateLimitRequest{Domain: "tollgate", Descriptors: []*ratelimitv3.RateLimitDescriptor{d}})
	if err != nil {
		t.Fatal(err)
	}
}

// events are all that are stored, by type and the usage event that they are, or
// correct.
func (r *replica) events(t *testing.T) map[string]*events.Event {
	t.Helper()
	stored, _, err := r.node.usage.Read(t.Context(), 0, time.Time{}, events.MaxRead, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*events.Event{}
	for _, s := range stored {
		e := new(events.Event)
		if err := json.Unmarshal(s.Payload, e); err != nil {
			t.Fatal(err)
		}
		of := e.ID
		if e.Type == events.TypeAdjusted {
			of = e.Data.Adjusts
		}
		if all[e.Type+" "+of] != nil {
			t.Errorf("two events of type %s for %s", e.Type, of)
		}
		all[e.Type+" "+of] = e
	}
	return all
}
