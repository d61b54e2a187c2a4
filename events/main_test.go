package events

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"tollgate/events/natsd"
	"tollgate/events/natstest/freeaddr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// embedded starts the server that Tollgate itself uses.
func embedded(t *testing.T, cfg natsd.Config) (*natsd.Server, *nats.Conn) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Logger = quiet
	s, err := natsd.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	nc, err := s.Connect(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	return s, nc
}

// natsdConfig is one server with a directory of its own and no listener.
var natsdConfig natsd.Config

// remote is a NATS server that is reached over the network, as a cluster's is,
// through a proxy that can lose things.
type remote struct {
	t     *testing.T
	dir   string
	addr  string // of the server, also of its next one
	nats  *server.Server
	proxy *proxy
}

func newRemote(t *testing.T) *remote {
	t.Helper()
	r := &remote{t: t, dir: t.TempDir(), addr: freeaddr.Take(t)}
	r.start()
	t.Cleanup(r.stop)
	r.proxy = newProxy(t, r.addr)
	return r
}

func (r *remote) start() {
	r.t.Helper()
	at, err := net.ResolveTCPAddr("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	opts := &server.Options{Host: at.IP.String(), Port: at.Port, JetStream: true, StoreDir: r.dir, NoSigs: true, NoLog: true}
	if r.nats, err = server.NewServer(opts); err != nil {
		r.t.Fatal(err)
	}
	r.nats.Start()
	if !r.nats.ReadyForConnections(time.Minute) {
		r.t.Fatal("the server is not ready")
	}
}

func (r *remote) stop() {
	r.nats.Shutdown()
	r.nats.WaitForShutdown()
}

// wipe removes what the stopped server stored.
func (r *remote) wipe() error { return os.RemoveAll(filepath.Join(r.dir, "jetstream")) }

func (r *remote) connect() *nats.Conn {
	r.t.Helper()
	nc, err := nats.Connect("nats://"+r.proxy.addr(), nats.Timeout(10*time.Second), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	return nc
}

// proxy passes TCP connections on. While it is told to, it swallows what goes
// one way; those connections are then spoilt and end with heal.
type proxy struct {
	listener net.Listener
	target   string
	done     sync.WaitGroup

	mu        sync.Mutex
	conns     map[net.Conn]bool
	swallowUp bool // to the server
	swallowDn bool // to the client
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.heal()
		p.done.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[up] = true, true
		p.mu.Unlock()
		p.done.Go(func() { p.copy(up, client, &p.swallowUp) })
		p.done.Go(func() { p.copy(client, up, &p.swallowDn) })
	}
}

func (p *proxy) copy(to, from net.Conn, swallow *bool) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		drop := *swallow
		p.mu.Unlock()
		if !drop {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

func (p *proxy) swallow(up, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallowUp, p.swallowDn = up, down
}

// heal breaks all connections; new ones work.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallowUp, p.swallowDn = false, false
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// eventually waits until ok, at most a minute.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
