package main

import (
	"strings"
	"testing"
	"time"

	"tollgate/envoy"
)

// What Envoy starts with names each replica, in each of the three clusters that lead
// to Tollgate: decisions, configuration and managed paths.
func TestBootstrapNamesReplicas(t *testing.T) {
	s := &settings{
		data: t.TempDir(), gateway: address{value: "127.0.0.1:1", given: true}, grpc: address{given: true},
		replicas: "10.0.0.1:8082, tollgate-1.tollgate:8083", bound: defaultBound,
	}
	text, err := s.printBootstrap(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for want, times := range map[string]int{
		"port_value: 8082": 3, "port_value: 8083": 3, "address: 10.0.0.1": 3, "address: tollgate-1.tollgate": 3,
		"grpc_health_check": 2, // what is managed is plain HTTP, whose connections say who is there
	} {
		if n := strings.Count(string(text), want); n != times {
			t.Errorf("%q is there %d times", want, n)
		}
	}
	s.replicas = ""
	if _, err := s.printBootstrap(t.Context(), false); err == nil || !strings.Contains(err.Error(), "TOLLGATE_REPLICA_ADDRS") {
		t.Errorf("no address at all: %v", err)
	}
	s.grpc.value = "127.0.0.1:8082"
	if text, err = s.printBootstrap(t.Context(), false); err != nil || strings.Contains(string(text), "grpc_health_check") {
		t.Errorf("one replica: %v\n%s", err, text)
	}
	s.replicas = "10.0.0.1"
	if _, err := s.printBootstrap(t.Context(), false); err == nil || !strings.Contains(err.Error(), `"10.0.0.1": write it as host:port`) {
		t.Errorf("without a port: %v", err)
	}
}

// Whatever bound may be set, a check's timeout is below it.
func TestChecksAreShorterThanTheBound(t *testing.T) {
	for _, bound := range []time.Duration{2 * time.Second, 5 * time.Second, defaultBound, 24 * time.Hour} {
		s := &settings{gateway: address{value: "127.0.0.1:1"}, grpc: address{value: "127.0.0.1:2"}, bound: bound}
		o := s.envoyOptions("token")
		if _, err := envoy.Bootstrap(o); err != nil {
			t.Errorf("%v: %v", bound, err)
		}
		if o.LargeCheckTimeout > lastChecks {
			t.Errorf("%v: a check may take %v, and what it needs goes after %v", bound, o.LargeCheckTimeout, lastChecks)
		}
	}
}
