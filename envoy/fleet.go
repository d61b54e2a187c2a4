package envoy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/protobuf/proto"
)

// A Fleet hands the same configuration to every Envoy that connects (ADS, state
// of the world), and knows which of them have taken it. It is served by the
// Server that it is given to. All methods are safe for concurrent use.
type Fleet struct {
	snapshots cachev3.SnapshotCache
	server    serverv3.Server
	close     context.CancelFunc

	mu      sync.Mutex
	want    map[string]string // version by type; what was published last
	streams map[int64]*fleetStream
	changed chan struct{} // closed, and made anew, at every change of the above
}

// fleetStream is one connected Envoy. Its maps are by type.
type fleetStream struct {
	node    string
	taken   map[string]string // version; "": it asked and has none yet
	refused map[string]string // what it said against the version that was sent last
}

// everyone is the one group of nodes that there is.
type everyone struct{}

const fleetNode = "all"

func (everyone) ID(*corev3.Node) string { return fleetNode }

// NewFleet makes a fleet without a configuration: Envoys that connect wait for
// the first Publish.
func NewFleet() *Fleet {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fleet{
		snapshots: cachev3.NewSnapshotCache(true, everyone{}, nil),
		close:     cancel,
		want:      map[string]string{},
		streams:   map[int64]*fleetStream{},
		changed:   make(chan struct{}),
	}
	f.server = serverv3.NewServer(ctx, f.snapshots, serverv3.CallbackFuncs{
		StreamOpenFunc:    func(_ context.Context, id int64, _ string) error { f.opened(id); return nil },
		StreamClosedFunc:  func(id int64, _ *corev3.Node) { f.closed(id) },
		StreamRequestFunc: func(id int64, r *discoveryv3.DiscoveryRequest) error { f.requested(id, r); return nil },
	})
	return f
}

// Close ends the streams to all Envoys, which keep what they have.
func (f *Fleet) Close() { f.close() }

// Publish makes r the configuration of all Envoys, those that connect later too.
// It does not wait for them: see Wait. What is the same as before is not sent
// again.
func (f *Fleet) Publish(r *Resources) error {
	clusters := make([]types.Resource, len(r.Clusters))
	for i, c := range r.Clusters {
		clusters[i] = c
	}
	var snapshot cachev3.Snapshot
	want := map[string]string{}
	for kind, items := range map[types.ResponseType][]types.Resource{
		types.Cluster:  clusters,
		types.Listener: {r.live},
		types.Route:    {r.Routes},
	} {
		version, err := versionOf(items)
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
	for _, s := range f.streams {
		clear(s.refused)
	}
	f.signal()
	f.mu.Unlock()
	return f.snapshots.SetSnapshot(context.Background(), fleetNode, &snapshot)
}

// versionOf names a set of resources by its content.
func versionOf(items []types.Resource) (string, error) {
	h := sha256.New()
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

// Wait returns once every connected Envoy has taken what was published last. The
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
			if why := s.refused[url]; why != "" {
				return "", fmt.Errorf("the Envoy %s refuses the configuration: %s", s.node, why)
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
	f.streams[id] = &fleetStream{node: "that just connected", taken: map[string]string{}, refused: map[string]string{}}
	f.signal()
}

func (f *Fleet) closed(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.streams, id)
	f.signal()
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
	s.refused[url] = r.GetErrorDetail().GetMessage()
	f.signal()
}
