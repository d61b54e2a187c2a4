package natstest

import "syscall"

// attached makes the child end when the test is killed.
func attached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
