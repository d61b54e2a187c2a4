package events

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/nats-io/nats.go"
)

// awayError is an error that says no more than that NATS could not be reached.
type awayError struct{ error }

func (e awayError) Unwrap() error { return e.error }

// Away reports whether an error says no more than that NATS can't be asked now:
// nobody listens or answers, a name does not resolve, or a cluster has no leader or
// too few servers. Whoever asks again later may have better luck. What a server
// refused, and what was not permitted, will be refused again: it is not that.
func Away(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || Denied(err) {
		return false
	}
	_, marked := errors.AsType[awayError](err)
	return marked || noAnswer(err) || refusedBy(err, noPeers) && !noRoom(err) || disconnected(err)
}

// Denied reports whether a NATS server said that we may not do what was tried.
func Denied(err error) bool { return errors.Is(err, nats.ErrPermissionViolation) }

// disconnected reports whether a connection that was there broke off.
func disconnected(err error) bool {
	for _, e := range []error{nats.ErrDisconnected, nats.ErrConnectionClosed, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// unreached marks what keeps a connection from coming about where nobody refused it.
// A peer that refuses our TLS is told apart before, and an address that is none is not
// mended by waiting.
func unreached(told, cause error) error {
	var (
		dns     *net.DNSError
		network *net.OpError
		address *net.AddrError
	)
	if errors.As(cause, &address) {
		return told
	}
	if errors.Is(cause, nats.ErrNoServers) || errors.Is(cause, nats.ErrTimeout) || errors.Is(cause, context.DeadlineExceeded) ||
		errors.Is(cause, io.EOF) || errors.As(cause, &dns) || errors.As(cause, &network) {
		return awayError{told}
	}
	return told
}
