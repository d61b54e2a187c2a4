package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"tollgate/authz/manage"
	"tollgate/events"
)

// serveNode runs a node, without an Envoy, until the end of the test.
func serveNode(t *testing.T) (*node, *manage.Client) {
	t.Helper()
	s := &settings{data: t.TempDir(), name: "test", operator: "operator-key-of-the-test"}
	for _, a := range s.addresses() {
		a.value = "127.0.0.1:0"
	}
	s.gateway.value = defaultGateway // nothing listens there
	listeners := s.addresses()[1:]
	if err := bind(listeners, defaultGateway); err != nil {
		t.Fatal(err)
	}
	n, err := start(t.Context(), s, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		n.stop(ctx)
	})
	client, err := manage.NewClient(s.api.value, s.operator, nil)
	if err != nil {
		t.Fatal(err)
	}
	return n, client
}

// proxy is an Envoy as far as clusters go: it takes each version, or refuses those
// that have a cluster which it doesn't like, until it is closed.
type proxy struct {
	close func()

	mu      sync.Mutex
	refuses string   // guarded by mu
	has     []string // guarded by mu; raw clusters in force
	asked   int      // guarded by mu; answers that it got
}

func connect(t *testing.T, s *settings) *proxy {
	t.Helper()
	token, err := s.fleetToken()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(s.grpc.value, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "x-tollgate-fleet", token))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := new(proxy)
	done := make(chan struct{})
	p.close = sync.OnceFunc(func() { cancel(); <-done; conn.Close() })
	t.Cleanup(p.close)
	go func() {
		defer close(done)
		if stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: resourcev3.ClusterType, Node: &corev3.Node{Id: "picky"}}) != nil {
			return
		}
		version := ""
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			answer := &discoveryv3.DiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
			p.mu.Lock()
			p.asked++
			var clusters []string
			for _, c := range r.GetResources() {
				clusters = append(clusters, string(c.GetValue()))
				if p.refuses != "" && strings.Contains(string(c.GetValue()), p.refuses) {
					answer.ErrorDetail = &rpcstatus.Status{Message: "I don't like " + p.refuses}
				}
			}
			if answer.GetErrorDetail() == nil {
				version, p.has = r.GetVersionInfo(), clusters
			}
			p.mu.Unlock()
			answer.VersionInfo = version
			if stream.Send(answer) != nil {
				return
			}
		}
	}()
	return p
}

// hasCluster reports whether a cluster is in force.
func (p *proxy) hasCluster(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(strings.Join(p.has, "\n"), name)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if err := poll(t.Context(), time.Minute, what, ok); err != nil {
		t.Fatal(err)
	}
}

func oneModel(id string) string {
	return fmt.Sprintf("workspaces: [{id: demo, plan: open}]\nplans: [{id: open}]\nmodels: [{id: %q, upstreams: [{url: 'http://127.0.0.1:9'}]}]\n", id)
}

// What an Envoy refuses is not stored and not in force, and whoever applied it
// is told why. Applies at the same time are all in force in the end.
func TestApplyIsInForce(t *testing.T) {
	n, client := serveNode(t)
	apply := func(text string) error {
		_, err := client.Apply(t.Context(), []byte(text), url.Values{})
		return err
	}
	p := connect(t, n.settings)
	eventually(t, "no connection", func() bool { return n.fleet.Connected() == 1 })
	if err := apply(oneModel("good/one")); err != nil {
		t.Fatal(err)
	}
	if !p.hasCluster("model:good/one") || n.tables().Models["good/one"] == nil {
		t.Error("apply has answered, and the model is not in force")
	}

	p.mu.Lock()
	p.refuses = "model:bad/one"
	before := p.asked
	p.mu.Unlock()
	err := apply(oneModel("bad/one"))
	var said *manage.Error
	if !errors.As(err, &said) || said.Status != http.StatusUnprocessableEntity || !strings.Contains(said.Message, "I don't like model:bad/one") || !strings.Contains(said.Message, "picky") {
		t.Errorf("a catalog that Envoy refuses: %v", err)
	}
	stored, err := client.Catalog(t.Context())
	if err != nil || strings.Contains(string(stored.Raw), "bad/one") || n.tables().Models["bad/one"] != nil {
		t.Errorf("it was stored all the same: %s, %v", stored.Raw, err)
	}
	eventually(t, "not sent the old clusters again", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.asked == before+2 })
	if !p.hasCluster("model:good/one") {
		t.Error("what was in force before isn't any more")
	}

	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			id := fmt.Sprintf("at/once-%d", i)
			if err := apply(oneModel(id)); err != nil {
				t.Errorf("%s: %v", id, err)
			} else if !p.hasCluster("model:"+id) || n.tables().Models[id] == nil {
				t.Errorf("%s: apply has answered, and the model is not in force", id)
			}
		})
	}
	all.Wait()
	for i := range 4 {
		if id := fmt.Sprintf("at/once-%d", i); n.tables().Models[id] == nil || !p.hasCluster("model:"+id) {
			t.Errorf("%s is gone: another apply did not see it", id)
		}
	}

	// An Envoy that says nothing is waited for, and no longer than that is for.
	p.close()
	eventually(t, "still connected", func() bool { return n.fleet.Connected() == 0 })
	if err := apply(oneModel("bad/one")); err != nil {
		t.Errorf("with no Envoy left to mind: %v", err)
	}
}

// A catalog that NATS can't take in one message is refused before anything
// happens, by --dry-run too.
func TestCatalogTooLarge(t *testing.T) {
	n, client := serveNode(t)
	var b strings.Builder
	b.WriteString(oneModel("a/b") + "users:\n")
	for i := 0; b.Len() < events.MaxDocument+events.MaxDocument/8; i++ {
		fmt.Fprintf(&b, "  - {id: %q, workspace: demo, externalId: %q}\n", fmt.Sprint("user-", i), strings.Repeat("x", 200))
	}
	for _, query := range []url.Values{{"dryRun": {"true"}}, {}} {
		_, err := client.Apply(t.Context(), []byte(b.String()), query)
		var said *manage.Error
		if !errors.As(err, &said) || said.Status != http.StatusRequestEntityTooLarge || !strings.Contains(said.Message, "leave out") {
			t.Errorf("%v: %v", query, err)
		}
	}
	if len(n.tables().Models) != 0 {
		t.Error("a part of it is in force")
	}
	// The largest that is let through can be stored.
	var c strings.Builder
	c.WriteString(oneModel("a/b") + "users:\n")
	for i := range 3500 {
		fmt.Fprintf(&c, "  - {id: %q, workspace: demo, externalId: %q}\n", fmt.Sprintf("user-%04d", i), strings.Repeat("x", 200))
	}
	if _, err := client.Apply(t.Context(), []byte(c.String()), url.Values{}); err != nil {
		t.Error(err)
	}
}

// A file with a credential that changes is read again; one that is useless for a
// moment changes nothing.
func TestCredentialFileIsWatched(t *testing.T) {
	n, client := serveNode(t)
	file := filepath.Join(t.TempDir(), "key")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sk-first")
	text := oneModel("a/b")
	text = strings.Replace(text, "upstreams:", fmt.Sprintf("credential: 'file:%s', upstreams:", file), 1)
	if _, err := client.Apply(t.Context(), []byte(text), url.Values{}); err != nil {
		t.Fatal(err)
	}
	secret := func() string { return n.tables().Models["a/b"].Credential.Secret() }
	version := n.tables().Version
	if secret() != "sk-first" {
		t.Errorf("the secret is %q", secret())
	}
	write("")
	if _, err := client.Apply(t.Context(), []byte(text), url.Values{}); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("applied with an empty file: %v", err)
	}
	write("sk-second")
	eventually(t, "the new secret is not in force", func() bool { return secret() == "sk-second" })
	write("sk-third")
	if _, err := client.Apply(t.Context(), []byte(text), url.Values{}); err != nil || secret() != "sk-third" {
		t.Errorf("applied again: %q, %v", secret(), err)
	}
	if n.tables().Version != version {
		t.Error("a new secret made a new version of the rates")
	}
}
