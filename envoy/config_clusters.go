package envoy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	upstreamcodecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// manyRequests is for circuit breakers that shall not trip: Envoy's defaults
// (1024 requests, 3 retries) throttle the Check under load and lose every
// settlement of a restart but three.
const manyRequests = 1_000_000

// upstreamIdle is how long an unused connection to an upstream is kept. Python
// servers close theirs after 5 s (uvicorn); a request sent at that moment would
// fail and can't be repeated, so Envoy closes first.
const upstreamIdle = 4 * time.Second

// buildClusters makes the clusters of specs and their secrets in two forms: for a
// static configuration, in which Envoy finds secrets by itself, and for one that
// Tollgate streams to it.
func buildClusters(o Options, specs []Cluster) (static, live clusters, err error) {
	for _, s := range specs {
		ca := &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: s.CA}}
		if s.TLS && s.CA == nil {
			file := o.CAFile
			if file == "" {
				if file = systemCAFile(); file == "" {
					return static, live, errors.New("no file of CA certificates was found for the https upstreams: name one in CAFile")
				}
			}
			ca = &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: file}}
		}
		c := buildCluster(s, ca, nil)
		static.clusters = append(static.clusters, c)
		if s.Credential != nil {
			static.secrets = append(static.secrets, staticSecret(s))
			live.secrets = append(live.secrets, liveSecret(s))
			c = buildCluster(s, ca, fromStream())
		}
		live.clusters = append(live.clusters, c)
	}
	return static, live, nil
}

// clusters are what goes with each other.
type clusters struct {
	clusters []*clusterv3.Cluster
	secrets  []*tlsv3.Secret
}

// buildCluster makes a cluster whose secret, if it has one, is found where secrets
// says.
func buildCluster(s Cluster, ca *corev3.DataSource, secrets *corev3.ConfigSource) *clusterv3.Cluster {
	endpoints := make([]*endpointv3.LbEndpoint, len(s.Endpoints))
	for i, e := range s.Endpoints {
		weight := e.Weight
		def(&weight, 1)
		endpoints[i] = &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: address("", e), Hostname: authority(e, s.TLS),
				HealthCheckConfig: &endpointv3.Endpoint_HealthCheckConfig{Hostname: authority(e, s.TLS)},
			}},
			LoadBalancingWeight: wrapperspb.UInt32(weight),
		}
	}
	c := &clusterv3.Cluster{
		Name:                 s.Name,
		ConnectTimeout:       durationpb.New(5 * time.Second),
		ClusterDiscoveryType: discovery(s.Endpoints...),
		LoadAssignment:       assignment(s.Name, endpoints...),
		// What is read ahead of a slow client.
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBuffer),
		CircuitBreakers:               breakers(),
		DnsLookupFamily:               clusterv3.Cluster_ALL,
	}
	watchHealth(c, s)
	protocol := &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(upstreamIdle)},
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
		}},
	}
	if s.TLS {
		protocol.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_AutoConfig{AutoConfig: &httpv3.HttpProtocolOptions_AutoHttpConfig{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{}, Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		}}
		c.TransportSocket = upstreamTLS(ca, s.Endpoints)
	}
	if s.Path != "" {
		protocol.HttpFilters = append(protocol.HttpFilters, prependPath(s.Path))
	}
	if s.Credential != nil {
		protocol.HttpFilters = append(protocol.HttpFilters, injectCredential(s, secrets))
	}
	if protocol.HttpFilters != nil {
		protocol.HttpFilters = append(protocol.HttpFilters, httpFilter("envoy.filters.http.upstream_codec", &upstreamcodecv3.UpstreamCodec{}))
	}
	c.TypedExtensionProtocolOptions = httpOptions(protocol)
	return c
}

// prependPath is a filter on the way to one cluster, where the route's own
// rewrite has been done already. It is Lua because Envoy's header mutation
// filter leaves :path alone. The path has no character that %q would escape
// (see cleanPath).
func prependPath(path string) *hcmv3.HttpFilter {
	return luaFilter("tollgate.path", fmt.Sprintf("function envoy_on_request(h)\n  h:headers():replace(\":path\", %q .. h:headers():get(\":path\"))\nend\n", path))
}

// upstreamTLS checks the certificate for the endpoint's own name. An IP address
// is not sent as SNI, by which Envoy would know what to look for; so where there
// is one, the certificate may be for any of the cluster's hosts.
func upstreamTLS(ca *corev3.DataSource, endpoints []Endpoint) *corev3.TransportSocket {
	validation := &tlsv3.CertificateValidationContext{TrustedCa: ca}
	byName := true
	for _, e := range endpoints {
		kind := tlsv3.SubjectAltNameMatcher_DNS
		if _, err := netip.ParseAddr(e.Host); err == nil {
			kind, byName = tlsv3.SubjectAltNameMatcher_IP_ADDRESS, false
		}
		validation.MatchTypedSubjectAltNames = append(validation.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{
			SanType: kind, Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: e.Host}},
		})
	}
	if byName {
		validation.MatchTypedSubjectAltNames = nil
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&tlsv3.UpstreamTlsContext{
			AutoHostSni: true, AutoSniSanValidation: byName,
			CommonTlsContext: &tlsv3.CommonTlsContext{
				AlpnProtocols:         []string{"h2", "http/1.1"},
				ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation},
			},
		})},
	}
}

// systemCAFile is where Debian, Red Hat, Alpine and macOS keep their
// certificates; "" if nowhere.
func systemCAFile() string {
	for _, f := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"} {
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return ""
}

// discovery is STATIC where every endpoint has an IP address (or is a socket).
func discovery(endpoints ...Endpoint) *clusterv3.Cluster_Type {
	for _, e := range endpoints {
		if _, err := netip.ParseAddr(e.Host); err != nil && e.Host != "" {
			return &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		}
	}
	return &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
}

func assignment(name string, endpoints ...*endpointv3.LbEndpoint) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: endpoints}}}
}

func address(path string, e Endpoint) *corev3.Address {
	if path != "" {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: e.Host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(e.Port)},
	}}}
}

// authority is the Host that an upstream is addressed by. The scheme's own port
// is left out, as browsers do; for https it also is the name that the
// certificate must have.
func authority(e Endpoint, https bool) string {
	if https || e.Port == 80 {
		return e.Host
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

func breakers() *clusterv3.CircuitBreakers {
	many := wrapperspb.UInt32(manyRequests)
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: many, MaxPendingRequests: many, MaxRequests: many, MaxRetries: many,
	}}}
}

func httpOptions(o *httpv3.HttpProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(o)}
}
