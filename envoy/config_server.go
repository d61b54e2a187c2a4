package envoy

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// serverCluster is the cluster of Tollgate itself. configCluster is the same place
// for what never ends, the configuration stream and the access log: a drain waits
// for the requests of serverCluster only.
const (
	serverCluster = "tollgate"
	configCluster = "tollgate_config"
)

// replicaInterval is how often Envoy asks each replica for its health, and
// replicaTimeout how long that may take. One that says NOT_SERVING is left out at
// once, one that says nothing after the second time.
const (
	replicaInterval = 250 * time.Millisecond
	replicaTimeout  = 500 * time.Millisecond
)

// DrainGrace is how long a replica that stops should go on serving (see
// ServerOptions.Grace), so that Envoys as Build configures them have noticed: each
// asks at least twice in that time, even if it is late.
const DrainGrace = 6 * replicaInterval

// buildServerCluster makes the cluster of Tollgate's replicas. They take turns:
// the limits that replicas share are handed out by share, so the load should be
// even. Who says that it is stopping, does not answer, or can't be connected to is
// left out; where all are, all are tried, because a replica that must not decide
// says so itself. A single address has nobody to be left out for, and isn't asked.
func buildServerCluster(o Options, name string) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:            name,
		ConnectTimeout:  durationpb.New(250 * time.Millisecond),
		CircuitBreakers: breakers(),
		DnsLookupFamily: clusterv3.Cluster_ALL,
	}
	endpoints := make([]Endpoint, 0, len(o.Servers))
	hosts := make([]*endpointv3.LbEndpoint, 0, len(o.Servers))
	for _, s := range o.Servers {
		path, e, _ := serverEndpoint(s) // checked by Options.check
		endpoints = append(endpoints, e)
		hosts = append(hosts, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(path, e)}}})
	}
	c.ClusterDiscoveryType = discovery(endpoints...)
	c.LoadAssignment = assignment(name, hosts...)
	if len(endpoints) > 1 || c.GetType() == clusterv3.Cluster_STRICT_DNS { // a name may have several addresses
		c.HealthChecks = []*corev3.HealthCheck{replicaCheck()}
		c.OutlierDetection = unreachable()
		c.CommonLbConfig = panicBelow(1)
	}
	c.TypedExtensionProtocolOptions = httpOptions(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
				ConnectionKeepalive: &corev3.KeepaliveSettings{Interval: durationpb.New(10 * time.Second), Timeout: durationpb.New(2 * time.Second)},
			}},
		}},
	})
	return c
}

func replicaCheck() *corev3.HealthCheck {
	return &corev3.HealthCheck{
		Interval:           durationpb.New(replicaInterval),
		NoTrafficInterval:  durationpb.New(replicaInterval),
		Timeout:            durationpb.New(replicaTimeout),
		UnhealthyThreshold: wrapperspb.UInt32(2), // of no answer
		HealthyThreshold:   wrapperspb.UInt32(1),
		HealthChecker:      &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{}},
	}
}

// unreachable leaves a replica out from the first connection that fails, which is
// sooner than its health is asked for; its next good answer to that brings it back.
// What it says about a request is no reason: it may be right.
func unreachable() *clusterv3.OutlierDetection {
	return &clusterv3.OutlierDetection{
		BaseEjectionTime: durationpb.New(time.Second), MaxEjectionTime: durationpb.New(5 * time.Second), MaxEjectionPercent: wrapperspb.UInt32(100),
		SplitExternalLocalOriginErrors: true,
		ConsecutiveLocalOriginFailure:  wrapperspb.UInt32(1), EnforcingConsecutiveLocalOriginFailure: wrapperspb.UInt32(100),
		EnforcingConsecutive_5Xx: wrapperspb.UInt32(0), EnforcingConsecutiveGatewayFailure: wrapperspb.UInt32(0),
		EnforcingSuccessRate: wrapperspb.UInt32(0), EnforcingLocalOriginSuccessRate: wrapperspb.UInt32(0),
	}
}

// checkService is the call of Authorization on a replica. It is repeated, at
// another one, only when it can't have been processed: a second Check would be a
// second admission. The longest back-off is the whole timeout because Envoy makes
// it the timeout of a single try as well.
func checkService(timeout time.Duration, metadata ...*corev3.HeaderValue) *corev3.GrpcService {
	return &corev3.GrpcService{
		TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: serverCluster}},
		Timeout:         durationpb.New(timeout),
		InitialMetadata: metadata,
		RetryPolicy: elsewhere(&corev3.RetryPolicy{
			RetryOn: "connect-failure,refused-stream", NumRetries: wrapperspb.UInt32(10),
			RetryBackOff: &corev3.BackoffStrategy{BaseInterval: durationpb.New(25 * time.Millisecond), MaxInterval: durationpb.New(timeout)},
		}),
	}
}

// settleService is the call for a stream that is done. Any replica takes it, as
// often as it comes, so it is repeated after whatever went wrong.
func settleService(timeout time.Duration) *corev3.GrpcService {
	return &corev3.GrpcService{
		TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: serverCluster}},
		Timeout:         durationpb.New(timeout),
		RetryPolicy: elsewhere(&corev3.RetryPolicy{
			RetryOn:    "unavailable,connect-failure,reset,refused-stream",
			NumRetries: wrapperspb.UInt32(uint32(timeout/(100*time.Millisecond)) + 1),
			// The longest back-off is the timeout of a single try, too.
			RetryBackOff: &corev3.BackoffStrategy{BaseInterval: durationpb.New(100 * time.Millisecond), MaxInterval: durationpb.New(time.Second)},
		}),
	}
}

// elsewhere makes each retry go to a host that wasn't tried yet, if there is one.
func elsewhere(p *corev3.RetryPolicy) *corev3.RetryPolicy {
	p.RetryHostPredicate = []*corev3.RetryPolicy_RetryHostPredicate{{
		Name: previousHosts, ConfigType: &corev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&previoushostsv3.PreviousHostsPredicate{})},
	}}
	p.HostSelectionRetryMaxAttempts = 10
	return p
}

// previousHosts is the name of the rule that a retry goes to another host.
const previousHosts = "envoy.retry_host_predicates.previous_hosts"

func checkServers(servers []string) error {
	if len(servers) == 0 {
		return errors.New("tollgate's gRPC address is missing: write it as host:port or unix:PATH")
	}
	var errs []error
	for i, s := range servers {
		path, _, err := serverEndpoint(s)
		switch {
		case err != nil:
			errs = append(errs, err)
		case path != "" && len(servers) > 1:
			errs = append(errs, fmt.Errorf("tollgate's gRPC address %q: a socket can't be one of several", s))
		case slices.Contains(servers[:i], s):
			errs = append(errs, fmt.Errorf("tollgate's gRPC address %q: it is there twice", s))
		}
	}
	return errors.Join(errs...)
}

// serverEndpoint reads one of Options.Servers: a socket's path, or else an endpoint.
func serverEndpoint(s string) (path string, e Endpoint, err error) {
	if p, ok := strings.CutPrefix(s, "unix:"); ok && p != "" {
		return p, Endpoint{}, nil
	}
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n == 0 || !validHost(host) {
		return "", Endpoint{}, fmt.Errorf("tollgate's gRPC address %q: write it as host:port or unix:PATH", s)
	}
	return "", Endpoint{Host: host, Port: uint16(n)}, nil
}
