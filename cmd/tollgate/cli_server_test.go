package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tollgate/authz/manage"
	"tollgate/authz/manage/managetest"
)

// silent listens, and takes connections without ever answering. taken gets one value
// for each.
func silent(t *testing.T) (addr string, taken <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c := make(chan struct{}, 8)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			c <- struct{}{}
		}
	}()
	return l.Addr().String(), c
}

func TestAServerThatDoesNotAnswerIsGivenUp(t *testing.T) {
	addr, _ := silent(t)
	c, err := manage.NewClient(addr, managetest.OperatorKey, &http.Client{Transport: patient(20 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Catalog(t.Context()); exitCode(err) != exitUnreachable {
		t.Errorf("a server that doesn't answer: %v, exit code %d", err, exitCode(err))
	}
}

// TestAnInterruptedCommandSaysSo: whether a Tollgate answers is not known then, so it
// must not say that none does.
func TestAnInterruptedCommandSaysSo(t *testing.T) {
	addr, taken := silent(t)
	self, err := exec.LookPath("tollgate") // TestMain's
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := exec.Command(self, "key", "revoke", "018f0000-0000-7000-8000-000000000000", "--api-addr", addr)
	cmd.Env = append(os.Environ(), "TOLLGATE_OPERATOR_KEY="+managetest.OperatorKey)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	select {
	case <-taken:
	case <-time.After(time.Minute):
		t.Fatal("the command asks nobody")
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitFailure || !strings.Contains(said.String(), "interrupted before there was an answer") {
		t.Errorf("%v: %s", err, said.String())
	}
}
