package envoy

import "syscall"

// sysProcAttr makes the kernel kill Envoy when we die, however we die, and keeps
// a terminal's Ctrl-C from it: it shall drain before it ends.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
