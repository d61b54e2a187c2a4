//go:build unix && !linux

package main

import "syscall"

// childAttributes puts the child into a process group of its own, so that Ctrl-C
// reaches it once, from here, and not a second time from the terminal. Here
// nothing can end it when this process is killed outright.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
