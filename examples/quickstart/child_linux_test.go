package main

import (
	"strconv"
	"syscall"
	"testing"
	"time"
)

// What is killed outright leaves nothing running either.
func TestChildDiesWithQuickstart(t *testing.T) {
	cmd, lines, said := start(t, "tollgate")
	pid, err := strconv.Atoi(said["pid"])
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Or this test would wait for its output for ever.
	defer time.AfterFunc(time.Minute, func() { syscall.Kill(pid, syscall.SIGKILL) }).Stop()
	if !lines.Scan() || lines.Text() != "signal terminated" {
		t.Errorf("the child said %q, want that it was asked to end", lines.Text())
	}
	// The output ends when the child, which holds the other end, has ended.
	for lines.Scan() {
	}
	cmd.Wait()
}
