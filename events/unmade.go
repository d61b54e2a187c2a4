package events

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Codes of nats-server for what doesn't fit.
const (
	accountExceeded jetstream.ErrorCode = 10002 // JSAccountResourcesExceededErr
	storageExceeded jetstream.ErrorCode = 10047 // JSStorageResourcesExceededErr
	tooManyStreams  jetstream.ErrorCode = 10027 // JSMaximumStreamsLimitErr
	storeFailed     jetstream.ErrorCode = 10077 // JSStreamStoreFailedF
)

// unmade says of a stream or bucket that is not there why it could not be made, and
// what to do about it.
func unmade(nc *nats.Conn, what string, err error) error {
	err = denied(nc, err)
	todo := ""
	switch {
	case errors.Is(err, nats.ErrPermissionViolation):
		todo = "; without the right to, let an administrator make it (tollgate nats setup)"
	case noRoom(err):
		todo = "; JetStream has no room to set aside for it: each server that holds a copy needs 12 GiB for all of Tollgate's (max_file_store of the server, max_file of the account), or make it yourself with less (docs/nats.md)"
	case refusedBy(err, tooManyStreams):
		todo = "; Tollgate has six: raise max_streams of the account"
	}
	return fmt.Errorf("%s is not there and could not be made%s: %w", what, todo, err)
}

// fullStream says of a stream that takes no more because of its own bounds what to do. Other
// errors it returns as they are.
func fullStream(err error, stream string) error {
	if !refusedBy(err, storeFailed) || !strings.Contains(err.Error(), "exceeded") {
		return err
	}
	return fmt.Errorf("the stream %s is full: raise its bounds (max_bytes), or lower its max_age: %w", stream, err)
}

// lost says of a stream that was there, and is not any more, what to do. Other errors
// it returns as they are.
func lost(err error, stream, todo string) error {
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	return fmt.Errorf("the stream %s was deleted: %s: %w", stream, todo, err)
}

// noRoom reports whether servers have not the room on disk that a stream sets aside.
// That they are too few shows by the same code, and is another matter.
func noRoom(err error) bool {
	return refusedBy(err, storageExceeded) || refusedBy(err, accountExceeded) ||
		refusedBy(err, noPeers) && strings.Contains(err.Error(), "insufficient storage") && !strings.Contains(err.Error(), "offline")
}
