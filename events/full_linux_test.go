package events

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tmpfsEnv tells a child of TestFullDisk where to mount its disk.
const tmpfsEnv = "TOLLGATE_TEST_TMPFS"

// TestFullDisk fills a small disk of its own. It needs no rights: it is mounted by
// a child in a user namespace, where the kernel has them. TestFileLimit tests the
// same, but for the reserve, everywhere.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv(tmpfsEnv); dir != "" {
		testFullDisk(t, mountSmall(t, dir))
		return
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	child.Env = append(os.Environ(), tmpfsEnv+"="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("no user namespace here, so no disk to fill: %v", err)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("nothing can be mounted here, so there is no disk to fill:\n%s", out)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	default:
		t.Logf("%s", out)
	}
}

func mountSmall(t *testing.T, dir string) fullDisk {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(dir, "filling")
	return fullDisk{
		dir: filepath.Join(dir, "nats"),
		fill: func() {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := io.Copy(f, zeros{}); !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
		},
		free: func() {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		reserved: true,
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
