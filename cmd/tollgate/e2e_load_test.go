//go:build linux

package main_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// testLoad holds many slow streams open, and passes an answer of 100 MB. Memory
// may grow by what a stream costs, and not by time or by what passes.
func testLoad(t *testing.T, b *bench) {
	const (
		// 10,000 take 12 s to open and as long to settle here, with the race
		// detector, and 40 s on a busy machine; what one costs is the same.
		streams   = 4000
		fails     = streams / 200 // checks that take longer than a second on a busy machine
		perStream = 96 << 10      // bytes, in Envoy and in Tollgate (with the race detector) each
		big       = 100_000_000
		bigGrows  = 48 // MiB
	)
	g := newGate(t, b)
	load := startStreams(t)
	catalog := filepath.Join(g.dir, "load.yaml")
	if err := os.WriteFile(catalog, []byte(catalogFor(load.upstream, "http://"+freeAddr(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	g.env = append(g.env, "TOLLGATE_CATALOG="+catalog)
	g.start("up")
	g.waitReady()
	k := g.key("--name", "load")
	pids := map[string]int{"tollgate": g.cmd.Process.Pid, "Envoy": envoyOf(t, g.cmd.Process.Pid)}
	resident := func() map[string]int {
		now := map[string]int{}
		for name, pid := range pids {
			now[name] = residentMiB(t, pid)
		}
		return now
	}
	at := fmt.Sprintf(" %s %s %s ", g.gateway, k.Key, chatModel)

	empty := resident()
	peak := map[string]*atomic.Int64{"tollgate": {}, "Envoy": {}}
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			for name, now := range resident() {
				peak[name].Store(max(peak[name].Load(), int64(now)))
			}
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	start := time.Now()
	n := load.ask(t, "big"+at+strconv.Itoa(big))
	close(done)
	<-watched
	if n != big {
		t.Errorf("%d of %d bytes came", n, big)
	}
	for name := range pids {
		t.Logf("100 MB in %v: %s %d MiB before, at most %d", time.Since(start).Round(time.Millisecond), name, empty[name], peak[name].Load())
		if grown := int(peak[name].Load()) - empty[name]; grown > bigGrows {
			t.Errorf("%s grew by %d MiB", name, grown)
		}
	}

	empty = resident()
	start = time.Now()
	opened := load.ask(t, "open"+at+strconv.Itoa(streams))
	if opened < streams-fails {
		t.Errorf("%d of %d streams are open", opened, streams)
	}
	took := time.Since(start)
	full := resident()
	// Some events of each stream later nothing more is held.
	time.Sleep(4 * time.Second)
	later := resident()
	if res := g.chat(k.Key, chatBody(chatModel, ""), "x-bytes: 1000"); res.status != http.StatusOK {
		t.Errorf("one more: %v", res)
	}
	if n := load.ask(t, "close"); n != opened {
		t.Errorf("%d of %d streams went to their end", n, opened)
	}
	t.Logf("%d streams open after %v; MiB: empty %v, full %v, after more events %v", opened, took.Round(time.Millisecond), empty, full, later)
	for name := range pids {
		if grown := full[name] - empty[name]; grown > streams*perStream>>20 {
			t.Errorf("%s takes %d MiB for %d streams", name, grown, streams)
		}
		if grown := later[name] - full[name]; grown > max(20, full[name]/10) {
			t.Errorf("%s grew from %d to %d MiB while the streams went on", name, full[name], later[name])
		}
	}
	within(t, time.Minute, "settled", func() error {
		// A check whose answer came too late for Envoy is open until the sweep.
		if n := g.metric("tollgate_admissions_open"); n > fails {
			return fmt.Errorf("%v admissions are open", n)
		}
		return nil
	})
}

// metric is a figure of Tollgate's own.
func (g *gate) metric(name string) float64 {
	g.t.Helper()
	addr := ""
	for _, e := range g.env {
		if value, ok := strings.CutPrefix(e, "TOLLGATE_METRICS_ADDR="); ok {
			addr = value
		}
	}
	for line := range strings.Lines(g.try(http.MethodGet, "http://"+addr+"/metrics", "", "").body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				g.t.Fatal(err)
			}
			return v
		}
	}
	g.t.Fatalf("there is no metric %s", name)
	return 0
}

// streams is testdata/streams under way.
type streams struct {
	upstream string
	in       *os.File
	out      *bufio.Scanner
}

func startStreams(t *testing.T) *streams {
	t.Helper()
	program := filepath.Join(t.TempDir(), "streams")
	if msg, err := exec.Command("go", "build", "-o", program, "./testdata/streams").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	cmd := exec.Command(program)
	cmd.Stderr = &output{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	t.Cleanup(func() {
		write.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("what the callers said last:\n%s", cmd.Stderr.(*output).tail(20))
		}
	})
	s := &streams{in: write, out: bufio.NewScanner(out)}
	if !s.out.Scan() {
		t.Fatal("the upstream said nothing")
	}
	s.upstream = s.out.Text()
	return s
}

// ask sends a command and returns the figure that it is answered with.
func (s *streams) ask(t *testing.T, command string) int {
	t.Helper()
	if _, err := fmt.Fprintln(s.in, command); err != nil {
		t.Fatal(err)
	}
	if !s.out.Scan() {
		t.Fatalf("no answer to %s", strings.Fields(command)[0])
	}
	n, err := strconv.Atoi(s.out.Text())
	if err != nil {
		t.Fatal(err)
	}
	return n
}
