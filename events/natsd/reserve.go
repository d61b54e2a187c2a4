package natsd

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// reserve is a file that takes room on the disk, to be given back when there is
// no other: so that keys can be revoked on a full disk.
type reserve struct{ path string }

// reserveBytes is enough for some thousand changes of keys, and less than a
// segment of the journal, which so can't take it.
const reserveBytes = 8 << 20

// make makes the reserve unless it is there whole, and syncs it. The error is
// unix.ENOSPC where the disk has not twice its room: were once enough, a disk
// would no longer count as full right after the reserve was given back.
func (r reserve) make() (err error) {
	if info, err := os.Stat(r.path); err == nil && info.Size() == reserveBytes {
		return nil
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(r.path), &disk); err != nil {
		return err
	}
	// Their integer types differ between systems.
	if float64(disk.Bavail)*float64(disk.Bsize) < 2*reserveBytes {
		return unix.ENOSPC
	}
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// Random, because a file system that compresses gives zeros no room.
	_, err = io.CopyN(f, rand.Reader, reserveBytes)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(r.path))
	}
	return nil
}

// release gives the reserve's room back. It reports whether there was any.
func (r reserve) release() (bool, error) {
	err := os.Remove(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
