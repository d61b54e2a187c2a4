package envoy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// termTimeout is how long Envoy may take to end by itself after SIGTERM.
const termTimeout = 5 * time.Second

// logFormat of Envoy: level, logger, text.
const logFormat = "%l|%n|%v"

// lastWords is how many lines of Envoy's log an error quotes.
const lastWords = 12

// child is one Envoy process.
type child struct {
	cfg     SupervisorConfig
	cmd     *exec.Cmd
	started time.Time
	launch  chan struct{} // closed once cmd.Start has been tried
	exited  chan struct{} // closed when it is gone and its log is read
	ending  atomic.Bool   // its end was asked for

	mu    sync.Mutex
	lines []string // the last of its log
	end   error    // why it isn't running; set before exited is closed
}

func newChild(cfg SupervisorConfig) *child {
	return &child{cfg: cfg, cmd: command(cfg), started: time.Now(), launch: make(chan struct{}), exited: make(chan struct{})}
}

// run starts the process and stays until it is gone.
//
// On Linux the kernel kills the process when its parent dies (PDEATHSIG), and
// by parent it means the thread that forked, which Go may end at any time. So
// this goroutine keeps its thread to itself, for as long as the child lives;
// returning without unlocking ends the thread too.
func (c *child) run() {
	runtime.LockOSThread()
	defer close(c.exited)
	for _, left := range [...]string{AdminSocket, cutFile} { // by one before
		_ = os.Remove(filepath.Join(c.cfg.Dir, left))
	}
	logs, w, err := os.Pipe()
	if err != nil {
		c.end = err
		close(c.launch)
		return
	}
	c.cmd.Stdout, c.cmd.Stderr = w, w
	err = c.cmd.Start()
	close(c.launch)
	_ = w.Close() // the child's end stays open
	if err != nil {
		_ = logs.Close()
		c.end = fmt.Errorf("%s can't be started: %w", c.cfg.Binary, err)
		return
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.readLog(logs)
	}()
	err = c.cmd.Wait()
	<-read
	_ = logs.Close()
	if err == nil {
		err = errors.New("it ended by itself")
	}
	c.mu.Lock()
	c.end = err
	c.mu.Unlock()
}

func (c *child) readLog(r io.Reader) {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" {
			c.log(line)
		}
		if err != nil {
			return
		}
	}
}

// log passes a line of Envoy's on. One that isn't in logFormat goes on with the
// line before it, or is of a crash.
func (c *child) log(line string) {
	level, text := slog.LevelWarn, line
	if name, rest, ok := strings.Cut(line, "|"); ok {
		if l, known := levels[name]; known {
			level = l
			_, text, _ = strings.Cut(rest, "|")
		}
	}
	if c.ending.Load() { // what it says of an end that was asked for is no warning
		level = min(level, slog.LevelInfo)
	}
	c.mu.Lock()
	if c.lines = append(c.lines, text); len(c.lines) > lastWords {
		c.lines = c.lines[1:]
	}
	c.mu.Unlock()
	c.cfg.Logger.Log(context.Background(), level, text, "from", "envoy")
}

var levels = map[string]slog.Level{
	"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warning": slog.LevelWarn, "error": slog.LevelError, "critical": slog.LevelError,
}

// err is why the child isn't running, with its last words; nil while it is.
func (c *child) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil || len(c.lines) == 0 {
		return c.end
	}
	return fmt.Errorf("%w. Its last words:\n  %s", c.end, strings.Join(c.lines, "\n  "))
}

// waitReady returns nil once Envoy says that it is live and its listener
// accepts.
func (c *child) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.StartTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c.ready(ctx) {
			return nil
		}
		select {
		case <-c.exited:
			return fmt.Errorf("Envoy did not start: %w", c.err()) //nolint:staticcheck // Envoy is a name
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			return fmt.Errorf("Envoy did not serve within %v (%w). Its last words:\n  %s", //nolint:staticcheck // Envoy is a name
				c.cfg.StartTimeout, ctx.Err(), strings.Join(c.lines, "\n  "))
		case <-tick.C:
		}
	}
}

func (c *child) ready(ctx context.Context) bool {
	state, err := adminCall(ctx, c.cfg.Dir, "GET", "/ready")
	if err != nil || strings.TrimSpace(state) != "LIVE" {
		return false
	}
	addr, err := listenAddr(c.cfg.Gateway)
	if err != nil {
		return false
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// drain closes the listener and reports whether no request and no settlement is
// under way any more, for which it waits until most has passed or ctx ends.
func (c *child) drain(ctx context.Context, most time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for _, path := range []string{"/healthcheck/fail", "/drain_listeners"} {
		if _, err := adminCall(ctx, c.cfg.Dir, "POST", path); err != nil {
			return false
		}
	}
	return c.idle(ctx)
}

// cutTime is how long requests that were cut off have to be settled.
const cutTime = 3 * time.Second

// cut ends all requests, and waits until their settlements are taken, or cutTime
// is over. An Envoy that ended with them would send those and not wait until they
// are written: of 200 streams up to 84 were lost.
func (c *child) cut(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, cutTime)
	defer cancel()
	path := filepath.Join(c.cfg.Dir, cutFile)
	err := os.WriteFile(path+".new", []byte("1"), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		c.cfg.Logger.Warn("Envoy's requests could not be ended before it is: some will not be settled", "error", err)
		return
	}
	c.idle(ctx)
}

// idle waits until Envoy has no request and no settlement under way, and reports
// whether it saw that before ctx ended. One that is dead or stuck has none that is
// worth waiting for.
func (c *child) idle(ctx context.Context) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		active, err := adminCall(ctx, c.cfg.Dir, "GET", `/stats?filter=^(http\.gateway\.downstream_rq_active|cluster\.`+serverCluster+`\.upstream_rq_active)$`)
		if err != nil {
			return ctx.Err() == nil
		}
		if !strings.ContainsAny(active, "123456789") {
			return true
		}
		select {
		case <-c.exited:
			return true
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// terminate asks the process to end, kills it if it doesn't, and returns when it
// is gone.
func (c *child) terminate() {
	c.ending.Store(true)
	c.signal(syscall.SIGTERM)
	select {
	case <-c.exited:
		return
	case <-time.After(termTimeout):
	}
	c.cfg.Logger.Warn("Envoy did not end in time and is killed")
	c.kill()
	<-c.exited
}

func (c *child) kill() { c.signal(syscall.SIGKILL) }

func (c *child) signal(sig os.Signal) {
	<-c.launch
	if c.cmd.Process != nil {
		_ = c.cmd.Process.Signal(sig) // it may be gone already
	}
}

func (c *child) pid() int {
	<-c.launch
	if c.cmd.Process == nil {
		return 0
	}
	return c.cmd.Process.Pid
}
