package envoy

import (
	_ "embed"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ratelimitconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	headermetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tollgate/authz/dialect"
)

// The two instances of ext_authz. What the second one's server says in dynamic
// metadata stands under its name.
const (
	precheckFilter = "tollgate.precheck"
	checkFilter    = "envoy.filters.http.ext_authz"
)

// The two Lua filters: the first reads usage in answers, the second changes bodies.
const (
	tapFilter  = "tollgate.tap"
	editFilter = "tollgate.edit"
)

// phaseHeader in a Check's gRPC metadata tells the look at the headers
// (phaseHeaders) from the Check proper.
const (
	phaseHeader  = "x-tollgate-phase"
	phaseHeaders = "headers"
)

// Window sizes of HTTP/2: what a client may send before anybody has looked at
// it, per stream and per connection.
const (
	streamWindow     = 256 << 10
	connectionWindow = 1 << 20
	// maxStreams is how many streams a connection may have at a time, each with up to
	// SmallBody that nobody has checked. Clients go by 100 until they have read our
	// settings (RFC 9113, 6.5.2, recommends no less), and Go's may send what it began
	// with that behind its acknowledgement of less: Envoy closes the connection then,
	// with all of its streams.
	maxStreams = 100
)

// connectionBuffer is what Envoy reads ahead on a connection while nothing wants
// it. It bounds what a client without a key makes Envoy hold; a body that is
// held for a Check has its route's bound instead.
const connectionBuffer = 64 << 10

//go:embed lua/tap.lua
var tapLua string

//go:embed lua/edit.lua
var editLua string

// buildListener makes the gateway with its routes inside, or, where routes is nil,
// with the name under which Tollgate's configuration stream has them. Of other
// dialects than OpenAI's, routes have those that are named.
func buildListener(o Options, routes *routev3.RouteConfiguration, dialects []*dialect.Dialect) *listenerv3.Listener {
	addr, _ := listenAddr(o.Listen) // checked by Options.check
	return &listenerv3.Listener{
		Name:    "gateway",
		Address: address("", Endpoint{Host: addr.Addr().String(), Port: addr.Port()}),
		// With it, a second Envoy on this address would silently take a share of
		// the connections.
		EnableReusePort:               wrapperspb.Bool(false),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBuffer),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(connectionManager(o, routes, dialects))},
		}}}},
	}
}

func connectionManager(o Options, routes *routev3.RouteConfiguration, dialects []*dialect.Dialect) *hcmv3.HttpConnectionManager {
	m := &hcmv3.HttpConnectionManager{
		StatPrefix: "gateway",

		// What is checked must be what is routed: one spelling of a path.
		NormalizePath:                wrapperspb.Bool(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT,

		// Hosts too have one spelling; see Route.Hosts.
		StripTrailingHostDot: true,

		// The client is who connected; nobody's x-forwarded-for makes a request
		// internal.
		UseRemoteAddress:      wrapperspb.Bool(true),
		InternalAddressConfig: &hcmv3.HttpConnectionManager_InternalAddressConfig{},

		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{{
			Name:        "envoy.http.early_header_mutation.header_mutation",
			TypedConfig: pack(&earlyv3.HeaderMutation{Mutations: earlyMutations()}),
		}},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout: durationpb.New(5 * time.Minute),
			// Servers that make environment variables of headers read
			// x_tollgate_user as x-tollgate-user.
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_DROP_HEADER,
		},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			MaxConcurrentStreams:        wrapperspb.UInt32(maxStreams),
			InitialStreamWindowSize:     wrapperspb.UInt32(streamWindow),
			InitialConnectionWindowSize: wrapperspb.UInt32(connectionWindow),
		},
		RequestHeadersTimeout: durationpb.New(10 * time.Second),
		RequestTimeout:        durationpb.New(o.RequestTimeout),
		StreamIdleTimeout:     durationpb.New(o.IdleTimeout),
		LocalReplyConfig:      localReplies(dialects),
		AccessLog:             []*accesslogv3.AccessLog{lostRequests(o)},

		HttpFilters: []*hcmv3.HttpFilter{
			httpFilter(dialectFilterName, &headermetadatav3.Config{}),
			httpFilter(corsFilter, &corsv3.Cors{}),
			luaFilter(tapFilter, tapLua),
			httpFilter(precheckFilter, precheck(o)),
			httpFilter(checkFilter, check(o)),
			luaFilter(editFilter, editLua),
			httpFilter("envoy.filters.http.header_mutation", noTrailers()),
			httpFilter("envoy.filters.http.ratelimit", settlement(o)),
			httpFilter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true}),
		},
	}
	if routes != nil {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes}
	} else {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: routesName, ConfigSource: fromStream()}}
	}
	return m
}

// earlyMutations act before anything reads the request. Every header by which
// Envoy takes orders goes, for a client on a private network would count as a
// friend; and every one that only Tollgate may set.
func earlyMutations() []*mutationv3.HeaderMutation {
	mutations := make([]*mutationv3.HeaderMutation, 0, 4+len(overrides))
	mutations = append(mutations,
		removePrefix(ownHeaders),
		removePrefix("x-envoy-"),
		// Envoy then makes an id of its own, by which requests are told apart. Of a
		// client with a private address it would keep the client's.
		setHeader(clientRequestIDHeader, "%REQ(X-REQUEST-ID)%", corev3.HeaderValueOption_ADD_IF_ABSENT),
		removeHeader(requestIDHeader),
	)
	for _, name := range overrides {
		mutations = append(mutations, removeHeader(name))
	}
	return mutations
}

// precheck looks at the headers of a request whose body is long or of unknown
// length, before Envoy holds that body in memory. Nothing is reserved by it.
func precheck(o Options) *extauthzv3.ExtAuthz {
	e := extAuthz(o, checkService(o.CheckTimeout, &corev3.HeaderValue{Key: phaseHeader, Value: phaseHeaders}))
	e.StatPrefix = "precheck"
	return e
}

// check is the one that decides and reserves.
func check(o Options) *extauthzv3.ExtAuthz {
	e := extAuthz(o, checkService(o.CheckTimeout))
	e.WithRequestBody = whole(SmallBody) // routes say more
	e.ClearRouteCache = true             // so that the route takes up the cluster that was decided
	e.ClearRouteCacheHeaders = []string{clusterHeader}
	return e
}

func extAuthz(o Options, service *corev3.GrpcService) *extauthzv3.ExtAuthz {
	e := &extauthzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		Services:            &extauthzv3.ExtAuthz_GrpcService{GrpcService: service},
		StatusOnError:       &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		ValidateMutations:   true,
		EncodeRawHeaders:    true, // or two authorization headers would be joined to one
	}
	if o.Headers == nil {
		e.DisallowedHeaders = exactly("cookie")
	} else {
		e.AllowedHeaders = exactly(o.Headers...)
	}
	return e
}

// settlement tells Tollgate what became of a request once its stream is done,
// however it ended, and goes on telling until it is taken or SettleTimeout is
// over. It never holds a request up. A request without an admission has no
// token, and then nothing is sent.
func settlement(o Options) *ratelimitv3.RateLimit {
	actions := append(make([]*routev3.RateLimit_Action, 0, 2+len(tapKeys)),
		&routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_GenericKey_{GenericKey: &routev3.RateLimit_Action_GenericKey{
			DescriptorKey: descSeen, DescriptorValue: seenFormat,
		}}},
		metadataAction(descToken, checkFilter, metaToken, ""),
	)
	for _, k := range tapKeys {
		actions = append(actions, metadataAction(k, tapNamespace, k, "-"))
	}
	return &ratelimitv3.RateLimit{
		Domain:                         settleDomain,
		Timeout:                        durationpb.New(o.SettleTimeout),
		DisableXEnvoyRatelimitedHeader: true,
		RateLimits:                     []*routev3.RateLimit{{Actions: actions, ApplyOnStreamDone: true}},
		RateLimitService: &ratelimitconfigv3.RateLimitServiceConfig{
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcService:         settleService(o.SettleTimeout),
		},
	}
}

// metadataAction adds a string of dynamic metadata to the settlement. A missing
// one is standIn, or, where that is "", drops the settlement.
func metadataAction(key, namespace, path, standIn string) *routev3.RateLimit_Action {
	return &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_Metadata{Metadata: &routev3.RateLimit_Action_MetaData{
		DescriptorKey: key,
		MetadataKey:   &metadatav3.MetadataKey{Key: namespace, Path: []*metadatav3.MetadataKey_PathSegment{{Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: path}}}},
		DefaultValue:  standIn,
		Source:        routev3.RateLimit_Action_MetaData_DYNAMIC,
	}}}
}

// lostRequests tells of requests for which Envoy did not have the Check's answer:
// the client hung up before it (DC), or it came too late (UAEX). There is no
// admission token then, and Tollgate has not answered either. See lostServer.
func lostRequests(o Options) *accesslogv3.AccessLog {
	// What is there is not null. Envoy's filter looks at this value alone: it takes no
	// notice of a matcher's invert.
	null := &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_NullMatch_{NullMatch: &matcherv3.ValueMatcher_NullMatch{}}}
	without := func(key string) *accesslogv3.AccessLogFilter { return metadataFilter(checkFilter, key, null, true) }
	return &accesslogv3.AccessLog{
		Name:   "envoy.access_loggers.http_grpc",
		Filter: allOf(flagFilter("DC", "UAEX"), without(metaToken), without(metaAnswered)),
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(&grpclogv3.HttpGrpcAccessLogConfig{CommonConfig: &grpclogv3.CommonGrpcAccessLogConfig{
			LogName:             "lost",
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcService: &corev3.GrpcService{
				TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: configCluster}},
				InitialMetadata: o.show(),
			},
		}})},
	}
}

func luaFilter(name, code string) *hcmv3.HttpFilter {
	return httpFilter(name, &luav3.Lua{DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: code}}})
}

func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)}}
}

func removePrefix(prefix string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
		KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}},
	}}}
}

func removeHeader(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

func setHeader(name, value string, how corev3.HeaderValueOption_HeaderAppendAction) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: how,
	}}}
}

func exactly(names ...string) *matcherv3.ListStringMatcher {
	list := &matcherv3.ListStringMatcher{}
	for _, n := range names {
		list.Patterns = append(list.Patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: n}})
	}
	return list
}

// pack marshals one of our own messages, which can't fail. The same message always
// gives the same bytes, because they are what a version is a hash of.
func pack(m proto.Message) *anypb.Any {
	a := new(anypb.Any)
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic("envoy: a configuration message of our own doesn't marshal: " + err.Error())
	}
	return a
}
