package main

import "syscall"

// childAttributes puts the child into a process group of its own, so that Ctrl-C
// reaches it once, from here, and not a second time from the terminal; and makes
// the kernel end it when this process dies without a chance to do so.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
