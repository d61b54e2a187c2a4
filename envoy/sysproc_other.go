//go:build unix && !linux

package envoy

import "syscall"

// sysProcAttr keeps a terminal's Ctrl-C from Envoy: it shall drain before it
// ends. There is no PDEATHSIG here: after a kill -9 of Tollgate its Envoy goes
// on, refuses everything, and holds the gateway's address.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
