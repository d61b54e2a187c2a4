//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tollgate/events/natstest/freeaddr"
	"tollgate/examples/backend"
)

// The models of the tests' catalog.
const (
	chatModel      = "meta-llama/Llama-3.1-8B-Instruct"
	embeddingModel = "BAAI/bge-small-en-v1.5"
	audioModel     = "openai/whisper-1"
	coldModel      = "cold/not-deployed"
	downModel      = "down/nobody-listens"
)

// catalogFor is a catalog whose models are all at one backend, but for the one
// whose backend is down. No plan limits anything.
func catalogFor(backendURL, downURL string) string {
	var b strings.Builder
	b.WriteString("workspaces: [{id: demo, plan: open}]\nplans: [{id: open}]\n" +
		"routes: [{dialect: openai}, {dialect: podstack}]\nmodels:\n")
	for _, id := range []string{chatModel, embeddingModel, audioModel} {
		fmt.Fprintf(&b, "  - {id: %q, deployed: true, upstreams: [{url: %q}]}\n", id, backendURL)
	}
	fmt.Fprintf(&b, "  - {id: %q, deployed: false, upstreams: [{url: %q}]}\n", coldModel, backendURL)
	fmt.Fprintf(&b, "  - {id: %q, deployed: true, upstreams: [{url: %q}]}\n", downModel, downURL)
	return b.String()
}

// gate is one `tollgate up` (or serve) under test, its backend and what it said.
type gate struct {
	t       *testing.T
	b       *bench
	dir     string // the working directory
	data    string
	gateway string // host:port, as all of these
	api     string
	grpc    string
	nats    string
	env     []string
	backend *backend.Backend
	// backendURL is where it is.
	backendURL string

	cmd *exec.Cmd
	out *output
	// keys are the secrets of all keys that key made.
	keys *secrets
}

// newGate prepares a gate with addresses, a directory and a backend of its own,
// and starts nothing.
func newGate(t *testing.T, b *bench) *gate {
	t.Helper()
	g := &gate{
		t: t, b: b, dir: t.TempDir(), gateway: freeAddr(t), api: freeAddr(t), grpc: freeAddr(t), nats: freeAddr(t),
		backend: backend.New(backend.Options{Keep: 100_000}), out: &output{}, keys: &secrets{},
	}
	g.data = filepath.Join(g.dir, "data")
	server := httptest.NewServer(g.backend)
	t.Cleanup(server.Close)
	g.backendURL = server.URL
	catalog := filepath.Join(g.dir, "catalog.yaml")
	if err := os.WriteFile(catalog, []byte(catalogFor(server.URL, "http://"+freeAddr(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	g.env = []string{
		"TOLLGATE_GATEWAY_ADDR=" + g.gateway, "TOLLGATE_API_ADDR=" + g.api, "TOLLGATE_GRPC_ADDR=" + g.grpc,
		"TOLLGATE_METRICS_ADDR=" + freeAddr(t), "TOLLGATE_NATS_LISTEN=" + g.nats, "TOLLGATE_NATS_URL=",
		"TOLLGATE_DATA=" + g.data, "TOLLGATE_CATALOG=" + catalog, "TOLLGATE_ENVOY=" + b.envoy, "TOLLGATE_OPERATOR_KEY=",
	}
	t.Cleanup(func() {
		said := g.out.tail(200)
		g.crash()
		if t.Failed() {
			t.Logf("what tollgate said last:\n%s", said)
		}
		g.keys.areNowhere(t, g)
	})
	return g
}

// startGate is newGate and `tollgate up`, ready.
func startGate(t *testing.T, b *bench) *gate {
	t.Helper()
	g := newGate(t, b)
	g.start("up")
	g.waitReady()
	return g
}

// start runs a command of the binary in the background.
func (g *gate) start(args ...string) {
	g.t.Helper()
	g.cmd = g.command(args...)
	g.cmd.Stdout, g.cmd.Stderr = g.out, g.out
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gate) command(args ...string) *exec.Cmd {
	cmd := exec.Command(g.b.tollgate, args...)
	cmd.Dir = g.dir
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), g.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = 10 * time.Second // should something hold its output
	return cmd
}

// waitReady waits until the API is ready and the gateway refuses a caller without
// a key, which takes the whole chain.
func (g *gate) waitReady() {
	g.t.Helper()
	within(g.t, time.Minute, "ready", func() error {
		if g.cmd != nil && exited(g.cmd.Process.Pid) {
			g.t.Fatal("tollgate ended before it was ready")
		}
		if res := g.try(http.MethodGet, "http://"+g.api+"/readyz", "", ""); res.status != http.StatusOK {
			return fmt.Errorf("readyz: %v", res)
		}
		if res := g.try(http.MethodGet, "http://"+g.gateway+"/v1/models", "", ""); res.status != http.StatusUnauthorized {
			return fmt.Errorf("the gateway, without a key: %v", res)
		}
		return nil
	})
}

// stop sends a signal and returns the exit code.
func (g *gate) stop(s syscall.Signal) int {
	g.t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		g.t.Fatal(err)
	}
	return g.wait(30 * time.Second)
}

// wait waits for the end and returns the exit code.
func (g *gate) wait(limit time.Duration) int {
	g.t.Helper()
	timer := time.AfterFunc(limit, func() { _ = g.cmd.Process.Kill() })
	err := g.cmd.Wait()
	if !timer.Stop() {
		g.t.Fatalf("tollgate went on for more than %v", limit)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		g.t.Fatal(err)
	}
	return g.cmd.ProcessState.ExitCode()
}

// kill ends the process, and by its parent-death signal its Envoy, outright.
func (g *gate) kill() {
	if g.cmd != nil && g.cmd.Process != nil && g.cmd.ProcessState == nil {
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
	}
}

// cli runs a command that must succeed and returns what it printed.
func (g *gate) cli(args ...string) string {
	g.t.Helper()
	stdout, stderr, code := g.tryCLI(args...)
	if code != 0 {
		g.t.Fatalf("tollgate %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

func (g *gate) tryCLI(args ...string) (stdout, stderr string, code int) {
	g.t.Helper()
	cmd := g.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			g.t.Fatal(err)
		}
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// newKey is what `key create -o json` prints.
type newKey struct{ ID, Name, Key, Prefix, CreatedAt string }

func (g *gate) key(args ...string) newKey {
	g.t.Helper()
	k := decodeJSON[newKey](g.t, g.cli(append([]string{"key", "create", "-o", "json"}, args...)...))
	if k.Key == "" || k.ID == "" {
		g.t.Fatal("key create printed no key")
	}
	g.keys.add(k.Key)
	return k
}

// python runs a script of testdata/py and returns what it printed.
func (g *gate) python(script string, args ...string) string {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), g.b.python, append([]string{filepath.Join("testdata", "py", script)}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+g.b.pythonPath, "PYTHONDONTWRITEBYTECODE=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		g.t.Fatalf("%s: %v\n%s%s", script, err, out.String(), errs.String())
	}
	return out.String()
}

// event is a usage event, as far as the tests look into it.
type event struct {
	SpecVersion, Type, Source, ID, Subject, DataContentType string
	Time                                                    time.Time
	Data                                                    struct {
		RequestID, Workspace, Key, Model, Dialect, Outcome, Measurement string
		Status                                                          int
		Stream                                                          bool
		InputTokens, CacheReadInputTokens, OutputTokens                 int
		DurationMs                                                      int
	}
}

// events are all usage events so far.
func (g *gate) events() []event {
	g.t.Helper()
	var all []event
	lines := bufio.NewScanner(strings.NewReader(g.cli("events", "list", "--since", "24h", "-o", "json")))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		all = append(all, decodeJSON[event](g.t, lines.Text()))
	}
	return all
}

// eventsOf waits until a key has n usage events, sees to it that there aren't
// more, and returns them by request id.
func (g *gate) eventsOf(k newKey, n int) map[string]event {
	g.t.Helper()
	byRequest := map[string]event{}
	within(g.t, time.Minute, "events", func() error {
		clear(byRequest)
		for _, e := range g.events() {
			if e.Data.Key != k.ID {
				continue
			}
			if _, twice := byRequest[e.Data.RequestID]; twice {
				g.t.Fatalf("two events for request %s", e.Data.RequestID)
			}
			byRequest[e.Data.RequestID] = e
		}
		if len(byRequest) > n {
			g.t.Fatalf("%d events for the key, want %d: %+v", len(byRequest), n, byRequest)
		}
		if len(byRequest) < n {
			return fmt.Errorf("%d events for the key, want %d: %+v", len(byRequest), n, byRequest)
		}
		return nil
	})
	return byRequest
}

// contains reports whether any file below dir contains the text.
func contains(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// output keeps what a process says. It is safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// tail is the last n lines.
func (o *output) tail(n int) string {
	lines := strings.Split(o.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func decodeJSON[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %.1000s", err, text)
	}
	return v
}

// within asks again until there is no error, and fails when the time is up.
func within(t *testing.T, limit time.Duration, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not %s within %v: %v", what, limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// freeAddr is a loopback address that nobody listens at.
func freeAddr(t *testing.T) string {
	t.Helper()
	return freeaddr.Take(t)
}
