package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// replicaID is who owns this data directory's admissions: made once, kept in it.
func (n *node) replicaID() (string, error) {
	return kept(filepath.Join(n.settings.data, "replica"), func() (string, error) { return uuid.NewString(), nil })
}

// kept returns what a file of the data directory holds, made at first use.
func kept(path string, fresh func() (string, error)) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	value, err := fresh()
	if err != nil {
		return "", err
	}
	return value, writeFile(path, value+"\n")
}

// writeFile writes a file that only its owner reads, whole or not at all.
func writeFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already where all went well
	_, err = f.WriteString(text)               // CreateTemp's mode is 0600
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
