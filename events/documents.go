package events

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Documents takes in documents that are under the same lease as keys. Its method
// is called by the Feed's goroutine, in order with changes of keys; while it
// blocks, the feed stands still.
type Documents interface {
	// Document puts in force what is stored under a name; a nil value: it was
	// deleted by hand. Each session begins with the newest of each that this
	// replica has not seen, before keys are ready; one that failed comes again.
	//
	// After an error the session ends and another one begins, with this document.
	// Until it is taken nothing after it is applied, and the lease runs out: a
	// replica must not go on by what it can't understand.
	Document(name string, value []byte, revision uint64) error
}

// documentPrefix begins the names of documents in the bucket of keys.
const documentPrefix = "d."

// PutDocument writes a document beside the keys, in one order with them: under
// the lease. It does so if its revision is still expect; with 0, only if there is
// none yet. name is [a-z0-9-]{1,63}, value of at most MaxDocument bytes. The rest
// is as with Put.
func (k *Keys) PutDocument(ctx context.Context, name string, value []byte, expect uint64) (uint64, error) {
	if err := checkID("document", name); err != nil {
		return 0, err
	}
	revision, err := k.bucket.put(ctx, documentPrefix+name, value, expect)
	if err != nil {
		return 0, fmt.Errorf("document %s: %w", name, err)
	}
	return revision, nil
}

// GetDocument reads the newest acknowledged form of a document, from the stream's
// leader, and its revision. The error is key.ErrNotFound, or wraps
// key.ErrUnavailable.
func (k *Keys) GetDocument(ctx context.Context, name string) ([]byte, uint64, error) {
	if err := checkID("document", name); err != nil {
		return nil, 0, err
	}
	e, err := k.bucket.get(ctx, documentPrefix+name)
	if err != nil {
		return nil, 0, fmt.Errorf("document %s: %w", name, err)
	}
	return e.value, e.revision, nil
}

// documentName is the name of the document that stands under a name of the
// bucket; ok is false for any other.
func documentName(name string) (document string, ok bool) {
	document, ok = strings.CutPrefix(name, documentPrefix)
	return document, ok && idForm.MatchString(document)
}

// held are documents that were read while a session was not whole, the newest of
// each: what came before was true at no time that matters.
type held map[string]entry

// release gives them out in the order in which they were written. What was taken
// is not held any more.
func (h held) release(to Documents) error {
	for _, name := range slices.SortedFunc(maps.Keys(h), func(a, b string) int {
		return int(h[a].revision) - int(h[b].revision)
	}) {
		if err := giveDocument(to, name, h[name]); err != nil {
			return err
		}
		delete(h, name)
	}
	return nil
}

func giveDocument(to Documents, name string, e entry) error {
	if to == nil {
		return nil
	}
	value := append([]byte{}, e.value...) // not nil where it is empty
	if e.deleted {
		value = nil
	}
	if err := to.Document(name, value, e.revision); err != nil {
		return fmt.Errorf("the document %s of revision %d can't be put in force: %w", name, e.revision, err)
	}
	return nil
}
