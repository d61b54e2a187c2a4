package events

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDisk fills a small disk of its own. It needs no rights: a process in a
// user namespace may mount one there. Where the system does not let anybody have
// such a namespace it is skipped; TestFileLimit tests the same everywhere, but for
// what the reserve is good for.
func TestFullDisk(t *testing.T) {
	dir := alone(t, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	})
	if dir != "" {
		testFullDisk(t, mountSmall(t, dir))
	}
}

func mountSmall(t *testing.T, dir string) fullDisk {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Skip("nothing can be mounted here: ", err)
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
