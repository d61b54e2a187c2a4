package envoy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// managementCluster is Tollgate's replicas for what isn't gRPC, on the same
// addresses as serverCluster: see split.
const managementCluster = serverCluster + "_management"

// remoteHeader tells ServerOptions.Managed who the client is. It begins as those
// that no client can bring.
const remoteHeader = ownHeaders + "remote"

// managedID, as the last segment of a managed path, stands for any one.
const managedID = "/{id}"

const (
	// managedTime bounds a managed request, whose client may want to wait for all
	// replicas for a minute.
	managedTime = 90 * time.Second
	// managedConnections bound what strangers may ask of a replica's handler at the
	// same time, from one Envoy. More of them wait; more than managedWaiting are
	// answered 503.
	managedConnections = 128
	managedWaiting     = 1024
	// managedIdle is how long Envoy keeps an unused connection, which is less than
	// the server does.
	managedIdle = 30 * time.Second
)

func (m Managed) check() error {
	if p := strings.TrimSuffix(m.Path, managedID); !cleanPath(p) || strings.ContainsAny(p, "{}") {
		return fmt.Errorf("managed path %q: write it as /a/b or /a/b%s", m.Path, managedID)
	}
	if err := errors.Join(checkHosts(m.Hosts), m.CORS.check(), checkDialect(m.Dialect)); err != nil {
		return fmt.Errorf("managed path %q: %w", m.Path, err)
	}
	return nil
}

// managedRoute is the way to Tollgate's own handler. It looks at keys by itself, so
// nothing is checked, nothing is accounted, and no body is held.
func managedRoute(managed Managed) *routev3.Route {
	m := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: managed.Path}}
	if before, ok := strings.CutSuffix(managed.Path, managedID); ok {
		m.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: regexp.QuoteMeta(before) + "/[^/]+"}}
	}
	off := pack(&extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_Disabled{Disabled: true}})
	noLua := pack(&luav3.LuaPerRoute{Override: &luav3.LuaPerRoute_Disabled{Disabled: true}})
	filters := map[string]*anypb.Any{precheckFilter: off, checkFilter: off, tapFilter: noLua, editFilter: noLua}
	managed.CORS.allow(filters)
	note(managed.Dialect, filters)
	return &routev3.Route{
		Name:  "managed " + managed.Path,
		Match: m,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier:  &routev3.RouteAction_Cluster{Cluster: managementCluster},
			Timeout:           durationpb.New(0), // it would begin only after the body
			MaxStreamDuration: &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(managedTime)},
			RetryPolicy:       retries(),
		}},
		TypedPerFilterConfig: filters,
		RequestHeadersToAdd:  []*corev3.HeaderValueOption{replyHeader(remoteHeader, "%DOWNSTREAM_REMOTE_ADDRESS%")},
	}
}

// buildManagementCluster is buildServerCluster for HTTP/1.1.
func buildManagementCluster(o Options) *clusterv3.Cluster {
	c := buildServerCluster(o, managementCluster)
	many := wrapperspb.UInt32(manyRequests)
	c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: wrapperspb.UInt32(managedConnections), MaxPendingRequests: wrapperspb.UInt32(managedWaiting), MaxRequests: many, MaxRetries: many,
	}}}
	c.PerConnectionBufferLimitBytes = wrapperspb.UInt32(connectionBuffer)
	for _, h := range c.GetHealthChecks() {
		h.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{Path: managedHealth, Host: managementCluster}}
	}
	c.TypedExtensionProtocolOptions = httpOptions(&httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(managedIdle)},
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
		}},
	})
	return c
}
