package natstest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes TCP connections on to a target, and fails as networks do. All
// methods are safe for concurrent use.
type Proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu      sync.Mutex // guards what follows, and what changed tells of
	changed *sync.Cond
	cut     bool
	delays  [2]time.Duration // by direction
	links   map[*link]bool
}

// The directions of a link.
const (
	toTarget = iota
	toClient
)

// link is one connection through a proxy: both of its ends.
type link struct {
	ends  [2]net.Conn // by the direction that leads to it
	done  chan struct{}
	ended bool // guarded by Proxy.mu
}

// NewProxy listens on a free port of the loopback for as long as the test runs.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(target)
	p.listener = l
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.Heal()
		p.Reset()
		p.running.Wait()
	})
	return p
}

func newProxy(target string) *Proxy {
	p := &Proxy{target: target, links: map[*link]bool{}}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// Addr is where the proxy listens, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut stops everything from passing and keeps the connections open, as a network
// that loses all packets does. What was sent meanwhile arrives after Heal; until
// then the kernel's buffers take it, and a sender blocks when they are full. New
// connections are taken and wait as well.
func (p *Proxy) Cut() { p.set(func() { p.cut = true }) }

// Heal lets everything pass again.
func (p *Proxy) Heal() { p.set(func() { p.cut = false }) }

// Delay holds everything back for so long from now on, each way. What was sent
// before is not overtaken.
func (p *Proxy) Delay(toServer, toClients time.Duration) {
	p.set(func() { p.delays = [2]time.Duration{toTarget: toServer, toClient: toClients} })
}

// Reset breaks all connections; new ones work.
func (p *Proxy) Reset() {
	p.set(func() {
		for l := range p.links {
			p.end(l)
		}
	})
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

// end closes a link. p.mu is held.
func (p *Proxy) end(l *link) {
	if l.ended {
		return
	}
	l.ended = true
	close(l.done)
	for _, c := range l.ends {
		if c != nil {
			_ = c.Close()
		}
	}
	delete(p.links, l)
}

// open waits while the network is cut. It returns false once the link has ended.
func (p *Proxy) open(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cut && !l.ended {
		p.changed.Wait()
	}
	return !l.ended
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		l := &link{ends: [2]net.Conn{toClient: client}, done: make(chan struct{})}
		p.set(func() { p.links[l] = true })
		p.running.Go(func() { p.serve(l) })
	}
}

// serve connects a link to the target and passes on until either side closes.
func (p *Proxy) serve(l *link) {
	defer p.set(func() { p.end(l) })
	if !p.open(l) {
		return
	}
	target, err := net.Dial("tcp", p.target) //nolint:noctx // loopback, it answers at once
	if err != nil {
		return
	}
	p.set(func() {
		if l.ended {
			_ = target.Close()
		}
		l.ends[toTarget] = target
	})
	var pumps sync.WaitGroup
	for direction := range l.ends {
		pumps.Go(func() { p.pump(l, direction) })
	}
	pumps.Wait()
}

// chunk is what was read at once, and when it is to arrive.
type chunk struct {
	bytes []byte
	due   time.Time
}

// pump passes one direction of a link on, and ends the link when that ends.
func (p *Proxy) pump(l *link, direction int) {
	const chunkSize, maxChunks = 32 << 10, 256 // further ones wait with the sender
	chunks := make(chan chunk, maxChunks)
	var writer sync.WaitGroup
	writer.Go(func() { p.write(l, direction, chunks) })
	defer writer.Wait()
	defer close(chunks)
	from := l.ends[1-direction]
	for p.open(l) {
		b := make([]byte, chunkSize)
		n, err := from.Read(b)
		p.mu.Lock()
		due := time.Now().Add(p.delays[direction])
		p.mu.Unlock()
		if n > 0 {
			select {
			case chunks <- chunk{b[:n], due}:
			case <-l.done:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// write writes chunks when they are due. When there are no more it ends the link,
// which the other side learns of no sooner than of the last chunk, nor while the
// network is cut.
func (p *Proxy) write(l *link, direction int, chunks <-chan chunk) {
	defer p.set(func() { p.end(l) })
	for c := range chunks {
		if wait := time.Until(c.due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-l.done:
				return
			}
		}
		if !p.open(l) {
			return
		}
		if _, err := l.ends[direction].Write(c.bytes); err != nil {
			return
		}
	}
	p.open(l)
}
