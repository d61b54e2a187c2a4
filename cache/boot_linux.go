package cache

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is CLOCK_BOOTTIME. Go's monotonic clock, CLOCK_MONOTONIC here, stands
// still while the machine sleeps, and a lease by it would outlive the night.
func sinceBoot() time.Duration {
	var now unix.Timespec
	// It fails only where the kernel has no such clock, which Go does not run on.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	return time.Duration(now.Nano())
}
