// Package envoy is everything of Tollgate that speaks Envoy: the configuration
// of the proxy (Build, Bootstrap), the services that the proxy calls
// (NewServer: Check before a request, settlement after it), and the process
// itself (Supervise).
//
// The request path, filter by filter and why, is described in
// docs/design/envoy-chain.md.
package envoy

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// Options are what Envoy's configuration needs to know besides the models.
type Options struct {
	// Listen is the gateway's address, "IP:port" or ":port" (all addresses).
	// "localhost" means 127.0.0.1. Required.
	Listen string
	// Servers are where Envoy finds NewServer's services: each replica as
	// "host:port", where a name stands for all of its addresses, or, where there is
	// only one, as "unix:PATH". Required. See buildServerCluster.
	Servers []string
	// Token is what Envoy shows the Fleet that it gets its configuration from; it
	// stands in the bootstrap of such an Envoy. "": none.
	Token string
	// Headers are the request headers, in lower case, that a Check carries. Nil:
	// all but cookies. Naming them saves both sides time.
	Headers []string
	// CheckTimeout bounds the Check of a request of at most SmallBody bytes,
	// LargeCheckTimeout that of a larger one, which takes longer to carry and
	// read. 0: 3 s and 5 s. After it the client gets a 503. A Check takes less than a
	// millisecond; this is for moments in which Envoy or Tollgate gets no processor,
	// such as when hundreds of callers connect at once.
	CheckTimeout, LargeCheckTimeout time.Duration
	// RevocationBound is how long a replica that is cut off goes on with the keys it
	// knows. Both Check timeouts must be below it: what was decided before a
	// revocation must not come into force after it is certain. 0: 15 s.
	RevocationBound time.Duration
	// SettleTimeout is how long Envoy goes on telling Tollgate of a finished
	// request that Tollgate doesn't take. 0: 60 s.
	SettleTimeout time.Duration
	// RequestTimeout bounds how long a client may take to send a request with
	// its body. 0: 5 min.
	RequestTimeout time.Duration
	// IdleTimeout ends a stream on which nothing moved. 0: 15 min, which is
	// longer than SDKs wait for a model that thinks (10 min).
	IdleTimeout time.Duration
	// MaxConnections is how many clients may be connected. 0: 10,000.
	MaxConnections int64
	// MaxHeap is the size of Envoy's heap in bytes, near which it first refuses
	// new requests and then resets those that hold most memory. 0: 1 GiB.
	MaxHeap uint64
	// CAFile holds the certificates that an https upstream's is checked
	// against. "": the system's, where one of the usual files exists.
	CAFile string
}

// SmallBody is the most bytes of body for which a request is checked in one
// go. A larger one, or one of unknown length, passes a look at its headers
// before Envoy holds its body in memory.
const SmallBody = 8 << 10

// Spec is what is routed where. The catalog's tables are turned into it by
// whoever starts Envoy.
type Spec struct {
	Clusters []Cluster
	Routes   []Route   // tried longest prefix first
	Managed  []Managed // tried before Routes
}

// Managed is a path that ServerOptions.Managed answers on any replica, with every
// method and without a Check.
type Managed struct {
	Path  string   // whole; the last segment may be {id}, which stands for any one
	Hosts []string // as Route.Hosts
	CORS  *CORS    // as Route.CORS
	// Dialect is as Route.Dialect.
	Dialect string
}

// Cluster is one model's upstreams, or a route's.
type Cluster struct {
	Name string // what a Decision's Cluster says; not starting with "tollgate"
	// Endpoints share the load by weight; those that can't be reached are left
	// out for a while. At least one.
	Endpoints []Endpoint
	TLS       bool   // https, certificate checked against each endpoint's host
	CA        []byte // PEM certificates that an https endpoint's is checked against; nil: Options.CAFile
	Path      string // goes before the request's path; "" or "/x/y", no trailing slash
	// HealthCheck finds out which endpoints can serve. Nil: of several, those that
	// fail are left out for a while.
	HealthCheck *HealthCheck
	Credential  *Credential // nil: none
}

// Endpoint is one upstream.
type Endpoint struct {
	Host   string // IP address or DNS name
	Port   uint16
	Weight uint32 // 0: 1
}

// Route is a set of paths with bounds of their own. What isn't in any route is
// answered 404 without a Check.
type Route struct {
	// Prefix is the path's start, by whole segments: "/v1" has "/v1/models" but
	// not "/v1x". "/" has everything.
	Prefix string
	// Hosts are those that the route is for, in lower case and without a port:
	// api.example.com, or *.example.com for all below it. A request's host is compared
	// in any case, and without its port. Of several routes for the same requests the
	// one counts that names the host most exactly. Nil: all hosts.
	Hosts []string
	// Header is one that a request must have. "": none. A route that asks for one is
	// tried before one that doesn't.
	Header string
	// Dialect names the dialect in which Envoy's own errors are written. "": OpenAI's.
	Dialect string
	// CORS, if not nil, lets pages of other origins call from browsers; their
	// preflights are answered without a Check.
	CORS *CORS
	// Rewrite replaces Prefix towards the upstream. "": nothing is replaced.
	Rewrite string
	// WebSocket says that these paths are WebSockets, which no other route lets
	// through. A Check sees the handshake only.
	WebSocket bool
	// MaxDuration ends a request for good. 0: 1 h.
	MaxDuration time.Duration
	// MaxBody and MaxMultipart are the most bytes of a body, the second for
	// multipart/form-data. 0: 16 MiB and 32 MiB. Larger: 413.
	MaxBody, MaxMultipart uint32
}

// Defaults of Options and Route.
const (
	DefaultCheckTimeout      = 3 * time.Second
	DefaultLargeCheckTimeout = 5 * time.Second
	DefaultRevocationBound   = 15 * time.Second
	DefaultSettleTimeout     = time.Minute
	DefaultRequestTimeout    = 5 * time.Minute
	DefaultIdleTimeout       = 15 * time.Minute
	DefaultMaxConnections    = 10_000
	DefaultMaxHeap           = 1 << 30
	DefaultMaxDuration       = time.Hour
	DefaultMaxBody           = 16 << 20
	DefaultMaxMultipart      = 32 << 20
)

// Resources are Envoy's configuration in the pieces in which it may be changed
// separately.
type Resources struct {
	Listener *listenerv3.Listener // has a copy of Routes, for a static configuration
	Routes   *routev3.RouteConfiguration
	Clusters []*clusterv3.Cluster // the Spec's
	Secrets  []*tlsv3.Secret      // the Clusters'; they say where each is found
	live     live                 // for a configuration that changes
}

// live is what a Fleet sends besides Routes.
type live struct {
	listener *listenerv3.Listener // names Routes
	clusters
}

// Build turns options and a Spec into Envoy's resources. It has no side effects
// but for looking where the system keeps its CA certificates. The error names
// every field that is wrong.
func Build(o Options, s Spec) (*Resources, error) {
	o = o.withDefaults()
	if err := errors.Join(o.check(), s.check()); err != nil {
		return nil, fmt.Errorf("envoy configuration: %w", err)
	}
	static, streamed, err := buildClusters(o, s.Clusters)
	if err != nil {
		return nil, fmt.Errorf("envoy configuration: %w", err)
	}
	routes := buildRoutes(o, s)
	return &Resources{
		Listener: buildListener(o, routes, s.dialects()),
		Routes:   routes,
		Clusters: static.clusters,
		Secrets:  static.secrets,
		live:     live{buildListener(o, nil, otherDialects()), streamed},
	}, nil
}

func (o Options) withDefaults() Options {
	def(&o.CheckTimeout, DefaultCheckTimeout)
	def(&o.LargeCheckTimeout, DefaultLargeCheckTimeout)
	def(&o.RevocationBound, DefaultRevocationBound)
	def(&o.SettleTimeout, DefaultSettleTimeout)
	def(&o.RequestTimeout, DefaultRequestTimeout)
	def(&o.IdleTimeout, DefaultIdleTimeout)
	def(&o.MaxConnections, DefaultMaxConnections)
	def(&o.MaxHeap, DefaultMaxHeap)
	return o
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o Options) check() error {
	var errs []error
	if _, err := listenAddr(o.Listen); err != nil {
		errs = append(errs, err)
	}
	if err := checkServers(o.Servers); err != nil {
		errs = append(errs, err)
	}
	for name, d := range map[string]time.Duration{
		"CheckTimeout": o.CheckTimeout, "LargeCheckTimeout": o.LargeCheckTimeout, "SettleTimeout": o.SettleTimeout,
		"RequestTimeout": o.RequestTimeout, "IdleTimeout": o.IdleTimeout, "RevocationBound": o.RevocationBound,
	} {
		if d < time.Millisecond {
			errs = append(errs, fmt.Errorf("%s: %v is less than a millisecond", name, d))
		}
	}
	if longest := max(o.CheckTimeout, o.LargeCheckTimeout); longest >= o.RevocationBound {
		errs = append(errs, fmt.Errorf("the revocation bound %v must be above the longest timeout of a check, %v: "+
			"a check could pass by a key that was revoked longer ago than that", o.RevocationBound, longest))
	}
	if o.MaxConnections < 0 {
		errs = append(errs, fmt.Errorf("MaxConnections: %d is negative", o.MaxConnections))
	}
	return errors.Join(errs...)
}

func (s Spec) check() error {
	var errs []error
	clusters := make(map[string]bool)
	for _, c := range s.Clusters {
		if err := c.check(); err != nil {
			errs = append(errs, fmt.Errorf("cluster %q: %w", c.Name, err))
		}
		if clusters[c.Name] {
			errs = append(errs, fmt.Errorf("cluster %q: there are two", c.Name))
		}
		clusters[c.Name] = true
	}
	prefixes := make(map[string]bool)
	for _, r := range s.Routes {
		if err := r.check(); err != nil {
			errs = append(errs, fmt.Errorf("route %q: %w", r.Prefix, err))
		}
		same := fmt.Sprint(r.Prefix, r.Header, r.Hosts)
		if prefixes[same] {
			errs = append(errs, fmt.Errorf("route %q: there are two", r.Prefix))
		}
		prefixes[same] = true
	}
	for i, m := range s.Managed {
		if err := m.check(); err != nil {
			errs = append(errs, err)
		}
		if slices.ContainsFunc(s.Managed[:i], func(other Managed) bool { return other.Path == m.Path && slices.Equal(other.Hosts, m.Hosts) }) {
			errs = append(errs, fmt.Errorf("managed path %q: it is there twice", m.Path))
		}
	}
	return errors.Join(errs...)
}

func (c Cluster) check() error {
	switch {
	case c.Name == "" || strings.HasPrefix(c.Name, serverCluster):
		return fmt.Errorf("the name is empty or starts with %q", serverCluster)
	case len(c.Endpoints) == 0:
		return errors.New("it has no endpoints")
	case c.Path != "" && !cleanPath(c.Path):
		return fmt.Errorf("path %q: write it as /a/b", c.Path)
	}
	if c.HealthCheck != nil {
		if err := c.HealthCheck.check(); err != nil {
			return err
		}
	}
	if c.Credential != nil {
		if err := c.Credential.check(); err != nil {
			return err
		}
	}
	for _, e := range c.Endpoints {
		if e.Port == 0 || !validHost(e.Host) {
			return fmt.Errorf("endpoint %s: needs a host and a port", net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))))
		}
	}
	return nil
}

func (r Route) check() error {
	switch {
	case r.Prefix != "/" && !cleanPath(r.Prefix):
		return errors.New("write the prefix as /a/b, or / for everything")
	case r.Header != strings.ToLower(r.Header) || strings.ContainsAny(r.Header, " :\r\n"):
		return fmt.Errorf("header %q: write its name in lower case", r.Header)
	case r.Rewrite != "" && r.Rewrite != "/" && !cleanPath(r.Rewrite):
		return fmt.Errorf("rewrite %q: write it as /a/b", r.Rewrite)
	case r.Prefix == "/" && r.Rewrite != "":
		return errors.New("everything can't be rewritten: give a prefix")
	case r.MaxDuration < 0:
		return fmt.Errorf("MaxDuration: %v is negative", r.MaxDuration)
	case r.MaxBody > math.MaxInt32 || r.MaxMultipart > math.MaxInt32:
		return errors.New("a body may have 2 GiB at most")
	}
	return errors.Join(checkHosts(r.Hosts), r.CORS.check(), checkDialect(r.Dialect))
}

// cleanPath reports whether p is an absolute path of plain segments: what can
// be matched, and put before another path, without surprises.
func cleanPath(p string) bool {
	if !strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") || strings.Contains(p, "//") {
		return false
	}
	return !strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`%?#\"`, r) })
}

func validHost(h string) bool {
	return h != "" && !strings.ContainsFunc(h, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/?#@%[]", r) })
}

// listenAddr reads Options.Listen.
func listenAddr(s string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gateway address %q: write it as IP:port", s)
	}
	switch host {
	case "":
		host = "0.0.0.0"
	case "localhost":
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gateway address %q: the host must be an IP address of this machine", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return netip.AddrPort{}, fmt.Errorf("gateway address %q: the port must be from 1 to 65535", s)
	}
	return netip.AddrPortFrom(addr, uint16(n)), nil
}
