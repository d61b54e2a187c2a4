// Package events is what Tollgate keeps in NATS: the records of keys and the feed
// of their changes (Keys, Feed), documents of which there is one (Config), and
// the stream of usage events with its readers (Usage, Consumers).
//
// It is also the public Go form of a usage event: Event, with the JSON Schema in
// Schema. A program that reads the stream needs nothing else of Tollgate.
//
// Everything takes a *nats.Conn, of the embedded server (package natsd) or of a
// cluster. Nothing here is called while a request waits, but Keys.Get for a key
// that is not in memory.
package events

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// What Config and Consumers answer besides a value. Keys answer with the errors
// of package key instead.
var (
	// ErrNotFound: there is nothing of that name. Final.
	ErrNotFound = errors.New("not found")
	// ErrConflict: it changed since it was read, or exists already. Read it
	// again and try again.
	ErrConflict = errors.New("changed by somebody else meanwhile")
	// ErrUnavailable: NATS can't be asked. A write may or may not have happened.
	ErrUnavailable = errors.New("NATS can't be asked")
)

// askTimeout bounds one question to NATS whose context has no nearer end. A
// crash of a replicated stream's leader stops writes for 4.4–5.0 s (measured).
const askTimeout = 5 * time.Second

// idForm is what workspace ids and consumer names look like. They go into
// subjects, so nothing else may.
var idForm = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

func checkID(what, id string) error {
	if !idForm.MatchString(id) {
		return fmt.Errorf("%s %q must be 1 to 63 of a-z, 0-9 and -", what, id)
	}
	return nil
}
