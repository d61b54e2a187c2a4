package envoy

import (
	"bytes"
	"fmt"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	injectedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/injected_resource/v3"
	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
)

// AdminSocket is Envoy's admin address: a socket in the directory that Envoy
// was started in, so that only who may enter that directory can use it.
const AdminSocket = "admin.sock"

// cutFile, in the directory that Envoy was started in, holds a number. When 1 is
// renamed into its place, all streams on which nothing moves for a millisecond end
// as after IdleTimeout, and Envoy lives on to settle them.
const cutFile = "cut"

// ReconnectTime is the longest that an Envoy waits before it tries to reach its
// Tollgate again, for the configuration stream.
const ReconnectTime = time.Second

// StaticBootstrap is the file that Envoy starts with, as YAML, with the resources
// as they are now: such an Envoy learns of a change by being started again.
func StaticBootstrap(o Options, r *Resources) ([]byte, error) {
	b := bootstrap(o.withDefaults())
	b.StaticResources.Listeners = []*listenerv3.Listener{r.Listener}
	b.StaticResources.Clusters = append(b.StaticResources.Clusters, r.Clusters...)
	b.StaticResources.Secrets = r.Secrets
	return encode(b)
}

// Bootstrap is the file, as YAML, of an Envoy that gets everything else from
// Tollgate while it runs: see Fleet.
func Bootstrap(o Options) ([]byte, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("envoy configuration: %w", err)
	}
	b := bootstrap(o)
	b.DynamicResources = &bootstrapv3.Bootstrap_DynamicResources{
		LdsConfig: fromStream(),
		CdsConfig: fromStream(),
		AdsConfig: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: configCluster, RetryPolicy: &corev3.RetryPolicy{
					RetryBackOff: &corev3.BackoffStrategy{BaseInterval: durationpb.New(100 * time.Millisecond), MaxInterval: durationpb.New(ReconnectTime)},
				}},
			}, InitialMetadata: o.show()}},
			SetNodeOnFirstMessageOnly: true,
		},
	}
	return encode(b)
}

// show is how Envoy shows its token.
func (o Options) show() []*corev3.HeaderValue {
	if o.Token == "" {
		return nil
	}
	return []*corev3.HeaderValue{{Key: tokenHeader, Value: o.Token}}
}

// fromStream says that something comes with the one configuration stream.
func fromStream() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}
}

// bootstrap is what both have.
func bootstrap(o Options) *bootstrapv3.Bootstrap {
	return &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: "tollgate-gateway", Cluster: "tollgate"},
		Admin: &bootstrapv3.Admin{Address: &corev3.Address{Address: &corev3.Address_Pipe{
			Pipe: &corev3.Pipe{Path: AdminSocket, Mode: 0o600},
		}}},
		// All that lead to Tollgate are here, where o names every replica: whichever
		// of them sends the rest may know of itself only.
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{
			buildServerCluster(o, serverCluster), buildServerCluster(o, configCluster), buildManagementCluster(o),
		}},
		LayeredRuntime:  &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{runtimeFlags()}},
		OverloadManager: overload(o),
	}
}

// runtimeFlags switches on what settlement needs: a format string as the value
// of a descriptor.
func runtimeFlags() *bootstrapv3.RuntimeLayer {
	return &bootstrapv3.RuntimeLayer{Name: "static", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{
		Fields: map[string]*structpb.Value{
			"envoy.reloadable_features.enable_formatter_for_ratelimit_action_descriptor_value": structpb.NewBoolValue(true),
		},
	}}}
}

// overload sheds load before memory runs out: connections above the limit are
// closed at once; with the heap filling up, memory is given back to the system,
// then the streams that hold most of it are reset, then new requests get 503. The
// one that isn't of load is cutFile's.
func overload(o Options) *overloadv3.OverloadManager {
	const heap, injected = "envoy.resource_monitors.fixed_heap", "envoy.resource_monitors.injected_resource"
	at := func(value float64) []*overloadv3.Trigger {
		return []*overloadv3.Trigger{{Name: heap, TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: value}}}}
	}
	between := func(name string, from, to float64) []*overloadv3.Trigger {
		return []*overloadv3.Trigger{{Name: name, TriggerOneof: &overloadv3.Trigger_Scaled{Scaled: &overloadv3.ScaledTrigger{ScalingThreshold: from, SaturationThreshold: to}}}}
	}
	return &overloadv3.OverloadManager{
		RefreshInterval: durationpb.New(250 * time.Millisecond),
		ResourceMonitors: []*overloadv3.ResourceMonitor{
			{Name: heap, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: pack(&heapv3.FixedHeapConfig{MaxHeapSizeBytes: o.MaxHeap})}},
			{Name: "envoy.resource_monitors.global_downstream_max_connections", ConfigType: &overloadv3.ResourceMonitor_TypedConfig{
				TypedConfig: pack(&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: o.MaxConnections}),
			}},
			{Name: injected, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: pack(&injectedv3.InjectedResourceConfig{Filename: "./" + cutFile})}},
		},
		Actions: []*overloadv3.OverloadAction{
			{Name: "envoy.overload_actions.shrink_heap", Triggers: at(0.85)},
			{Name: "envoy.overload_actions.reset_high_memory_stream", Triggers: between(heap, 0.90, 0.98)},
			{Name: "envoy.overload_actions.stop_accepting_requests", Triggers: at(0.95)},
			{Name: "envoy.overload_actions.reduce_timeouts", Triggers: between(injected, 0, 1), TypedConfig: pack(&overloadv3.ScaleTimersOverloadActionConfig{
				TimerScaleFactors: []*overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer{{
					Timer:          overloadv3.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_STREAM_IDLE,
					OverloadAdjust: &overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer_MinTimeout{MinTimeout: durationpb.New(time.Millisecond)},
				}},
			})},
		},
		// Streams are told apart by memory from 16 KiB up.
		BufferFactoryConfig: &overloadv3.BufferFactoryConfig{MinimumAccountToTrackPowerOfTwo: 14},
	}
}

// encode writes a message as YAML that people can read: fields in the order of
// the protobuf, Lua in block style.
func encode(m proto.Message) ([]byte, error) {
	asJSON, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("envoy configuration: %w", err)
	}
	var ordered yaml.MapSlice
	if err := yaml.NewDecoder(bytes.NewReader(asJSON), yaml.UseOrderedMap()).Decode(&ordered); err != nil {
		return nil, fmt.Errorf("envoy configuration: %w", err)
	}
	out, err := yaml.MarshalWithOptions(ordered, yaml.UseLiteralStyleIfMultiline(true), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("envoy configuration: %w", err)
	}
	return out, nil
}
