package events

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// pulse is a heartbeat: what a replica writes under its name every second, JSON, version 1.
type pulse struct {
	Version int `json:"v"`
	// Nonce is new in each. The replica knows by it what it wrote itself.
	Nonce string `json:"nonce"`
	// Incarnation is the process; a restart has another.
	Incarnation string `json:"incarnation"`
	// Epoch is the process's reading of one store; another one begins where the
	// store turned out not to be the one it was. Revisions of different epochs
	// can't be compared.
	Epoch string `json:"epoch"`
	// Applied is the revision up to which everything was applied.
	Applied uint64 `json:"applied"`
	// BoundMs is how long the lease lasts that this heartbeat may grant, in ms.
	BoundMs int64 `json:"boundMs"`
	// Program is the version of Tollgate, for people.
	Program string `json:"version"`
	// Deployment is the name of the one that the replica is of. Empty: it was not told.
	Deployment string `json:"deployment,omitempty"`
	// AfterMs is for how long, from the sending on, the process that had the name
	// before may still have a lease, in ms.
	AfterMs int64 `json:"afterMs,omitempty"`
	// Left: the lease was given up before this was sent, and nothing more follows.
	Left bool `json:"left,omitempty"`
}

const heartbeatVersion = 1

// heartbeatPrefix begins the names of heartbeats in the bucket.
const heartbeatPrefix = "h."

// longestBound is the longest lease that is believed in: nobody waits for longer
// because of a heartbeat that says so.
const longestBound = 24 * time.Hour

func (h *pulse) bound() time.Duration { return time.Duration(h.BoundMs) * time.Millisecond }

func (h *pulse) after() time.Duration { return time.Duration(h.AfterMs) * time.Millisecond }

// leased is for how long, from the time on at which a heartbeat was found, a process
// that wrote it or had its name before may have a lease, where nothing more comes.
func (h *pulse) leased() time.Duration {
	if h.Left {
		return h.after()
	}
	return max(h.bound(), h.after())
}

// decodeHeartbeat reads the stored form. The error says why nothing is believed.
func decodeHeartbeat(value []byte) (pulse, error) {
	var h pulse
	if err := json.Unmarshal(value, &h); err != nil {
		return pulse{}, fmt.Errorf("a heartbeat: %w", err)
	}
	switch {
	case h.Version != heartbeatVersion: // the first has none before it
		return pulse{}, fmt.Errorf("a heartbeat of version %d; this Tollgate reads %d", h.Version, heartbeatVersion)
	case h.Nonce == "" || h.Incarnation == "" || h.Epoch == "":
		return pulse{}, fmt.Errorf("a heartbeat lacks its nonce %q, incarnation %q or epoch %q", h.Nonce, h.Incarnation, h.Epoch)
	case h.BoundMs <= 0 || h.BoundMs > longestBound.Milliseconds():
		return pulse{}, fmt.Errorf("a heartbeat for a lease of %d ms", h.BoundMs)
	case h.AfterMs < 0 || h.AfterMs > longestBound.Milliseconds():
		return pulse{}, fmt.Errorf("a heartbeat after one with a lease for another %d ms", h.AfterMs)
	}
	return h, nil
}

// claim is what a replica tells all others when it has applied something, without
// storing it: JSON, version 1, on the subject appliedSubject + its name.
type claim struct {
	Version     int    `json:"v"`
	Incarnation string `json:"incarnation"`
	Epoch       string `json:"epoch"`
	Applied     uint64 `json:"applied"`
	Replica     string `json:"replica"`
}

const (
	claimVersion   = 1
	appliedSubject = "tollgate.replica.applied."
)

func decodeClaim(message []byte) (claim, error) {
	var c claim
	if err := json.Unmarshal(message, &c); err != nil {
		return claim{}, fmt.Errorf("what a replica says of itself: %w", err)
	}
	if c.Version != claimVersion {
		return claim{}, fmt.Errorf("what a replica says of itself has version %d; this Tollgate reads %d", c.Version, claimVersion)
	}
	return c, nil
}

// replicaOf is the replica whose heartbeat stands under a name of the bucket; ok is
// false for any other name.
func replicaOf(name string) (replica string, ok bool) {
	replica, ok = strings.CutPrefix(name, heartbeatPrefix)
	return replica, ok && keyIDForm.MatchString(replica)
}
