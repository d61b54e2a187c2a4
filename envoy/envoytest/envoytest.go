// Package envoytest starts a real Envoy for tests, with the configuration that
// package envoy generates.
package envoytest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tollgate/envoy"
	"tollgate/events/natstest/freeaddr"
)

// RequireEnv is the variable that, set to anything, makes a missing Envoy fail the test in place of
// skipping it. `make test` sets it.
const RequireEnv = "TOLLGATE_TEST_REQUIRE"

// BinaryEnv names the Envoy to use; see envoy.Find for where it is looked for
// otherwise, the project's directory being that of go.mod.
const BinaryEnv = "TOLLGATE_ENVOY"

// Options say what to start.
type Options struct {
	// Config is the configuration; Config.Listen is chosen by Start where it is
	// "".
	Config envoy.Options
	Spec   envoy.Spec
	// Change, if not nil, may alter the resources before Envoy starts with them.
	Change func(*envoy.Resources)
	// Live makes Envoy get everything from the Fleet of a server at
	// Config.Servers; Spec and Change are not used. It must have been published
	// for Config.Listen.
	Live bool
	// Workers is the number of Envoy's worker threads. 0: 2.
	Workers int
}

// Envoy is one that runs until the end of its test.
type Envoy struct {
	*envoy.Supervisor
	// Addr is the gateway's address, URL the same with http:// before it.
	Addr, URL string
}

// Find returns the Envoy to test with. Without one it skips the test, or fails
// it if RequireEnv is set.
func Find(t testing.TB) string {
	t.Helper()
	name := os.Getenv(BinaryEnv)
	if name == "" {
		if path := filepath.Join(root(), envoy.Installed); isFile(path) {
			name = path
		}
	}
	b, err := envoy.Find(t.Context(), name)
	switch {
	case err == nil:
		return b.Path
	case os.Getenv(RequireEnv) != "" || !errors.Is(err, envoy.ErrNoEnvoy):
		t.Fatal(err)
	default:
		t.Skipf("NOT TESTED: this test needs a real Envoy. %v", err)
	}
	return ""
}

// Start starts an Envoy and returns when it serves. It is stopped at the end of
// the test; if that failed, Envoy's log is shown.
func Start(t testing.TB, o Options) *Envoy {
	t.Helper()
	binary := Find(t)
	if o.Workers == 0 {
		o.Workers = 2
	}
	logs := new(log)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Envoy's log:\n%s", logs)
		}
	})
	chosen := o.Config.Listen == ""
	for try := 0; ; try++ {
		if chosen {
			o.Config.Listen = freeaddr.Take(t)
		}
		e, err := start(t, binary, o, logs)
		if err == nil {
			return e
		}
		// Another test may have taken the address since it was looked at.
		if !chosen || try == 5 || !errors.Is(err, envoy.ErrAddressInUse) {
			t.Fatalf("%v\n%s", err, logs)
		}
	}
}

func start(t testing.TB, binary string, o Options, logs *log) (*Envoy, error) {
	bootstrap, err := bootstrap(o)
	if err != nil {
		return nil, err
	}
	s, err := envoy.Supervise(t.Context(), envoy.SupervisorConfig{
		Binary: binary, Dir: t.TempDir(), Bootstrap: bootstrap, Gateway: o.Config.Listen, Workers: o.Workers,
		StartTimeout: 30 * time.Second, DrainTimeout: 2 * time.Second,
		Logger: slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { s.Stop(context.Background()) })
	return &Envoy{Supervisor: s, Addr: o.Config.Listen, URL: "http://" + o.Config.Listen}, nil
}

func bootstrap(o Options) ([]byte, error) {
	if o.Live {
		return envoy.Bootstrap(o.Config)
	}
	resources, err := envoy.Build(o.Config, o.Spec)
	if err != nil {
		return nil, err
	}
	if o.Change != nil {
		o.Change(resources)
	}
	return envoy.StaticBootstrap(o.Config, resources)
}

// Stats returns Envoy's counters whose names match the regular expression, one
// "name: value" a line.
func (e *Envoy) Stats(t testing.TB, filter string) string {
	t.Helper()
	out, err := e.Admin(t.Context(), http.MethodGet, "/stats?filter="+filter)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// root is the directory of go.mod, from the working directory up; "" if there
// is none.
func root() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if isFile(filepath.Join(dir, "go.mod")) {
			return dir
		}
	}
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// log collects what is written to it.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
