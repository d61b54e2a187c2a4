package envoy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tollgate/envoy"
	"tollgate/envoy/envoytest"
	"tollgate/events/natstest/freeaddr"
)

// config is one that starts, with nothing behind it.
func config(t testing.TB, addr string) []byte {
	t.Helper()
	o := envoy.Options{Listen: addr, Servers: []string{"127.0.0.1:1"}}
	r, err := envoy.Build(o, envoy.Spec{Routes: []envoy.Route{{Prefix: "/v1"}}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := envoy.StaticBootstrap(o, r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// An Envoy that dies is started again, in a directory of any length.
func TestSuperviseRestarts(t *testing.T) {
	binary, addr := envoytest.Find(t), freeaddr.Take(t)
	exits := make(chan error, 8)
	s, err := envoy.Supervise(t.Context(), envoy.SupervisorConfig{
		Binary: binary, Dir: filepath.Join(t.TempDir(), strings.Repeat("long/", 30)), Bootstrap: config(t, addr), Gateway: addr, Workers: 1,
		OnExit: func(err error) { exits <- err }, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	first := s.PID()
	for range 2 {
		if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := <-exits; err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("OnExit was told %v", err)
		}
		eventually(t, "another Envoy", func() bool {
			state, err := s.Admin(t.Context(), http.MethodGet, "/ready")
			return err == nil && strings.TrimSpace(state) == "LIVE"
		})
	}
	last := s.PID()
	if last == first {
		t.Error("it has the same process id")
	}
	s.Stop(t.Context())
	s.Stop(t.Context()) // a second time does nothing
	if alive(last) {
		t.Error("Envoy outlived Stop")
	}
	if len(exits) != 0 {
		t.Errorf("OnExit was told of the end that Stop made: %v", <-exits)
	}
}

// Stop while Envoy is down between two starts ends the supervisor too.
func TestStopBetweenStarts(t *testing.T) {
	binary, addr := envoytest.Find(t), freeaddr.Take(t)
	died := make(chan struct{}, 1)
	s, err := envoy.Supervise(t.Context(), envoy.SupervisorConfig{
		Binary: binary, Dir: t.TempDir(), Bootstrap: config(t, addr), Gateway: addr, Workers: 1,
		OnExit: func(error) { died <- struct{}{} }, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-died
	s.Stop(t.Context())
	if alive(s.PID()) {
		t.Error("Envoy outlived Stop")
	}
}

func TestSuperviseFails(t *testing.T) {
	binary, addr := envoytest.Find(t), freeaddr.Take(t)
	taken, err := net.Listen("tcp", freeaddr.Take(t))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ok := config(t, addr)
	sleeper := filepath.Join(t.TempDir(), "sleeper")
	if err := os.WriteFile(sleeper, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*envoy.SupervisorConfig)
		want   string
		is     error
	}{
		"address in use": {func(c *envoy.SupervisorConfig) { c.Gateway = taken.Addr().String() }, "another program has it", envoy.ErrAddressInUse},
		"not ours":       {func(c *envoy.SupervisorConfig) { c.Gateway = "192.0.2.1:80" }, "can't listen on 192.0.2.1:80", nil},
		"broken config":  {func(c *envoy.SupervisorConfig) { c.Bootstrap = []byte("nonsense: 1\n") }, "no such field: 'nonsense'", nil},
		"no such binary": {func(c *envoy.SupervisorConfig) { c.Binary = "/nowhere/envoy" }, "no such file", nil},
		"never serves": {func(c *envoy.SupervisorConfig) {
			c.Binary, c.StartTimeout = sleeper, 100*time.Millisecond
		}, "did not serve within 100ms", context.DeadlineExceeded},
		"a canceled start": {nil, "canceled", context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := envoy.SupervisorConfig{Binary: binary, Dir: t.TempDir(), Bootstrap: ok, Gateway: addr, Workers: 1, Logger: quiet()}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.change == nil {
				cancel()
			} else {
				c.change(&cfg)
			}
			_, err := envoy.Supervise(ctx, cfg)
			// Protobuf puts a varying number of blanks into its texts.
			if err == nil || !strings.Contains(strings.Join(strings.Fields(err.Error()), " "), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

// Stop lets a running request end, takes no new ones, and waits for its
// settlement.
func TestStopDrains(t *testing.T) {
	release := make(chan struct{})
	g := newGate(t, func(http.ResponseWriter, *http.Request) { <-release }, nil)
	running := g.start(t)
	eventually(t, "a running request", func() bool {
		return strings.Contains(g.Stats(t, `^cluster\.model\.upstream_rq_active$`), ": 1")
	})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		g.Stop(context.Background())
	}()
	eventually(t, "a closed listener", func() bool {
		conn, err := net.Dial("tcp", g.Addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	select {
	case <-stopped:
		t.Error("Stop did not wait")
	default:
	}
	close(release)
	if a := <-running; a.status != 200 {
		t.Errorf("the running request ended with %d", a.status)
	}
	<-stopped
	if n := g.settled.count(t); n != 1 {
		t.Errorf("%d settlements when Envoy was gone", n)
	}
}

// Streams that don't end in time are cut off, and each is settled before Envoy ends.
func TestStopSettlesWhatItCutsOff(t *testing.T) {
	d := newDeployment(t, 1, 0)
	e := envoytest.Start(t, envoytest.Options{Config: d.config, Live: true, Workers: 4})
	eventually(t, "the first answer", func() bool { return d.once(http.DefaultClient, false).good() })
	const streams = 200
	var opened, ended sync.WaitGroup
	opened.Add(streams)
	for range streams {
		ended.Go(func() {
			resp, err := http.Get(e.URL + "/v1/long")
			opened.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Error("a stream that was cut off looks complete")
			}
		})
		time.Sleep(2 * time.Millisecond) // not the burst is tested
	}
	opened.Wait()
	if open, _ := d.open(); open != streams {
		t.Fatalf("%d are open", open)
	}
	start := time.Now()
	e.Stop(t.Context())
	ended.Wait()
	open, repeated := d.open()
	// Envoy tells at least once: where an answer comes late it tells again, and
	// nobody pays twice (package authz).
	t.Logf("Stop took %v, %d settlements came more than once", time.Since(start), repeated)
	if open > 0 {
		t.Errorf("of %d streams %d were not settled", streams, open)
	}
}

// A cut that was made in a directory is not the next Envoy's.
func TestCutIsOver(t *testing.T) {
	d := newDeployment(t, 1, 0)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cut"), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	bootstrap, err := envoy.Bootstrap(d.config)
	if err != nil {
		t.Fatal(err)
	}
	s, err := envoy.Supervise(t.Context(), envoy.SupervisorConfig{
		Binary: envoytest.Find(t), Dir: dir, Bootstrap: bootstrap, Gateway: d.config.Listen, Workers: 1, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(context.Background())
	for start := time.Now(); time.Since(start) < time.Second; { // Envoy reads the file four times a second
		if o := d.once(http.DefaultClient, true); !o.good() {
			t.Errorf("a stream: %d, %v", o.status, o.err)
		}
	}
}

// helperEnv makes this test binary a program that supervises an Envoy; its
// value is the gateway's address.
const helperEnv = "TOLLGATE_TEST_SUPERVISOR"

func TestMain(m *testing.M) {
	if addr := os.Getenv(helperEnv); addr != "" {
		supervisor(addr)
	}
	os.Exit(m.Run())
}

func supervisor(addr string) {
	o := envoy.Options{Listen: addr, Servers: []string{"127.0.0.1:1"}}
	r, err := envoy.Build(o, envoy.Spec{Routes: []envoy.Route{{Prefix: "/v1"}}})
	if err != nil {
		panic(err)
	}
	b, err := envoy.StaticBootstrap(o, r)
	if err != nil {
		panic(err)
	}
	s, err := envoy.Supervise(context.Background(), envoy.SupervisorConfig{Binary: os.Args[1], Dir: os.Args[2], Bootstrap: b, Gateway: addr, Workers: 1})
	if err != nil {
		panic(err)
	}
	fmt.Println(s.PID())
	select {}
}

// kill -9 of Tollgate takes its Envoy with it.
func TestEnvoyDiesWithItsParent(t *testing.T) {
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Skip("only Linux can do that")
	}
	binary := envoytest.Find(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, binary, t.TempDir())
	cmd.Env = append(os.Environ(), helperEnv+"="+freeaddr.Take(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	line, _ := bufio.NewReader(out).ReadString('\n')
	if _, err := fmt.Sscan(line, &pid); err != nil || !alive(pid) {
		t.Fatalf("no Envoy: %q", line)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "Envoy's end", func() bool { return !alive(pid) })
}

// alive reports whether a process runs. One that nobody has waited for yet does
// not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}
