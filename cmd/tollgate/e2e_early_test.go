//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"tollgate/events/natstest"
)

// testEarly starts a replica before its NATS: it waits, tells so by its probes and its
// log, and serves once NATS is there. What NATS refuses ends it at once.
func testEarly(t *testing.T, b *bench) {
	c := natstest.StartCluster(t, natstest.Options{Servers: 1, Config: "authorization {user: a, password: geheim}\n"})
	c.Stop(0)
	start := func(password string) *gate {
		g := newGate(t, b)
		g.env = append(g.env, "TOLLGATE_NATS_LISTEN=", "TOLLGATE_NATS_URL=nats://a:"+password+"@"+c.Addr(0))
		g.start("serve")
		return g
	}
	waits := func(g *gate) {
		within(t, 10*time.Second, "waiting", func() error {
			if exited(g.cmd.Process.Pid) {
				t.Fatal("it ended")
			}
			if res := g.try(http.MethodGet, "http://"+g.api+"/livez", "", ""); res.status != http.StatusOK {
				return fmt.Errorf("livez: %v", res)
			}
			res := g.try(http.MethodGet, "http://"+g.api+"/readyz", "", "")
			if res.status != http.StatusServiceUnavailable || !strings.Contains(res.body, "waits for NATS") {
				return fmt.Errorf("readyz: %v", res)
			}
			return nil
		})
	}
	g, ends, wrong := start("geheim"), start("geheim"), start("falsch")
	for _, one := range []*gate{g, ends, wrong} {
		waits(one)
	}
	if said := g.out.String(); !strings.Contains(said, c.Addr(0)+": nobody answers there") || strings.Contains(said, "geheim") {
		t.Errorf("it said %s", said)
	}
	if code := ends.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("told to end while it waited: exit code %d", code)
	}
	c.Restart(0)
	(&replica{gate: g}).waitServing()
	if code := wrong.wait(20 * time.Second); code != 1 || !strings.Contains(wrong.out.String(), "does not let us in") || strings.Contains(wrong.out.String(), "falsch") {
		t.Errorf("with a wrong password: exit code %d\n%s", code, wrong.out.String())
	}
	if code := g.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
