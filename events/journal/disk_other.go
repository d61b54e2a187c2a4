//go:build unix && !linux

package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

// preallocate gives f size bytes of disk, all zero, or fails.
func preallocate(f *os.File, size int64) error { return writeZeros(f, 0, size) }

// populate does nothing: pages of a file that was just written are there.
func populate([]byte) error { return nil }

// flush writes a mapping's changed pages to disk and waits for them. msync
// stops at the drive's cache on macOS; Sync goes through it.
func flush(f *os.File, mem []byte) error {
	if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
		return err
	}
	return f.Sync()
}
