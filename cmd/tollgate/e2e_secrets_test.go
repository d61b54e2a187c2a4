//go:build linux

package main_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// secrets are keys that were shown. It is safe for concurrent use.
type secrets struct {
	mu  sync.Mutex
	all []string
}

func (s *secrets) add(secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, secret)
}

// areNowhere looks for them, at the end of a test, in all that its gate has written
// down and said, the crash output among it.
func (s *secrets) areNowhere(t *testing.T, g *gate) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return
	}
	look := func(where string, text []byte) {
		for i, secret := range s.all {
			if bytes.Contains(text, []byte(secret[len(secret)/2:])) { // not even half of one
				t.Errorf("key %d of the test is in %s", i, where)
			}
		}
	}
	look("the log or the crash output", []byte(g.out.String()))
	err := filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, text)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// crash ends the process as a crash would, which prints all goroutines.
func (g *gate) crash() {
	if g.cmd == nil || g.cmd.Process == nil || g.cmd.ProcessState != nil {
		return
	}
	_ = g.cmd.Process.Signal(syscall.SIGQUIT)
	stuck := time.AfterFunc(20*time.Second, func() { _ = g.cmd.Process.Kill() })
	defer stuck.Stop()
	_ = g.cmd.Wait()
}
