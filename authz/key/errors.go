package key

import "errors"

// What a store of keys answers besides a record.
var (
	// ErrNotFound: there is no such key. Final.
	ErrNotFound = errors.New("no such key")
	// ErrConflict: the record changed since it was read, or exists already.
	// Read it again and try again.
	ErrConflict = errors.New("the key was changed by somebody else meanwhile")
	// ErrUnavailable: the store can't be asked. It says nothing of the key.
	ErrUnavailable = errors.New("the key store can't be asked")
)
