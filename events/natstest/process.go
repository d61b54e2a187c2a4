package natstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// binary is the nats-server of the version in go.mod. It is built at first use
// and kept in the build cache of the go command.
var binary = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "tool", "-n", "github.com/nats-io/nats-server/v2").Output()
	if err != nil {
		if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output wraps nothing
			return "", fmt.Errorf("building nats-server: %w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("building nats-server: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// process is one nats-server of a cluster: nothing runs between its lives.
type process struct {
	name    string
	dir     string
	addr    string // for clients
	monitor string // for questions over HTTP
	routes  string // for the other servers

	cmd    *exec.Cmd     // of this life; nil: none
	ended  chan struct{} // closed when it has ended
	paused bool
}

// start begins a life.
func (p *process) start(t testing.TB) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd, p.ended = exec.Command(path, "-c", filepath.Join(p.dir, "nats.conf")), make(chan struct{})
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = out, out, attached()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // it is killed more often than not
		close(ended)
	}(p.cmd, p.ended)
}

func (p *process) log() string { return filepath.Join(p.dir, "log") }

// signal sends a signal to a process that lives.
func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if p.cmd == nil {
		t.Fatalf("%s does not run", p.name)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%v to %s: %v", s, p.name, err)
	}
}

// end ends a life by a signal and waits until it has.
func (p *process) end(t testing.TB, s syscall.Signal) {
	t.Helper()
	p.signal(t, s)
	<-p.ended
	p.cmd, p.paused = nil, false
}

// lives reports whether the process runs and has not ended by itself.
func (p *process) lives() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// tail is the end of what it had to say, without its connections' comings and
// goings.
func (p *process) tail() string {
	const most = 12 // lines
	text, err := os.ReadFile(p.log())
	if err != nil {
		return err.Error()
	}
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return line == "" || strings.Contains(line, " - rid:") || strings.Contains(line, " - cid:")
	})
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}
