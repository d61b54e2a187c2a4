package events

import (
	"fmt"

	"github.com/nats-io/nats.go"
)

// lostSubject is where replicas tell each other of requests that went nowhere: an
// Envoy says so to whichever replica it is connected to. The message is the
// proxy's id of the request. One that gets lost is found by its owner's sweep.
const lostSubject = "tollgate.replica.lost"

// maxRequestID is far above what a proxy makes.
const maxRequestID = 256

// TellLost tells all replicas, this one too, of a request that went nowhere. It
// does not wait for any.
func TellLost(nc *nats.Conn, requestID string) error {
	if err := nc.Publish(lostSubject, []byte(requestID)); err != nil {
		return fmt.Errorf("telling the other replicas of a lost request: %w", err)
	}
	return nil
}

// HearLost calls lost with what replicas tell of, one at a time, until stop.
func HearLost(nc *nats.Conn, lost func(requestID string)) (stop func(), err error) {
	sub, err := nc.Subscribe(lostSubject, func(m *nats.Msg) {
		if len(m.Data) > 0 && len(m.Data) <= maxRequestID {
			lost(string(m.Data))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("hearing of lost requests: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // the connection may be gone already
}
