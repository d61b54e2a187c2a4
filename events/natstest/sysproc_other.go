//go:build !linux

package natstest

import "syscall"

// attached is nothing where a child can't be made to end with its parent.
func attached() *syscall.SysProcAttr { return nil }
