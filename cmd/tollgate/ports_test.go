package main

import (
	"net"
	"strconv"
	"strings"
	"testing"
)

// addressesFor are a gateway and an API, given or not, and one that never is.
func addressesFor(gateway, api string) []*address {
	return []*address{
		{name: "gateway", flag: "--gateway-addr", env: "TOLLGATE_GATEWAY_ADDR", value: gateway, given: gateway != ""},
		{name: "api", flag: "--api-addr", env: "TOLLGATE_API_ADDR", value: api, given: api != ""},
		{name: "grpc", flag: "--grpc-addr", env: "TOLLGATE_GRPC_ADDR"},
	}
}

func bound(t *testing.T, all []*address, beside string) {
	t.Helper()
	if err := bind(all, beside); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, a := range all {
			if a.listener != nil {
				a.listener.Close()
			}
		}
	})
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// taken holds a port below the ephemeral ones.
func taken(t *testing.T) (l net.Listener, addr string) {
	t.Helper()
	for port := 20000; port < lastPort; port += 7 {
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err := net.Listen("tcp", addr); err == nil {
			t.Cleanup(func() { l.Close() })
			return l, addr
		}
	}
	t.Fatal("no free port")
	return nil, ""
}

func TestAddressesThatAreNotGivenFollow(t *testing.T) {
	l, gateway := taken(t)
	l.Close()
	all := addressesFor(gateway, "")
	bound(t, all, "")
	p := portOf(t, gateway)
	if a, g := portOf(t, all[1].value), portOf(t, all[2].value); a <= p || g <= a || g > p+200 {
		t.Errorf("beside gateway %d: api %d, grpc %d", p, a, g)
	}
	if all[0].listener != nil {
		t.Error("the gateway's port is held: Envoy could not bind it")
	}

	// A second one that is given the next port finds others for the rest.
	second := addressesFor(net.JoinHostPort("127.0.0.1", strconv.Itoa(portOf(t, all[2].value)+1)), "")
	bound(t, second, "")
	if second[1].value == all[1].value {
		t.Error("two share an API address")
	}
}

func TestAddressesBesideAnEnvoyOfYours(t *testing.T) {
	_, gateway := taken(t) // by that Envoy
	all := addressesFor("", "")[1:]
	bound(t, all, gateway)
	if a := portOf(t, all[0].value); a <= portOf(t, gateway) {
		t.Errorf("beside gateway %s: api %d", gateway, a)
	}
}

func TestGivenAddressInUse(t *testing.T) {
	_, addr := taken(t)
	for i, all := range [][]*address{addressesFor(addr, ""), addressesFor("", addr)} {
		err := bind(all, "")
		if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), all[i].env) {
			t.Errorf("error %v: want the address and what to set", err)
		}
		for _, a := range all {
			if a.listener != nil {
				if l, err := net.Listen("tcp", a.value); err != nil {
					t.Errorf("%s stays bound after the error", a.name)
				} else {
					l.Close()
				}
			}
		}
	}
}
