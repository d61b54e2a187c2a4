package envoy

import (
	"errors"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// HealthCheck asks each endpoint of a cluster for its health: a GET that anything
// but 200 in time fails. An endpoint takes part from its first success, is left
// out after two failures in a row, and comes back with a success. Where none is
// healthy, requests are answered 503.
type HealthCheck struct {
	// Path of the GET, as the endpoint knows it: a cluster's Path is not put
	// before it. The request carries no credential.
	Path string
	// Interval is the time between two checks of an endpoint. 0: 5 s.
	Interval time.Duration
	// Timeout is how long an answer may take. A cluster can be used, at the
	// earliest, when all its endpoints have answered or taken this long. 0: 2 s.
	Timeout time.Duration
}

// Defaults of HealthCheck.
const (
	DefaultHealthInterval = 5 * time.Second
	DefaultHealthTimeout  = 2 * time.Second
)

// MaxHealthTimeout is the most that HealthCheck.Timeout may be: a new cluster has
// to come into force before whoever waits for it gives up.
const MaxHealthTimeout = 5 * time.Second

func (h HealthCheck) check() error {
	switch {
	case h.Path != "/" && !cleanPath(h.Path):
		return fmt.Errorf("health check's path %q: write it as /a/b", h.Path)
	case h.Interval < 0 || h.Timeout < 0 || h.Timeout > MaxHealthTimeout:
		return errors.New("health check: negative, or a timeout of more than " + MaxHealthTimeout.String())
	}
	return nil
}

// watchHealth sets how endpoints that can't serve are found out.
func watchHealth(c *clusterv3.Cluster, s Cluster) {
	if s.HealthCheck != nil {
		c.HealthChecks = []*corev3.HealthCheck{activeCheck(*s.HealthCheck, s.TLS)}
		c.IgnoreHealthOnHostRemoval = true // what is taken out of the configuration is out
		c.CommonLbConfig = panicBelow(0)   // an unhealthy one is not used even where there is no other
		return
	}
	if len(s.Endpoints) > 1 || c.GetType() == clusterv3.Cluster_STRICT_DNS { // a name may have several addresses
		c.OutlierDetection = outliers()
		// What failed a moment ago is only a guess. Where it is true of all, all are
		// tried: 1 % is less than one of the most endpoints that there may be.
		c.CommonLbConfig = panicBelow(1)
	}
}

// panicBelow sets from which share of healthy endpoints down all are used. Changes
// of health act at once, where Envoy would gather those of a second.
func panicBelow(percent float64) *clusterv3.Cluster_CommonLbConfig {
	return &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: percent}, UpdateMergeWindow: durationpb.New(0)}
}

func activeCheck(h HealthCheck, https bool) *corev3.HealthCheck {
	def(&h.Interval, DefaultHealthInterval)
	def(&h.Timeout, DefaultHealthTimeout)
	check := &corev3.HealthCheck{
		Interval:           durationpb.New(h.Interval),
		NoTrafficInterval:  durationpb.New(h.Interval), // a model that nobody uses is checked like any other
		Timeout:            durationpb.New(h.Timeout),
		UnhealthyThreshold: wrapperspb.UInt32(2),
		HealthyThreshold:   wrapperspb.UInt32(1),
		HealthChecker:      &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{Path: h.Path}},
	}
	if https {
		// Checks speak HTTP/1.1, whatever requests do.
		check.TlsOptions = &corev3.HealthCheck_TlsOptions{AlpnProtocols: []string{"http/1.1"}}
	}
	return check
}

// outliers leaves out, for a while, an endpoint that can't be connected to or
// that answers as a gateway without a backend does. A model's own 500 says
// nothing of its host.
func outliers() *clusterv3.OutlierDetection {
	return &clusterv3.OutlierDetection{
		Interval: durationpb.New(time.Second), BaseEjectionTime: durationpb.New(5 * time.Second), MaxEjectionPercent: wrapperspb.UInt32(100),
		SplitExternalLocalOriginErrors: true,
		ConsecutiveLocalOriginFailure:  wrapperspb.UInt32(3),
		ConsecutiveGatewayFailure:      wrapperspb.UInt32(5), EnforcingConsecutiveGatewayFailure: wrapperspb.UInt32(100),
		EnforcingConsecutive_5Xx: wrapperspb.UInt32(0), EnforcingSuccessRate: wrapperspb.UInt32(0),
	}
}
