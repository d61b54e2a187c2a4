//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// blockTime is for one block of a page.
const blockTime = time.Minute

// shell is a shell that somebody follows a page in: what one block sets, the next
// one has.
type shell struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	n     int // blocks so far
	said  bytes.Buffer
	errs  output
}

// shell starts one in the clone.
func (w *exampleWalk) shell() *shell {
	w.t.Helper()
	s := &shell{t: w.t}
	s.cmd = exec.CommandContext(w.t.Context(), "sh", "-eu", "-s")
	s.cmd.Dir = w.clone
	// Where data and packages are, the page says.
	s.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "PYTHONDONTWRITEBYTECODE=1", "no_proxy=127.0.0.1",
		"TOLLGATE_API_ADDR="+w.api, "PATH="+w.clone+"/bin:"+os.Getenv("PATH"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stderr = &s.errs
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	s.lines = bufio.NewScanner(out)
	s.lines.Buffer(nil, 1<<20)
	if err := s.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (s *shell) close() {
	s.in.Close()
	_ = s.cmd.Wait() // it has done what it was for
}

// run runs commands in the shell and returns what they printed. One that fails fails
// the test.
func (s *shell) run(commands string) string {
	s.t.Helper()
	s.n++
	mark := fmt.Sprintf("-- end of block %d --", s.n)
	// In braces it is this shell that runs them; they must not read what comes next.
	fmt.Fprintf(s.in, "{\n%s\n} </dev/null\nprintf '\\n%%s\\n' '%s'\n", commands, mark)
	timer := time.AfterFunc(blockTime, func() { _ = s.cmd.Process.Kill() })
	defer timer.Stop()
	var printed strings.Builder
	for s.lines.Scan() {
		if s.lines.Text() == mark {
			s.said.WriteString(printed.String())
			return printed.String()
		}
		printed.WriteString(s.lines.Text() + "\n")
	}
	s.t.Fatalf("the shell ended in\n%s\nafter it had printed\n%s%s", commands, printed.String(), s.errs.String())
	return ""
}

// follow runs a block of a page and compares.
func (s *shell) follow(b pageBlock) {
	s.t.Helper()
	if err := b.check(s.run(b.commands)); err != nil {
		if !b.maySettle() {
			s.t.Fatalf("%v\n%s", err, s.errs.tail(20))
		}
		within(s.t, time.Minute, "what the page says", func() error { return b.check(s.run(b.commands)) })
	}
}

func TestPageMatches(t *testing.T) {
	for _, c := range []struct {
		text, page string
		want       bool
	}{
		{"a  b\nc\n", "a b c", true},
		{"a b c d", "a b c", false},
		{"x a b c", "a b c", false},
		{"a 17 c", "a … c", true},
		{"a 17 d", "a … c", false},
		{"a 17 c d", "a … c", false},
		{"a c 17 c", "a … c", true},
		{"a 17", "a …", true},
		{`{"id":"7","n":1}`, `{"id":"…","n":1}`, true},
		{`{"id":"7","n":2}`, `{"id":"…","n":1}`, false},
	} {
		if got := matches(c.text, c.page); got != c.want {
			t.Errorf("%q is %q: %v, want %v", c.text, c.page, got, c.want)
		}
	}
}
