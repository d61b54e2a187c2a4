//go:build linux

package main_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

func testLifecycle(t *testing.T, b *bench) {
	first, second := startGate(t, b), startGate(t, b)

	// Beside each other, and apart.
	k := first.key("--name", "first")
	if res := first.chat(k.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
		t.Errorf("the first: %v", res)
	}
	if res := second.chat(k.Key, chatBody(chatModel, "")); res.status != http.StatusUnauthorized {
		t.Errorf("the second, with a key of the first: %v", res)
	}

	// An Envoy that dies later is started again.
	pid := first.cmd.Process.Pid
	envoy := envoyOf(t, pid)
	if err := syscall.Kill(envoy, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitGone(t, envoy)
	within(t, time.Minute, "there again after Envoy was killed", func() error {
		if res := first.chat(k.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
			return fmt.Errorf("%v", res)
		}
		return nil
	})
	if again := envoyOf(t, pid); again == envoy {
		t.Errorf("Envoy has process id %d as before", again)
	}

	// Ctrl-C leaves nothing running, and a restart knows all that was known.
	for g, s := range map[*gate]syscall.Signal{first: syscall.SIGINT, second: syscall.SIGTERM} {
		below := descendants(t, g.cmd.Process.Pid)
		if code := g.stop(s); code != 0 {
			t.Errorf("exit code %d after %v", code, s)
		}
		waitGone(t, below...)
		for _, addr := range []string{g.gateway, g.api, g.grpc, g.nats} {
			if conn, err := net.Dial("tcp", addr); err == nil {
				conn.Close()
				t.Errorf("somebody listens on %s after %v", addr, s)
			}
		}
	}
	first.start("up")
	first.waitReady()
	if res := first.chat(k.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
		t.Errorf("after a restart: %v", res)
	}
	first.eventsOf(k, 3)

	// Killed outright, it takes its Envoy with it.
	below := descendants(t, first.cmd.Process.Pid)
	if len(below) == 0 {
		t.Error("no Envoy")
	}
	first.kill()
	waitGone(t, below...)
}

func testRefusesToStart(t *testing.T, b *bench) {
	for name, c := range map[string]struct {
		// spoil makes it impossible to start, and returns what the message must name.
		spoil func(t *testing.T, g *gate) []string
	}{
		"the gateway's port in use": {func(t *testing.T, g *gate) []string { return occupy(t, g.gateway) }},
		"the API's port in use":     {func(t *testing.T, g *gate) []string { return occupy(t, g.api) }},
		"the gRPC port in use":      {func(t *testing.T, g *gate) []string { return occupy(t, g.grpc) }},
		"the NATS port in use":      {func(t *testing.T, g *gate) []string { return occupy(t, g.nats) }},
		"a locked data directory": {func(t *testing.T, g *gate) []string {
			other := startGate(t, b)
			g.env = append(g.env, "TOLLGATE_DATA="+other.data)
			return []string{other.data}
		}},
		"an unknown field in the catalog": {func(t *testing.T, g *gate) []string {
			return []string{writeCatalog(t, g, "workspaces:\n  - id: demo\n    plam: lite\n"), ":3:", "plam"}
		}},
		"no YAML in the catalog": {func(t *testing.T, g *gate) []string {
			return []string{writeCatalog(t, g, "workspaces: [\n")}
		}},
		"no catalog where one is named": {func(_ *testing.T, g *gate) []string {
			path := filepath.Join(g.dir, "nowhere.yaml")
			g.env = append(g.env, "TOLLGATE_CATALOG="+path)
			return []string{path}
		}},
		"no Envoy where one is named": {func(_ *testing.T, g *gate) []string {
			g.env = append(g.env, "TOLLGATE_ENVOY=/nonexistent/envoy")
			return []string{"/nonexistent/envoy"}
		}},
		"an Envoy that won't start": {func(t *testing.T, g *gate) []string {
			path := filepath.Join(g.dir, "envoy")
			script := "#!/bin/sh\ncase $1 in --version) exec " + b.envoy + " --version;; esac\necho 'no such luck' >&2\nexit 3\n"
			if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			g.env = append(g.env, "TOLLGATE_ENVOY="+path)
			return []string{"no such luck"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, b)
			words := c.spoil(t, g)
			g.start("up")
			if code := g.wait(45 * time.Second); code == 0 {
				t.Error("exit code 0")
			}
			out := g.out.String()
			for _, w := range words {
				if !strings.Contains(out, w) {
					t.Errorf("the message does not name %q", w)
				}
			}
			if regexp.MustCompile(`(?m)^(panic:|goroutine \d+ \[|WARNING: DATA RACE)`).MatchString(out) {
				t.Error("that is no message")
			}
			if t.Failed() {
				return // the gate's clean-up shows what it said
			}
			t.Log(g.out.tail(4))
		})
	}
}

// occupy listens on an address and returns what a message has to say about it.
func occupy(t *testing.T, addr string) []string {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return []string{addr, "in use"}
}

func writeCatalog(t *testing.T, g *gate, text string) string {
	t.Helper()
	path := filepath.Join(g.dir, "broken.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.env = append(g.env, "TOLLGATE_CATALOG="+path)
	return path
}

// testQuickstart is what `make run` runs, with the curl line that it prints
// pasted into a shell.
func testQuickstart(t *testing.T, b *bench) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		unavailable(t, "curl is missing, which the printed line is for")
	}
	g := newGate(t, b)
	g.env = append(g.env, "TOLLGATE_CATALOG="+root(t, "examples", "quickstart", "catalog.yaml"), "TOLLGATE_BIN="+b.tollgate)
	g.cmd = g.command()
	g.cmd.Path, g.cmd.Args = b.quickstart, []string{b.quickstart}
	g.cmd.Stdout, g.cmd.Stderr = g.out, g.out
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g.waitReady()

	// The line may go on behind a backslash.
	command := regexp.MustCompile(`(?m)^\s*(curl (?:.*\\\n)*.*)$`)
	var line string
	within(t, time.Minute, "told a curl line", func() error {
		found := command.FindStringSubmatch(g.out.String())
		if found == nil {
			return fmt.Errorf("%s", g.out.tail(20))
		}
		line = found[1]
		return nil
	})
	shell := exec.Command("sh", "-c", line)
	shell.Env = append(os.Environ(), "PATH="+filepath.Dir(curl)+":"+os.Getenv("PATH"), "no_proxy=127.0.0.1,localhost")
	answer, err := shell.Output()
	if err != nil || !strings.Contains(string(answer), `"usage"`) {
		t.Errorf("%s\n%v: %s", line, err, answer)
	}
	for _, addr := range []string{g.gateway, g.api} {
		if !strings.Contains(g.out.String(), addr) {
			t.Errorf("the address %s was not printed", addr)
		}
	}
	below := descendants(t, g.cmd.Process.Pid)
	if len(below) < 2 {
		t.Errorf("%d processes below quickstart, want tollgate and Envoy", len(below))
	}
	if code := g.stop(syscall.SIGINT); code != 0 {
		t.Errorf("exit code %d", code)
	}
	waitGone(t, below...)
}
