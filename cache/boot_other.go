//go:build !linux

package cache

import "time"

var started = time.Now()

// sinceBoot is Go's monotonic clock. On some systems it stands still while the
// machine sleeps; don't let replicas run on those that do.
func sinceBoot() time.Duration { return time.Since(started) }
