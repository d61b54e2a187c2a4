package envoy

import (
	"io"
	"net"
	"sync"
	"time"
)

// split takes the connections of one listener apart by their first bytes: those of
// HTTP/2, which is gRPC, are its own, and all others those of http. So a replica has
// one address for Envoys, whatever they bring. Connections whose first bytes are
// waited for hold up nobody.
type split struct {
	net.Listener // closed by Close

	grpc, rest chan net.Conn
	http       net.Listener
	failed     chan struct{} // closed when the listener has ended
	err        error         // why; set before failed is closed

	once   sync.Once
	closed chan struct{}
}

// firstBytes is how long a connection may take to say what it is. gRPC's own bound
// for its first message begins afterwards.
const firstBytes = 10 * time.Second

// preface is how every connection of HTTP/2 begins, and no request of HTTP/1: a
// method that begins so is none that we have.
const preface = "PRI"

// newSplit starts to take connections from l, which is split's from then on.
func newSplit(l net.Listener) *split {
	s := &split{
		Listener: l, grpc: make(chan net.Conn), rest: make(chan net.Conn),
		failed: make(chan struct{}), closed: make(chan struct{}),
	}
	s.http = &half{s}
	go s.accept()
	return s
}

func (s *split) accept() {
	for wait := time.Duration(0); ; {
		c, err := s.Listener.Accept()
		if err == nil {
			wait = 0
			go s.sort(c)
			continue
		}
		// Out of descriptors, say: as gRPC and net/http do.
		if t, ok := err.(interface{ Temporary() bool }); ok && t.Temporary() {
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(wait):
				continue
			case <-s.closed:
			}
		}
		s.err = err
		close(s.failed)
		return
	}
}

// sort reads what a connection begins with, and gives it to who takes such.
func (s *split) sort(c net.Conn) {
	first := make([]byte, len(preface))
	_ = c.SetReadDeadline(time.Now().Add(firstBytes))
	if _, err := io.ReadFull(c, first); err != nil {
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	to := s.rest
	if string(first) == preface {
		to = s.grpc
	}
	select {
	case to <- &begun{c, first}:
	case <-s.closed:
		c.Close()
	case <-s.failed:
		c.Close()
	}
}

// Accept implements net.Listener, for gRPC.
func (s *split) Accept() (net.Conn, error) { return s.next(s.grpc) }

func (s *split) next(from <-chan net.Conn) (net.Conn, error) {
	select {
	case c := <-from:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	case <-s.failed:
		return nil, s.err
	}
}

// Close implements net.Listener: it closes both halves and the listener.
func (s *split) Close() (err error) {
	s.once.Do(func() {
		close(s.closed)
		err = s.Listener.Close()
	})
	return err
}

// half is the half of split that isn't gRPC's. To close it closes nothing: gRPC
// serves on.
type half struct{ *split }

func (h *half) Accept() (net.Conn, error) { return h.next(h.rest) }
func (h *half) Close() error              { return nil }

// begun is a connection of which the first bytes were read already.
type begun struct {
	net.Conn

	first []byte // what Read returns before anything else
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

// CloseWrite lets net/http end an answer before a body is read to its end without
// a reset, by which the answer could be lost.
func (b *begun) CloseWrite() error {
	if w, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
