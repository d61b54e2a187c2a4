package envoy

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A Fleet hands the same configuration to every Envoy that connects (ADS, state
// of the world), and knows which of them have taken it. It is served by the
// Server that it is given to. All methods are safe for concurrent use.
type Fleet struct {
	snapshots cachev3.SnapshotCache
	server    serverv3.Server
	close     context.CancelFunc
	versions  []byte // key of the hash that versions of secrets are

	mu      sync.Mutex
	want    map[string]string // version by type; what was published last
	streams map[int64]*fleetStream
	changed chan struct{} // closed, and made anew, at every change of the above
}

// fleetStream is one connected Envoy. Its maps are by type.
type fleetStream struct {
	node    string
	sent    map[string]sent
	taken   map[string]string // version; "": it asked and has none yet
	refused map[string]refusal
}

// sent is the newest answer to an Envoy.
type sent struct{ nonce, version string }

// refusal is a version that an Envoy would not have, and why.
type refusal struct{ version, why string }

// everyone is the one group of nodes that there is.
type everyone struct{}

const fleetNode = "all"

func (everyone) ID(*corev3.Node) string { return fleetNode }

// tokenHeader is where an Envoy shows its Options.Token.
const tokenHeader = "x-tollgate-fleet" //nolint:gosec // a name, not the token

// NewFleet makes a fleet without a configuration: Envoys that connect wait for
// the first Publish. token is what they have to show (see Options.Token): with the
// configuration come upstreams' credentials, and whoever connects is waited for.
// "": nothing. Replicas that have the same token say the same version of the same
// configuration, so an Envoy that moves from one to another finds nothing new.
func NewFleet(token string) *Fleet {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fleet{
		snapshots: cachev3.NewSnapshotCache(true, everyone{}, nil),
		close:     cancel,
		want:      map[string]string{},
		streams:   map[int64]*fleetStream{},
		changed:   make(chan struct{}),
		versions:  versionKey(token),
	}
	f.server = serverv3.NewServer(ctx, f.snapshots, serverv3.CallbackFuncs{
		StreamOpenFunc: func(ctx context.Context, id int64, _ string) error {
			if !shows(ctx, token) {
				return status.Error(codes.Unauthenticated, "this is not an Envoy of this Tollgate: start it with what tollgate envoy bootstrap prints")
			}
			f.opened(id)
			return nil
		},
		StreamClosedFunc:  func(id int64, _ *corev3.Node) { f.closed(id) },
		StreamRequestFunc: func(id int64, r *discoveryv3.DiscoveryRequest) error { f.requested(id, r); return nil },
		StreamResponseFunc: func(_ context.Context, id int64, _ *discoveryv3.DiscoveryRequest, r *discoveryv3.DiscoveryResponse) {
			f.answered(id, r)
		},
	})
	return f
}

// versionKey is made of the token because all replicas have it and nobody else
// does who may not have the secrets too. Without one, no two replicas agree.
func versionKey(token string) []byte {
	if token == "" {
		token = rand.Text()
	}
	key := sha256.Sum256([]byte("versions of secrets, by " + token))
	return key[:]
}

// shows reports whether a call comes with the token.
func shows(ctx context.Context, token string) bool {
	if token == "" {
		return true
	}
	shown := metadata.ValueFromIncomingContext(ctx, tokenHeader)
	return len(shown) == 1 && subtle.ConstantTimeCompare([]byte(shown[0]), []byte(token)) == 1
}

// Close ends the streams to all Envoys, which keep what they have.
func (f *Fleet) Close() { f.close() }

// Publish makes r the configuration of all Envoys, those that connect later too.
// It does not wait for them: see Wait. What is the same as before is not sent
// again.
func (f *Fleet) Publish(r *Resources) error {
	var snapshot cachev3.Snapshot
	want := map[string]string{}
	for kind, items := range map[types.ResponseType][]types.Resource{
		types.Secret:   resources(r.live.secrets),
		types.Cluster:  resources(r.live.clusters.clusters),
		types.Listener: {r.live.listener},
		types.Route:    {r.Routes},
	} {
		h := sha256.New()
		if kind == types.Secret { // a version is shown to everybody, and must not help with guessing
			h = hmac.New(sha256.New, f.versions)
		}
		version, err := versionOf(h, items)
		if err != nil {
			return err
		}
		snapshot.Resources[kind] = cachev3.NewResources(version, items)
		url, err := cachev3.GetResponseTypeURL(kind)
		if err != nil {
			return err
		}
		want[url] = version
	}
	if err := snapshot.Consistent(); err != nil {
		return fmt.Errorf("envoy configuration: %w", err)
	}
	f.mu.Lock()
	f.want = want
	f.signal()
	f.mu.Unlock()
	return f.snapshots.SetSnapshot(context.Background(), fleetNode, &snapshot)
}

func resources[T types.Resource](list []T) []types.Resource {
	out := make([]types.Resource, len(list))
	for i, r := range list {
		out[i] = r
	}
	return out
}

// versionOf names a set of resources by its content.
func versionOf(h hash.Hash, items []types.Resource) (string, error) {
	for _, item := range items {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(item)
		if err != nil {
			return "", fmt.Errorf("envoy configuration: %w", err)
		}
		fmt.Fprintf(h, "%d ", len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}

// Wait returns once what was published last is in force in every connected Envoy:
// Envoy acknowledges clusters when they can be used, which is after it has
// resolved their names, got their secrets and checked their health once. The
// error is ctx's, or says what an Envoy has against it.
func (f *Fleet) Wait(ctx context.Context) error {
	for {
		f.mu.Lock()
		behind, err := f.behind()
		changed := f.changed
		f.mu.Unlock()
		if err != nil || behind == "" {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the Envoy %s has not taken the configuration: %w", behind, ctx.Err())
		}
	}
}

// behind names a connected Envoy that lacks something, or says what one refuses.
// f.mu is held.
func (f *Fleet) behind() (node string, err error) {
	for _, s := range f.streams {
		for url, taken := range s.taken {
			want := f.want[url]
			if want == "" || taken == want {
				continue
			}
			if no := s.refused[url]; no.version == want {
				return "", fmt.Errorf("the Envoy %s refuses the configuration: %s", s.node, no.why)
			}
			node = s.node
		}
	}
	return node, nil
}

// Connected is how many Envoys are connected.
func (f *Fleet) Connected() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.streams)
}

// signal wakes all that wait. f.mu is held.
func (f *Fleet) signal() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Fleet) opened(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams[id] = &fleetStream{node: "that just connected", sent: map[string]sent{}, taken: map[string]string{}, refused: map[string]refusal{}}
	f.signal()
}

func (f *Fleet) closed(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.streams, id)
	f.signal()
}

// answered notes what an Envoy is sent.
func (f *Fleet) answered(id int64, r *discoveryv3.DiscoveryResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.streams[id]; s != nil {
		s.sent[r.GetTypeUrl()] = sent{r.GetNonce(), r.GetVersionInfo()}
	}
}

// requested notes what an Envoy's request says of what it was sent before: an
// acknowledgement has the version, a refusal the reason.
func (f *Fleet) requested(id int64, r *discoveryv3.DiscoveryRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.streams[id]
	if s == nil {
		return
	}
	if n := r.GetNode().GetId(); n != "" {
		s.node = n
	}
	url := r.GetTypeUrl()
	s.taken[url] = r.GetVersionInfo()
	last, nonce := s.sent[url], r.GetResponseNonce()
	answers := nonce != "" && nonce == last.nonce
	unwanted := (url == resourcev3.SecretType || url == resourcev3.RouteType) && len(r.GetResourceNames()) == 0
	if unwanted {
		// It has no use for them any more, such as for routes while its listener
		// can't be bound, and says neither yes nor no to what it is sent.
		delete(s.taken, url)
	}
	refuses := r.GetErrorDetail() != nil && answers
	if refuses {
		s.refused[url] = refusal{last.version, r.GetErrorDetail().GetMessage()}
	}
	if refuses || unwanted && answers {
		// As if it had that version: or it would be sent the same at once, and
		// answer the same again, for as long as it is published.
		r.VersionInfo = last.version
	}
	f.signal()
}
