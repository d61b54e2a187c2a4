package events

import (
	"context"
	"errors"
	"maps"
	"time"

	"tollgate/authz/key"
)

// trail proves that a stream is still the one that was read so far, all of it.
//
// A heartbeat of ours that stands where we read it, with its nonce, proves that
// for everything before it: at. What was read after it is remembered, and read
// again when a session begins. All of it must be there, or have been overwritten
// by something newer, and nothing else may be. (A server that lost power may have
// lost the last second, and may have stored other things in its place since.)
type trail struct {
	at   uint64          // revision of the heartbeat; 0: there is none, and nothing is proved
	read map[string]mark // what was read last of each name since
	// begins is a copy of read from which a session crosses off what it finds.
	begins map[string]mark
}

// mark names one write: its number, and when it was stored by the clock of the
// server that did, in ns.
type mark struct {
	revision uint64
	stored   time.Time
}

// maxTrail bounds how many names are remembered. More changes than that between
// two heartbeats mean that everything is read anew if the session ends then.
const maxTrail = 1 << 16

// follow notes what was read.
func (t *trail) follow(name string, e entry) {
	switch {
	case t.at == 0:
		return
	case len(t.read) >= maxTrail:
		*t = trail{}
		return
	case t.read == nil:
		t.read = map[string]mark{}
	}
	t.read[name] = mark{e.revision, e.stored}
}

// confirm makes a heartbeat of ours that was read the proof.
func (t *trail) confirm(revision uint64) {
	t.at = revision
	maps.DeleteFunc(t.read, func(_ string, m mark) bool { return m.revision <= revision })
}

// begin begins a session and says where it has to read from.
func (t *trail) begin() (from uint64) {
	t.begins = maps.Clone(t.read)
	return t.at + 1
}

var errOtherStore = errors.New("the store of keys is not the one it was")

// again takes in something that was read before, or that is newer.
func (t *trail) again(name string, e entry, position uint64) error {
	if before, ok := t.begins[name]; e.revision <= position && (!ok || before.revision != e.revision || !before.stored.Equal(e.stored)) {
		return errOtherStore
	}
	delete(t.begins, name)
	return nil
}

// complete is asked when everything has been read: what was not found again must
// have been overwritten since.
func (t *trail) complete(ctx context.Context, c changes) error {
	for name, m := range t.begins {
		e, err := c.last(ctx, name)
		if errors.Is(err, key.ErrNotFound) || err == nil && e.revision <= m.revision {
			return errOtherStore
		}
		if err != nil {
			return err
		}
	}
	t.begins = nil
	return nil
}
