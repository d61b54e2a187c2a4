package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleEnv makes the test binary play a part: "quickstart" is run, "tollgate" a
// child that says what it was given and counts the signals that reach it.
const roleEnv = "QUICKSTART_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "quickstart":
		os.Setenv(roleEnv, os.Getenv("QUICKSTART_TEST_CHILD"))
		main()
	case "tollgate":
		os.Exit(playTollgate())
	case "told":
		tell()
		os.Exit(0)
	case "refuse":
		fmt.Println("no")
		os.Exit(7)
	}
	os.Exit(m.Run())
}

// playTollgate ends with 10 + the number of signals it got by half a second after
// the first.
func playTollgate() int {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	tell()
	fmt.Println("signal", <-signals)
	n, done := 1, time.After(500*time.Millisecond)
	for {
		select {
		case <-signals:
			n++
		case <-done:
			return 10 + n
		}
	}
}

// tell says what the child was given.
func tell() {
	fmt.Println("args", strings.Join(os.Args[1:], " "))
	fmt.Println("catalog", os.Getenv("TOLLGATE_CATALOG"))
	fmt.Println("data", os.Getenv(dataEnv))
	fmt.Println("upstream", os.Getenv(upstreamEnv))
	fmt.Println("credential", os.Getenv(credentialEnv))
	fmt.Println("pid", os.Getpid())
	fmt.Println("ready")
}

// start runs quickstart with the child playing a part, and returns what the child
// said until it was ready.
func start(t *testing.T, child string, env ...string) (*exec.Cmd, *bufio.Scanner, map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name := range upstreams {
		path := filepath.Join(dir, example{name: name}.catalog())
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin", "quickstart")
	if err := os.Mkdir(filepath.Dir(bin), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(self, bin); err != nil {
		data, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(bin, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(bin, "--gateway-addr", "127.0.0.1:1")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), roleEnv+"=quickstart", "QUICKSTART_TEST_CHILD="+child, "TOLLGATE_BIN="+self, "TOLLGATE_CATALOG=",
		exampleEnv+"=", dataEnv+"=", credentialEnv+"=", "GORACE=atexit_sleep_ms=0")
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a group that is not the test's
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	said := map[string]string{}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
		name, value, _ := strings.Cut(lines.Text(), " ")
		said[name] = value
	}
	return cmd, lines, said
}

func exit(t *testing.T, cmd *exec.Cmd, lines *bufio.Scanner) int {
	t.Helper()
	for lines.Scan() {
	}
	err := cmd.Wait()
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

func TestChildGetsUpstreamAndCatalog(t *testing.T) {
	cmd, lines, said := start(t, "tollgate")
	if want := "up --demo-key --gateway-addr 127.0.0.1:1"; said["args"] != want {
		t.Errorf("arguments %q, want %q", said["args"], want)
	}
	if want := "examples/quickstart/catalog.yaml"; said["catalog"] != want {
		t.Errorf("catalog %q, want %q", said["catalog"], want)
	}
	if said["data"] != "" {
		t.Errorf("data directory %q, want none", said["data"])
	}
	res, err := http.Get(said["upstream"] + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the upstream: %d %s", res.StatusCode, body)
	}
	cmd.Process.Signal(os.Interrupt)
	exit(t, cmd, lines)
	if res, err := http.Get(said["upstream"] + "/v1/models"); err == nil {
		res.Body.Close()
		t.Error("the upstream outlived quickstart")
	}
}

// Each example has its catalog, a data directory of its own, and an upstream that
// knows the credential which the child was given.
func TestExamples(t *testing.T) {
	for name := range upstreams {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat(filepath.Join("..", name, "catalog.yaml")); err != nil {
				t.Error(err)
			}
			cmd, lines, said := start(t, "told", exampleEnv+"="+name)
			e := example{name: name}
			if said["catalog"] != e.catalog() || said["data"] != e.data() || said["credential"] == "" {
				t.Errorf("the child got %v", said)
			}
			exit(t, cmd, lines)
		})
	}
	cmd, lines, _ := start(t, "tollgate", exampleEnv+"=nosuch")
	if got := exit(t, cmd, lines); got != 1 {
		t.Errorf("an unknown example: exit code %d, want 1", got)
	}
}

// A signal reaches the child once, also when it is sent to the whole group, as a
// terminal does it.
func TestSignalReachesChildOnce(t *testing.T) {
	for name, c := range map[string]struct {
		send syscall.Signal
		want string
		all  bool
	}{
		"interrupt":              {syscall.SIGINT, "interrupt", false},
		"terminate":              {syscall.SIGTERM, "terminated", false},
		"hang up":                {syscall.SIGHUP, "terminated", false},
		"interrupt to the group": {syscall.SIGINT, "interrupt", true},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, lines, _ := start(t, "tollgate")
			pid := cmd.Process.Pid
			if c.all {
				pid = -pid
			}
			if err := syscall.Kill(pid, c.send); err != nil {
				t.Fatal(err)
			}
			if !lines.Scan() || lines.Text() != "signal "+c.want {
				t.Errorf("the child said %q, want signal %s", lines.Text(), c.want)
			}
			if got := exit(t, cmd, lines); got != 11 {
				t.Errorf("exit code %d, want 11: one signal", got)
			}
		})
	}
}

func TestExitCodeIsTheChilds(t *testing.T) {
	cmd, lines, _ := start(t, "refuse")
	if got := exit(t, cmd, lines); got != 7 {
		t.Errorf("exit code %d, want 7", got)
	}
}

func TestNoTollgate(t *testing.T) {
	cmd, lines, _ := start(t, "tollgate", "TOLLGATE_BIN=/nonexistent/tollgate")
	if got := exit(t, cmd, lines); got != 1 {
		t.Errorf("exit code %d, want 1", got)
	}
}
