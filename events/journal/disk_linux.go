package journal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// preallocate gives f size bytes of disk, all zero, or fails: a write to a
// mapped page of a sparse file would die of SIGBUS on a full disk.
func preallocate(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	for err == unix.EINTR {
		err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return writeZeros(f, 0, size)
	}
	return err
}

// populate makes every page of a fresh mapping present and writable, so that
// no admission takes those faults, and a file system that can't keep its word
// says so here as an error instead of with a signal later.
func populate(mem []byte) error {
	err := unix.Madvise(mem, unix.MADV_POPULATE_WRITE)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.14
		return nil
	}
	if err != nil {
		return fmt.Errorf("making mapped pages writable: %w", err)
	}
	return nil
}

// flush writes a mapping's changed pages to disk and waits for them.
func flush(_ *os.File, mem []byte) error { return unix.Msync(mem, unix.MS_SYNC) }
