package main

import (
	"context"
	"io"
	"time"

	"tollgate/events"
)

// flushForBackup bounds how long a backup waits for events that are settled and
// not in the stream yet: with the stream away they stay in the journal.
const flushForBackup = 5 * time.Second

// backup is manage.Config's Backup.
func (n *node) backup(ctx context.Context, w io.Writer, withEvents bool) error {
	if withEvents {
		fctx, cancel := context.WithTimeout(ctx, flushForBackup)
		defer cancel()
		if err := n.journal.Flush(fctx); err != nil {
			n.log.Warn("the journal has events that are not in the backup", "error", err)
		}
	}
	_, err := events.WriteBackup(ctx, n.changes, n.config, w, n.settings.name, time.Now(), withEvents)
	return asKeyError(err)
}
