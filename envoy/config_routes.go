package envoy

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tollgate/authz/dialect"
)

// routesName is what the gateway's routes are called.
const routesName = "gateway"

// Headers that are a matter between Envoy and Tollgate.
const (
	clusterHeader         = ownHeaders + "cluster"
	userHeader            = ownHeaders + "user"
	requestIDHeader       = "x-request-id"
	clientRequestIDHeader = "x-client-request-id"
)

// checkedRoutes makes four routes of a Route, by what is known of a request before
// its body: see variant.
func checkedRoutes(o Options, s Route) []*routev3.Route {
	ways := variants(o, s)
	routes := make([]*routev3.Route, 0, len(ways))
	for _, v := range ways {
		filters := maps.Clone(v.filters)
		s.CORS.allow(filters)
		note(s.Dialect, filters)
		headers := v.headers
		if s.Header != "" {
			headers = append(slices.Clip(headers), &routev3.HeaderMatcher{Name: s.Header, HeaderMatchSpecifier: present(true)})
		}
		routes = append(routes, &routev3.Route{
			Name:                 v.name + " " + s.Prefix,
			Match:                match(s.Prefix, headers...),
			Action:               &routev3.Route_Route{Route: action(s)},
			TypedPerFilterConfig: filters,
			// Read when the route is chosen, and not for the upstream's eyes.
			RequestHeadersToRemove: []string{clusterHeader},
		})
	}
	return routes
}

func buildRoutes(o Options, spec Spec) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name: routesName,
		// Nobody downstream of the answer can read the usage of a compressed one,
		// and nobody is internal because it connects over loopback.
		RequestHeadersToRemove: []string{"accept-encoding", "x-envoy-internal"},
		// What upstreams tell of their account; what Tollgate tells of the caller's
		// comes after it.
		ResponseHeadersToRemove: dialect.AccountHeaders(),
		// The same reading of a host as the Check's: see catalog.HostName.
		IgnorePortInHostMatching: true,
		VirtualHosts:             buildHosts(o, spec),
	}
}

// A variant is one of the ways in which a request is checked.
type variant struct {
	name    string
	headers []*routev3.HeaderMatcher
	filters map[string]*anypb.Any
}

// variants are tried in order:
//
//   - a request that says it has at most SmallBody bytes is checked in one go;
//   - one of a method without a body, and without a length, is checked by its
//     headers alone. A body that comes all the same isn't held, and not read by
//     the Check either;
//   - any other has its headers looked at first, and then a Check that may take
//     longer. What multipart requests carry is larger than what JSON does.
//
// A body above the route's bound that Envoy holds all the same is refused by the
// Check.
//
// On a WebSocket's path every request is checked by its headers alone. What is
// no handshake is refused by the Check.
func variants(o Options, s Route) []variant {
	body, multipart := s.MaxBody, s.MaxMultipart
	def(&body, DefaultMaxBody)
	def(&multipart, DefaultMaxMultipart)
	off := pack(&extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_Disabled{Disabled: true}})
	bodiless := map[string]*anypb.Any{
		precheckFilter: off,
		checkFilter:    perRoute(&extauthzv3.CheckSettings{DisableRequestBodyBuffering: true}),
	}
	if s.WebSocket {
		return []variant{{name: "websocket", filters: bodiless}}
	}
	return []variant{
		{
			name: "small",
			headers: []*routev3.HeaderMatcher{{
				Name:                 "content-length",
				HeaderMatchSpecifier: &routev3.HeaderMatcher_RangeMatch{RangeMatch: &typev3.Int64Range{Start: 0, End: SmallBody + 1}},
			}},
			filters: map[string]*anypb.Any{
				precheckFilter: off,
				checkFilter:    perRoute(&extauthzv3.CheckSettings{WithRequestBody: whole(SmallBody)}),
			},
		},
		{
			name:    "bodiless",
			headers: []*routev3.HeaderMatcher{{Name: "content-length", HeaderMatchSpecifier: present(false)}, matches(":method", "GET|HEAD|DELETE|OPTIONS")},
			filters: bodiless,
		},
		{
			name:    "multipart",
			headers: []*routev3.HeaderMatcher{matches("content-type", `\s*(?i)multipart/.*`)},
			filters: map[string]*anypb.Any{checkFilter: perRoute(large(o.LargeCheckTimeout, multipart))},
		},
		{
			name:    "large",
			filters: map[string]*anypb.Any{checkFilter: perRoute(large(o.LargeCheckTimeout, body))},
		},
	}
}

// leastBound is the lowest bound that Envoy may have for a body which it began to
// read while the headers were looked at. By then it may hold connectionBuffer
// bytes and one read more, and have stopped reading; it goes on only if that is
// less than half of the bound. (Seen with 2 KiB and 128 KiB: the request stood
// still until its maxDuration.)
const leastBound = 8 * connectionBuffer

func large(timeout time.Duration, bytes uint32) *extauthzv3.CheckSettings {
	return &extauthzv3.CheckSettings{
		WithRequestBody: whole(max(bytes, leastBound)),
		ServiceOverride: &extauthzv3.CheckSettings_GrpcService{GrpcService: checkService(timeout)},
	}
}

// whole asks for the whole body in the Check, or a 413. Less would let the model
// that was read differ from the one that is named: some SDKs send it last.
func whole(bytes uint32) *extauthzv3.BufferSettings {
	return &extauthzv3.BufferSettings{MaxRequestBytes: bytes, PackAsBytes: true}
}

func perRoute(s *extauthzv3.CheckSettings) *anypb.Any {
	return pack(&extauthzv3.ExtAuthzPerRoute{Override: &extauthzv3.ExtAuthzPerRoute_CheckSettings{CheckSettings: s}})
}

func match(prefix string, headers ...*routev3.HeaderMatcher) *routev3.RouteMatch {
	m := &routev3.RouteMatch{Headers: headers, PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: prefix}}
	if prefix == "/" {
		m.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: prefix}
	}
	return m
}

func action(s Route) *routev3.RouteAction {
	duration := s.MaxDuration
	def(&duration, DefaultMaxDuration)
	a := &routev3.RouteAction{
		ClusterSpecifier:     &routev3.RouteAction_ClusterHeader{ClusterHeader: clusterHeader},
		HostRewriteSpecifier: &routev3.RouteAction_AutoHostRewrite{AutoHostRewrite: wrapperspb.Bool(true)},
		AppendXForwardedHost: true,
		Timeout:              durationpb.New(0), // the first byte of an answer may take as long as the whole
		MaxStreamDuration:    &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(duration)},
		RetryPolicy:          retries(),
	}
	if s.WebSocket {
		// No other route has it: elsewhere Envoy refuses an upgrade.
		a.UpgradeConfigs = []*routev3.RouteAction_UpgradeConfig{{UpgradeType: "websocket"}}
	}
	if s.Rewrite != "" {
		if a.PrefixRewrite = strings.TrimSuffix(s.Rewrite, "/"); a.GetPrefixRewrite() == "" {
			// An empty prefix_rewrite is none: /prefix/x becomes /x by a pattern.
			a.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
				Pattern: &matcherv3.RegexMatcher{Regex: `^` + regexp.QuoteMeta(s.Prefix) + `/?`}, Substitution: "/",
			}
		}
	}
	return a
}

// retries sends again, to another endpoint if there is one, only what certainly
// didn't reach the one before: at most one upstream may compute.
func retries() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn: "connect-failure,refused-stream", NumRetries: wrapperspb.UInt32(2),
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       previousHosts,
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&previoushostsv3.PreviousHostsPredicate{})},
		}},
		// An endpoint with a hundred times another's weight comes up that often.
		HostSelectionRetryMaxAttempts: 300,
	}
}

func matches(header, regex string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: regex}},
	}}}
}

func present(want bool) *routev3.HeaderMatcher_PresentMatch {
	return &routev3.HeaderMatcher_PresentMatch{PresentMatch: want}
}
