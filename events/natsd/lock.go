package natsd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// dirLock is an exclusive lock on a directory. Two servers on one directory both
// start, and were seen to lose an acknowledged key. The kernel gives the lock
// free when the process ends, however it ends.
type dirLock struct{ file *os.File }

const lockFile = "lock"

func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the NATS directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the NATS directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the directory %s is in use by another Tollgate%s: stop that one, or use another directory", dir, holder(f))
		}
		return nil, fmt.Errorf("locking the directory %s: %w", dir, err)
	}
	// The number only helps whoever reads the message above, so a write that
	// fails changes nothing.
	if f.Truncate(0) == nil {
		_, _ = fmt.Fprintln(f, os.Getpid())
	}
	return &dirLock{f}, nil
}

// holder names the process that wrote its number into the lock file.
func holder(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 20))
	if pid := strings.TrimSpace(string(text)); err == nil && pid != "" {
		return " (process " + pid + ")"
	}
	return ""
}

func (l *dirLock) release() error { return l.file.Close() }
