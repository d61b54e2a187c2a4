//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// testOwnEnvoy runs `tollgate serve` and, in front of it, the two Envoys that
// `tollgate envoy bootstrap` makes: the one that gets its models and credentials
// from Tollgate, and the one that has everything from the start. The upstreams
// get their credentials either way, a new one without a restart, and nobody else
// gets to see them.
func testOwnEnvoy(t *testing.T, b *bench) {
	const fileSecret, nextSecret, envSecret = "sk-from-a-file-4711", "sk-from-a-file-4712", "sk-from-a-variable-0815"
	g := newGate(t, b)
	file := filepath.Join(g.dir, "upstream.key")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(file, fileSecret+"\n")
	catalog := filepath.Join(g.dir, "catalog.yaml")
	text := catalogFor(g.backendURL, "http://"+freeAddr(t)) +
		fmt.Sprintf("  - {id: from/file, upstreamModel: %q, upstreams: [{url: %q}], credential: 'file:%s'}\n", chatModel, g.backendURL, file) +
		fmt.Sprintf("  - {id: from/env, upstreamModel: %q, upstreams: [{url: %q}], credential: {from: 'env:UPSTREAM_KEY', header: X-Api-Key}}\n", chatModel, g.backendURL)
	write(catalog, text)
	g.env = append(g.env, "UPSTREAM_KEY="+envSecret)
	g.start("serve")
	within(t, time.Minute, "ready", func() error {
		if res := g.try(http.MethodGet, "http://"+g.api+"/readyz", "", ""); res.status != http.StatusOK {
			return fmt.Errorf("readyz: %v", res)
		}
		return nil
	})
	k := g.key("--name", "mine")
	shows := func(model, header, want string) {
		t.Helper()
		if res := g.chat(k.Key, chatBody(model, "")); res.status != http.StatusOK {
			t.Fatalf("%s: %v", model, res)
		}
		seen := g.backend.Seen()
		got := seen[len(seen)-1].Header
		if got.Get(header) != want {
			t.Errorf("%s: the upstream was shown %s %q, want %q", model, header, got.Get(header), want)
		}
		if all := fmt.Sprint(got); strings.Contains(all, k.Key) {
			t.Errorf("%s: the upstream was shown the caller's key", model)
		}
	}

	// The small one.
	small := g.cli("envoy", "bootstrap")
	envoy := g.startEnvoy("small", small)
	shows("from/file", "Authorization", "Bearer "+fileSecret)
	shows("from/env", "X-Api-Key", envSecret)
	shows(chatModel, "Authorization", "")

	write(file, nextSecret+"\n") // by itself
	within(t, time.Minute, "a changed file in force", func() error {
		res := g.chat(k.Key, chatBody("from/file", ""))
		seen := g.backend.Seen()
		if got := seen[len(seen)-1].Header.Get("Authorization"); got != "Bearer "+nextSecret || res.status != http.StatusOK {
			return fmt.Errorf("shown %q, status %d", got, res.status)
		}
		return nil
	})
	write(file, fileSecret)
	g.cli("apply", "-f", catalog) // at once
	shows("from/file", "Authorization", "Bearer "+fileSecret)
	end(t, envoy)

	// The whole one.
	write(file, fileSecret+"\n")
	if _, stderr, code := g.tryCLI("envoy", "bootstrap", "--static"); code == 0 || !strings.Contains(stderr, "line's end") {
		t.Errorf("a file that Envoy would read differently: exit code %d, %s", code, stderr)
	}
	write(file, fileSecret)
	static := g.cli("envoy", "bootstrap", "--static")
	envoy = g.startEnvoy("static", static)
	shows("from/file", "Authorization", "Bearer "+fileSecret)
	shows("from/env", "X-Api-Key", envSecret)
	end(t, envoy)

	said := g.out.String() + small + static
	for _, secret := range []string{fileSecret, nextSecret, envSecret} {
		if strings.Contains(said, secret) {
			t.Errorf("%s was printed or logged", secret)
		}
		if found := contains(t, g.data, secret); found != nil {
			t.Errorf("%s is in %v", secret, found)
		}
	}
	g.stop(syscall.SIGTERM)
}

// startEnvoy starts an Envoy with a configuration, in the environment of
// Tollgate's, and waits until the gateway answers.
func (g *gate) startEnvoy(name, config string) *exec.Cmd {
	g.t.Helper()
	dir := filepath.Join(g.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "envoy.yaml"), []byte(config), 0o600); err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command(g.b.envoy, "--config-path", "envoy.yaml", "--concurrency", "2", "--disable-hot-restart", "--log-level", "warning")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), g.env...)
	cmd.Stdout, cmd.Stderr = g.out, g.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = cmd.Process.Kill() })
	g.waitReady()
	return cmd
}

// end asks an Envoy to end, and waits.
func end(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("Envoy: %v", err)
	}
}
