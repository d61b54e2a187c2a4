package events

import (
	"testing"
	"time"

	"tollgate/events/natstest"
)

// Who starts while a cluster has no leader waits for one: it is what a replica does
// that is started again after a fault.
func TestConnectWaitsForALeader(t *testing.T) {
	c := natstest.StartCluster(t, natstest.Options{})
	for i := 1; i < c.Len(); i++ {
		c.Kill9(i)
	}
	connected := make(chan error, 1)
	go func() {
		nc, err := Connect(t.Context(), ConnectConfig{URL: "nats://" + c.Addr(0), Name: "test"})
		if err == nil {
			nc.Close()
		}
		connected <- err
	}()
	time.Sleep(3 * time.Second) // the fault's length
	for i := 1; i < c.Len(); i++ {
		c.Restart(i)
	}
	begin := time.Now()
	if err := <-connected; err != nil {
		t.Errorf("%v after the others were back: %v", time.Since(begin), err)
	}
}
