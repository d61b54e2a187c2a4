// Package natsd runs a NATS server with JetStream inside this process.
//
// The process itself talks to it over in-process connections, which have full
// rights. With Config.Listen the server also takes connections from outside, but
// only of users given to SetUsers, each in an account of its own that reaches
// nothing but the subjects named there; nobody gets in without a password.
//
// A disk that was full, or failed for a while, does not stop it for good: see
// Health.
package natsd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/crypto/bcrypt"
)

// Config is what a server needs.
type Config struct {
	// Dir is where everything is stored. It is made if missing, and belongs to
	// one server at a time. Required.
	Dir string
	// Listen is the host:port for connections from outside, port 0 for one that
	// the system chooses. Empty: none, only this process reaches the server.
	Listen string
	// MaxMemory bounds the bytes of streams kept in memory. Zero: 256 MiB.
	MaxMemory int64
	// MaxStore bounds the bytes of streams on disk, all together. Zero: 16 GiB.
	MaxStore int64
	// Logger takes the server's messages and those of Connect's connections.
	// Nil: slog.Default().
	Logger *slog.Logger
}

// Server is a running server. All methods are safe for concurrent use.
type Server struct {
	cfg      Config
	log      *slog.Logger
	lock     *dirLock
	nats     atomic.Pointer[server.Server] // replaced by restart
	addr     string                        // for connections from outside; "" for none
	password string                        // of the in-process connections; new at every start
	hash     string                        // its bcrypt hash

	health     atomic.Pointer[error] // see Health
	stopHealer func()

	mu    sync.Mutex // serialises SetUsers, Close and restart; guards what follows
	conns []internalConn
	users []User
}

// inProcess connects to the server that runs at the time.
type inProcess struct{ server *Server }

// InProcessConn is asked for a connection at every try to connect.
func (p inProcess) InProcessConn() (net.Conn, error) { return p.server.nats.Load().InProcessConn() }

type internalConn struct {
	nc     *nats.Conn
	closed chan struct{}
}

// readyWithin bounds how long a start may take. Recovering a store of half a
// million keys was measured at 0.7–1.5 s.
const readyWithin = time.Minute

// Start starts a server and returns once it takes connections. A directory that
// another process holds, a port in use and a store that can't be opened are
// errors; nothing is left running then.
func Start(cfg Config) (_ *Server, err error) {
	if cfg.Dir == "" {
		return nil, errors.New("the NATS server needs a directory")
	}
	if cfg.MaxMemory == 0 {
		cfg.MaxMemory = 256 << 20
	}
	if cfg.MaxStore == 0 {
		cfg.MaxStore = 16 << 30
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Server{cfg: cfg, log: cfg.Logger.With("part", "nats"), password: rand.Text()}
	if s.hash, err = HashPassword(s.password); err != nil {
		return nil, err
	}
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.release())
		}
	}()
	first, err := s.launch(nil)
	if err != nil {
		return nil, err
	}
	s.nats.Store(first)
	if addr, ok := first.Addr().(*net.TCPAddr); ok && cfg.Listen != "" {
		s.listenOn(addr)
	}
	s.stopHealer = s.heal()
	return s, nil
}

// launch starts a server that lets users in from outside. On an error nothing is
// left running.
func (s *Server) launch(users []User) (*server.Server, error) {
	opts, err := s.options(users)
	if err != nil {
		return nil, err
	}
	n, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("the NATS server: %w", err)
	}
	log := &logger{log: s.log}
	n.SetLoggerV2(log, false, false, false)
	n.Start()
	if fatal := log.fatal.Load(); fatal != nil {
		err = fmt.Errorf("the NATS server did not start: %s", *fatal)
	} else if !n.ReadyForConnections(readyWithin) {
		err = fmt.Errorf("the NATS server was not ready within %s", readyWithin)
	}
	if err != nil {
		n.Shutdown()
		n.WaitForShutdown()
		return nil, err
	}
	return n, nil
}

// listenOn keeps the address that the system gave, for restarts and for Addr.
func (s *Server) listenOn(addr *net.TCPAddr) {
	port := strconv.Itoa(addr.Port)
	if host, _, err := net.SplitHostPort(s.cfg.Listen); err == nil {
		s.cfg.Listen = net.JoinHostPort(host, port)
	}
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			host = name
		}
	}
	s.addr = net.JoinHostPort(host, port)
}

// options are the server's, with the outside users given.
func (s *Server) options(users []User) (*server.Options, error) {
	opts := &server.Options{
		ServerName:         "tollgate",
		DontListen:         s.cfg.Listen == "",
		NoSigs:             true, // signals belong to the program around
		JetStream:          true,
		StoreDir:           s.cfg.Dir,
		JetStreamMaxMemory: s.cfg.MaxMemory,
		JetStreamMaxStore:  s.cfg.MaxStore,
		// Without it, NATS syncs every two minutes, long after it acknowledged.
		SyncAlways: true,
	}
	if s.cfg.Listen != "" {
		host, port, err := net.SplitHostPort(s.cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("the NATS listen address %q: %w", s.cfg.Listen, err)
		}
		opts.Host = host
		if opts.Port, err = strconv.Atoi(port); err != nil || opts.Port < 0 || opts.Port > 65535 {
			return nil, fmt.Errorf("the NATS listen address %q: the port must be a number from 0 to 65535", s.cfg.Listen)
		}
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
	}
	// Accounts with imports can only be written in the server's own language:
	// its Go options keep those fields to themselves.
	if err := opts.ProcessConfigString(accounts(s.hash, users)); err != nil {
		return nil, fmt.Errorf("the NATS accounts: %w", err)
	}
	return opts, nil
}

// connectTimeout is how long a connection within the process may take to be made, on a
// machine that is busy or whose disk is.
const connectTimeout = 10 * time.Second

// Connect makes an in-process connection with full rights. It reconnects for
// ever; Close drains it if its owner has not closed it. name says in logs whose
// it is.
func (s *Server) Connect(name string) (*nats.Conn, error) {
	log := s.log.With("connection", name)
	closed := make(chan struct{})
	nc, err := nats.Connect("",
		nats.InProcessServer(inProcess{s}),
		nats.Name(name),
		nats.Timeout(connectTimeout),
		nats.UserInfo(internalUser, s.password),
		nats.CustomInboxPrefix("_TGI"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("connection to NATS is back") }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("NATS reported an error", "error", err, "subject", subject)
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }),
	)
	if err != nil {
		return nil, fmt.Errorf("connecting to the embedded NATS server: %w", err)
	}
	s.mu.Lock()
	s.conns = append(s.conns, internalConn{nc, closed})
	s.mu.Unlock()
	return nc, nil
}

// Addr is the address for connections from outside, host:port, or "" where the
// server does not listen. An address that means "every interface" is told as the
// host's name.
func (s *Server) Addr() string { return s.addr }

// Close flushes and drains the connections that Connect made, stops the server,
// and gives the directory free. When ctx ends, connections that have not drained
// are cut and the server stops all the same; then the error is ctx's.
func (s *Server) Close(ctx context.Context) error {
	s.stopHealer()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if err := c.nc.Drain(); err != nil {
			c.nc.Close() // it is closed, or between two tries to connect
		}
	}
	for _, c := range s.conns {
		select {
		case <-c.closed:
		case <-ctx.Done():
			c.nc.Close()
		}
	}
	s.conns = nil
	last := s.nats.Load()
	last.Shutdown()
	last.WaitForShutdown()
	return errors.Join(ctx.Err(), s.lock.release())
}

// HashPassword makes the form in which a password is given to SetUsers. The
// password must be random with at least 128 bits: then no hash needs to be slow,
// and bcrypt, the only one that the server knows, runs at its least cost, so that
// a flood of connections with wrong passwords costs little.
func HashPassword(password string) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	return string(hash), err
}
