package envoy

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// ServerOptions are for NewServer. The zero value is usable.
type ServerOptions struct {
	// Wanted says which request headers (lower case) a decision reads; the
	// others aren't copied. Nil: all. Envoys configured by Build send only
	// Options.Headers anyway.
	Wanted func(header string) bool
	// Routable says whether Envoy has a cluster. A request that is admitted to
	// one that it hasn't is refused with 503 and its admission taken back; Envoy
	// would refuse it too, but tell nobody. Nil: Envoy has them all.
	Routable func(cluster string) bool
	// MaxBody is the most bytes of a request's body that a Check may carry: of
	// all routes' MaxBody and MaxMultipart the largest. 0: DefaultMaxMultipart.
	MaxBody int
	// Reclaimer is told of requests that went nowhere, by Envoys that show Token.
	// Nil: nobody is.
	Reclaimer Reclaimer
	Token     string
	// Fleet is told its configuration by this server too. Nil: nobody is.
	Fleet *Fleet
	// Grace is how long Stop goes on serving after the health service has begun to
	// say NOT_SERVING, so that whoever asks for health sends its calls to another
	// replica. DrainGrace is right for Envoys as Build configures them. 0: not at
	// all, where there is no other replica.
	Grace time.Duration
	// Credentials protect the listener. Nil: none, for loopback and sockets.
	Credentials credentials.TransportCredentials
	// Managed answers what Envoys bring for Spec.Managed, on the same listener, over
	// HTTP/1.1. Its RemoteAddr is the client's. Without Credentials only. Nil: there
	// is no such thing.
	Managed http.Handler
	// Logger takes what is worth a person's attention. Nil: slog.Default().
	Logger *slog.Logger
}

// Stats count what happened since the start. They may be read at any time.
type Stats struct {
	Settled              atomic.Uint64 // settlements taken
	SettlementsDeferred  atomic.Uint64 // answered "come again"
	MalformedSettlements atomic.Uint64 // dropped: no token, or not for us
	SettlePanics         atomic.Uint64
	MalformedChecks      atomic.Uint64 // not about an HTTP request
	AbandonedChecks      atomic.Uint64 // admissions that Envoy no longer waited for, taken back
	UnroutableChecks     atomic.Uint64 // admissions to a cluster that Envoy hasn't, taken back
	CheckPanics          atomic.Uint64
	LostRequests         atomic.Uint64 // clients that hung up around the Check; some had an admission
}

// Server is the gRPC server that Envoy calls: Authorization, RateLimitService
// (for settlements), the configuration stream and the standard health service.
type Server struct {
	grpc   *grpc.Server
	http   *http.Server // nil: nothing is managed
	health *health.Server
	stats  *Stats
	fleet  *Fleet // nil: none
	grace  time.Duration

	stopping sync.Once
	done     chan struct{} // closed by Stop, for streams that don't end by themselves
}

// streamWorkers handle calls without growing a new stack for each.
const streamWorkers = 64

// NewServer makes a server that isn't serving yet.
func NewServer(c Checker, s Settler, o ServerOptions) *Server {
	def(&o.MaxBody, DefaultMaxMultipart)
	def(&o.Logger, slog.Default())
	options := []grpc.ServerOption{
		// A Check is a body, at most 60 KiB of headers, and names.
		grpc.MaxRecvMsgSize(o.MaxBody + 1<<20),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.StaticStreamWindowSize(1 << 20),
		grpc.StaticConnWindowSize(16 << 20),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
	if o.Credentials != nil {
		options = append(options, grpc.Creds(o.Credentials))
	}
	srv := &Server{grpc: grpc.NewServer(options...), health: health.NewServer(), stats: new(Stats), grace: o.Grace, done: make(chan struct{})}
	authv3.RegisterAuthorizationServer(srv.grpc, &checkServer{checker: c, settler: s, wanted: o.Wanted, routable: o.Routable, stats: srv.stats, log: o.Logger})
	rlsv3.RegisterRateLimitServiceServer(srv.grpc, &settleServer{settler: s, stats: srv.stats, log: o.Logger})
	healthv1.RegisterHealthServer(srv.grpc, srv.health)
	if o.Reclaimer != nil {
		alsv3.RegisterAccessLogServiceServer(srv.grpc, &lostServer{reclaimer: o.Reclaimer, token: o.Token, stats: srv.stats, done: srv.done})
	}
	if o.Managed != nil {
		srv.http = managedServer(o.Managed, srv.health, o.Logger)
	}
	if srv.fleet = o.Fleet; srv.fleet != nil {
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(srv.grpc, srv.fleet.server)
	}
	return srv
}

// Serve answers calls on l until Stop, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if s.http == nil {
		return s.grpc.Serve(l)
	}
	both := newSplit(l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.http.Serve(both.http) // ends with the listener, of which gRPC tells
	}()
	err := s.grpc.Serve(both)
	_ = both.Close() // gRPC has closed it, unless it was never to begin
	<-done
	return err
}

// SetReady says whether the health service reports SERVING, as it does from the
// start.
func (s *Server) SetReady(ready bool) {
	state := healthv1.HealthCheckResponse_NOT_SERVING
	if ready {
		state = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", state)
}

// Stats returns the counters, which go on counting.
func (s *Server) Stats() *Stats { return s.stats }

// Stop says NOT_SERVING, goes on serving for the grace, then takes no new calls
// (Envoy brings those that come all the same to another replica) and waits for
// those that are running. When ctx ends they are cut off and its error is returned,
// and in the grace that is over. It may be called more than once, and returns when
// all is over.
func (s *Server) Stop(ctx context.Context) error {
	s.health.Shutdown()
	s.wait(ctx)
	// These streams would not end by themselves. They end after the grace, so that
	// Envoy doesn't come back to this replica with them.
	s.stopping.Do(func() { close(s.done) })
	if s.fleet != nil {
		s.fleet.Close()
	}
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		if s.http != nil {
			_ = s.http.Shutdown(ctx) // when ctx ends, all is cut off below
		}
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.grpc.Stop()
		if s.http != nil {
			s.http.Close()
		}
		<-done
		return ctx.Err()
	}
}

// wait waits for the grace to pass.
func (s *Server) wait(ctx context.Context) {
	if s.grace <= 0 {
		return
	}
	grace := time.NewTimer(s.grace)
	defer grace.Stop()
	select {
	case <-grace.C:
	case <-ctx.Done():
	}
}
