package relay

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
)

// Link is how replicas reach each other.
type Link interface {
	// Ask sends a request and waits for the answer, at most until ctx ends. After
	// an error the request may have been acted upon.
	Ask(ctx context.Context, subject string, request []byte) ([]byte, error)
	// Answer calls f for each request, one at a time, until stop is called, which
	// waits for the call under way.
	Answer(subject string, f func(request []byte) []byte) (stop func(), err error)
}

// NATS is the Link over a NATS connection.
func NATS(nc *nats.Conn) Link { return natsLink{nc} }

type natsLink struct{ *nats.Conn }

func (l natsLink) Ask(ctx context.Context, subject string, request []byte) ([]byte, error) {
	reply, err := l.RequestWithContext(ctx, subject, request)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", subject, err)
	}
	return reply.Data, nil
}

func (l natsLink) Answer(subject string, f func([]byte) []byte) (func(), error) {
	requests := make(chan *nats.Msg, 64) // who finds it full asks again
	sub, err := l.ChanSubscribe(subject, requests)
	if err != nil {
		return nil, fmt.Errorf("answering %s: %w", subject, err)
	}
	stopping, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stopping:
				return
			case m := <-requests:
				_ = m.Respond(f(m.Data)) // whoever asked asks again
			}
		}
	}()
	return func() {
		_ = sub.Unsubscribe() // the connection may be gone already
		close(stopping)
		<-done
	}, nil
}

// Where replicas are asked.
func settleSubject(replica string) string { return "tollgate.replica.settle." + replica }
func adoptSubject(replica string) string  { return "tollgate.replica.adopt." + replica }
