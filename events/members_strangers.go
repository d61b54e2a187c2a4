package events

import (
	"context"
	"fmt"
	"time"
)

// Two deployments can't share the streams of one NATS account: each would go by the
// other's keys and catalog, and what one admits and the other settles would be two
// events, of two sources. Heartbeats tell of which deployment a replica is.

// stranger is a replica that lives and is of a deployment of another name. certain:
// it was heard twice, so what was found is not what one left that is gone for long.
func (r *roll) stranger(name string, listened time.Duration) (replica, deployment string, certain bool) {
	for id, m := range r.members {
		if m.beat.Deployment == "" || m.beat.Deployment == name || r.gone(id, listened) > 0 || certain {
			continue // those of versions before it don't say
		}
		replica, deployment, certain = id, m.beat.Deployment, m.again
	}
	return replica, deployment, certain
}

// Strangers returns an error that says what to do where a replica of another
// deployment lives in this store. One whose heartbeat was found is waited for, for as
// long as three take.
func (m *Members) Strangers(ctx context.Context) error {
	over := time.NewTimer(silences * m.cfg.Every)
	defer over.Stop()
	for {
		m.mu.Lock()
		replica, deployment, certain := m.roll.stranger(m.cfg.Deployment, m.ear.heard(time.Now()))
		changed := m.changed
		m.mu.Unlock()
		switch {
		case replica == "":
			return nil
		case certain:
			return fmt.Errorf("the streams of this NATS account are those of the deployment %q, of which replica %s runs, and this one is named %q: "+
				"give each deployment an account of its own, or all replicas of one the same name (TOLLGATE_NAME)", deployment, replica, m.cfg.Deployment)
		}
		select {
		case <-changed:
		case <-over.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tellStranger says so where a replica of another deployment was heard for the second
// time. m.mu is held.
func (m *Members) tellStranger(replica string) {
	other := m.roll.members[replica]
	if other == nil || !other.again || other.told || other.beat.Deployment == "" || other.beat.Deployment == m.cfg.Deployment {
		return
	}
	other.told = true
	m.log.Error("a replica of another deployment uses the streams of this one: stop it, and give it a NATS account of its own",
		"other", replica, "deployment", other.beat.Deployment)
}
