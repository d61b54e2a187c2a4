package envoy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Version is the series of Envoy that Build's configuration is for and that the
// tests run with.
const Version = "1.40"

// Binary is an Envoy that can be run.
type Binary struct {
	Path    string
	Version string // "1.40.0"
	// Warning is a sentence for the operator where the version is another one
	// than Version; "" otherwise.
	Warning string
}

// Installed is where `make tools` puts Envoy, below the project's directory.
const Installed = ".tools/envoy/envoy/_bin/envoy"

// ErrNoEnvoy is what Find wraps when there is none.
var ErrNoEnvoy = errors.New("no Envoy was found")

// Find returns the Envoy to run: the named one or else, if name is "", the one
// on PATH, and then the project's own (Installed, below the working directory
// or beside the directory of this program). It asks the binary for its version
// and refuses one that is older than Version.
func Find(ctx context.Context, name string) (Binary, error) {
	path, err := find(name)
	if err != nil {
		return Binary{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return Binary{}, fmt.Errorf("%s doesn't run: %w: %s", path, err, firstLine(out))
	}
	return judge(path, string(out))
}

func find(name string) (string, error) {
	if name != "" {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("%w: %s was named: %w", ErrNoEnvoy, name, err)
		}
		return filepath.Abs(path)
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return filepath.Abs(path)
	}
	candidates := []string{Installed}
	if self, err := os.Executable(); err == nil {
		candidates = append(candidates, filepath.Join(filepath.Dir(self), "..", Installed))
	}
	for _, c := range candidates {
		if path, err := exec.LookPath("./" + c); err == nil {
			return filepath.Abs(path)
		}
		if path, err := exec.LookPath(c); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("%w on PATH or in %s: run `make tools`, or name one with --envoy or TOLLGATE_ENVOY", ErrNoEnvoy, Installed)
}

// versionLine is in what envoy --version says: HASH/1.40.0/Clean/RELEASE/BoringSSL.
var versionLine = regexp.MustCompile(`version: [0-9a-f]+/(\d+)\.(\d+)\.(\d+)`)

func judge(path, out string) (Binary, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return Binary{}, fmt.Errorf("%s is not an Envoy: asked for its version it says %q", path, firstLine([]byte(out)))
	}
	b := Binary{Path: path, Version: strings.Join(m[1:], ".")}
	var major, minor, wantMajor, wantMinor int
	if _, err := fmt.Sscanf(b.Version, "%d.%d", &major, &minor); err != nil {
		return Binary{}, fmt.Errorf("%s: version %q: %w", path, b.Version, err)
	}
	if _, err := fmt.Sscanf(Version, "%d.%d", &wantMajor, &wantMinor); err != nil {
		return Binary{}, err
	}
	switch {
	case major < wantMajor || major == wantMajor && minor < wantMinor:
		return Binary{}, fmt.Errorf("%s is Envoy %s; %s or newer is needed. `make tools` installs it", path, b.Version, Version)
	case major != wantMajor || minor != wantMinor:
		b.Warning = fmt.Sprintf("%s is Envoy %s; this Tollgate is tested with %s", path, b.Version, Version)
	}
	return b, nil
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
