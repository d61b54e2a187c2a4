package totals

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Snapshots are two files: the newest, and the one before it (.before). So one
// that a disk has spoiled costs no more than reading a little further back; what
// the stream no longer has is nowhere else.
const beforeSuffix = ".before"

// load reads the newest snapshot that can be read. Where there is none, totals
// begin from nothing, at the start of the stream. Files that can't be read are set
// aside, for a person or a newer version.
func load(path string, log *slog.Logger) (*state, place, error) {
	for _, p := range []string{path, path + beforeSuffix} {
		b, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, place{}, fmt.Errorf("totals: %w", err)
		}
		s, at, err := readSnapshot(b)
		if err == nil {
			return s, at, nil
		}
		aside := p + ".corrupt"
		if errors.Is(err, errNewer) {
			aside = p + ".newer"
		}
		log.Error("a snapshot of totals can't be read and is set aside; they are counted again from an older one or from the stream, which lacks what is beyond its retention",
			"file", aside, "error", err)
		if err := os.Rename(p, aside); err != nil {
			return nil, place{}, fmt.Errorf("totals: %w", err)
		}
	}
	return newState(), place{}, nil
}

// save writes a snapshot, whole or not at all, wherever the process is killed or
// the power fails.
func save(path string, s *state, at place) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	// One name, so that what a kill leaves is written over. The mode is for us
	// alone: the names of models and users are nobody else's.
	f, err := os.OpenFile(path+".writing", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(s.writeSnapshot(f, at), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name())) // it may be what fills the disk
	}
	if err := os.Rename(path, path+beforeSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
