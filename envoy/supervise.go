package envoy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// SupervisorConfig is for Supervise.
type SupervisorConfig struct {
	// Binary is Envoy's path (see Find). Required.
	Binary string
	// Dir is where Envoy runs: its configuration and its admin socket are in
	// it. It is made, with mode 0700, if it isn't there. Two supervisors must
	// not share one. Required.
	Dir string
	// Bootstrap is the configuration, as Bootstrap made it. Required.
	Bootstrap []byte
	// Gateway is the address that Envoy listens on (Options.Listen). Required.
	Gateway string
	// Workers is the number of Envoy's worker threads. 0: one per processor.
	Workers int
	// StartTimeout is how long Envoy may take until it serves. 0: 15 s.
	StartTimeout time.Duration
	// DrainTimeout is how long Stop waits for running requests, before it ends
	// them. 0: 10 s.
	DrainTimeout time.Duration
	// OnExit is told of each death of a running Envoy, before it is started
	// again and not after Stop: requests that it carried will not be settled by
	// anybody. It is called from the supervisor's goroutine. Nil: nobody.
	OnExit func(err error)
	// Logger takes Envoy's log. Nil: slog.Default().
	Logger *slog.Logger
}

// A Supervisor keeps an Envoy running until Stop. An Envoy that dies is started
// again, after a pause that grows while it keeps dying.
type Supervisor struct {
	cfg  SupervisorConfig
	stop chan struct{} // closed by Stop: no more starts
	once sync.Once
	done chan struct{} // closed when the last process is gone and run has returned

	mu    sync.Mutex
	child *child // the newest; guarded by mu
}

// Pauses between a death and the next start. An Envoy that ran for steady has
// earned a short one again.
const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
	steady   = 30 * time.Second
)

// ErrAddressInUse is what Supervise wraps when something else has the gateway's
// address.
var ErrAddressInUse = errors.New("address in use")

// Supervise starts Envoy and returns when it serves. If it doesn't within
// StartTimeout, or ctx ends, it is killed and the error has its last words: a
// first start that fails is final. ctx is for the start only.
func Supervise(ctx context.Context, cfg SupervisorConfig) (*Supervisor, error) {
	def(&cfg.StartTimeout, 15*time.Second)
	def(&cfg.DrainTimeout, 10*time.Second)
	def(&cfg.Workers, runtime.NumCPU())
	def(&cfg.Logger, slog.Default())
	if cfg.OnExit == nil {
		cfg.OnExit = func(error) {}
	}
	if err := prepare(cfg); err != nil {
		return nil, err
	}
	s := &Supervisor{cfg: cfg, stop: make(chan struct{}), done: make(chan struct{})}
	c := s.start()
	if err := c.waitReady(ctx); err != nil {
		c.kill()
		<-c.exited
		return nil, err
	}
	go s.run(c)
	return s, nil
}

// prepare looks whether the address is free, and writes the configuration.
func prepare(cfg SupervisorConfig) error {
	addr, err := listenAddr(cfg.Gateway)
	if err != nil {
		return err
	}
	// Go's listener doesn't share a port, so this fails even where the other one
	// would have let us in.
	l, err := net.Listen("tcp", addr.String())
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("the gateway can't listen on %s: %w: another program has it. Choose another with --gateway-addr", cfg.Gateway, ErrAddressInUse)
	} else if err != nil {
		return fmt.Errorf("the gateway can't listen on %s: %w", cfg.Gateway, err)
	}
	if err := l.Close(); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("envoy's directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, configFile), cfg.Bootstrap, 0o600); err != nil {
		return fmt.Errorf("envoy's configuration: %w", err)
	}
	return nil
}

// start launches a process. A failure to do so is the child's end.
func (s *Supervisor) start() *child {
	c := newChild(s.cfg)
	s.mu.Lock()
	s.child = c
	s.mu.Unlock()
	go c.run()
	return c
}

// run replaces each child that dies by a new one.
func (s *Supervisor) run(c *child) {
	defer close(s.done)
	pause := minPause
	for {
		<-c.exited
		if s.stopped() {
			return
		}
		if time.Since(c.started) > steady {
			pause = minPause
		}
		s.cfg.Logger.Error("Envoy died and will be started again", "after", pause, "err", c.err())
		s.cfg.OnExit(c.err())
		select {
		case <-s.stop:
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
		c = s.start()
		if s.stopped() { // Stop may have looked at the one before
			c.terminate()
		}
	}
}

func (s *Supervisor) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// PID is the process id of the running Envoy, or of the last one.
func (s *Supervisor) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.child.pid()
}

// Admin asks the running Envoy's administration interface: path is like
// "/stats?filter=x". Only GET or POST.
func (s *Supervisor) Admin(ctx context.Context, method, path string) (string, error) {
	return adminCall(ctx, s.cfg.Dir, method, path)
}

// Stop takes no new connections, waits for running requests for at most
// DrainTimeout or until ctx ends, then cuts off those that are left, waits for their
// settlements for a moment, and ends Envoy. When Stop returns the process is gone.
// It may be called more than once.
func (s *Supervisor) Stop(ctx context.Context) {
	s.once.Do(func() { close(s.stop) })
	s.mu.Lock()
	c := s.child
	s.mu.Unlock()
	if !c.drain(ctx, s.cfg.DrainTimeout) {
		c.cut(ctx)
	}
	c.terminate()
	<-s.done
}

// command is how Envoy is started in its directory.
func command(cfg SupervisorConfig) *exec.Cmd {
	cmd := exec.Command(cfg.Binary,
		"--config-path", configFile,
		"--concurrency", strconv.Itoa(cfg.Workers),
		"--disable-hot-restart", // or two on one machine would meet in shared memory
		"--log-format", logFormat,
		"--log-level", "warning",
		"--component-log-level", "misc:error", // which warns of work in progress, eight times each start
	)
	cmd.Dir = cfg.Dir
	cmd.Env = childEnvironment()
	cmd.SysProcAttr = sysProcAttr()
	return cmd
}

const configFile = "envoy.yaml"

// childEnvironment is what Envoy gets of ours: where things are, and no secret.
func childEnvironment() []string {
	env := []string{}
	for _, name := range [...]string{"PATH", "HOME", "TMPDIR", "TZ", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
