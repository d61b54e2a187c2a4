package events

import (
	"strconv"
	"strings"
)

// PositionHeader is the header of a stored event that says where its publisher's
// journal has it, see Position. Events of versions before it, and events that
// somebody restored without their headers, have none.
const PositionHeader = "Tollgate-Position"

// Position is where an event stands in the journal of the replica that published
// it. No two events have the same one, and a repetition of an event has the same
// again: so whoever counts can tell a repetition after any time. An event that
// was closed in place of its owner has the position of who closed it.
type Position struct {
	Replica string // [A-Za-z0-9_-], 1 to 63 characters
	// Epoch is one opening of the journal; only ever larger in later ones.
	Epoch uint64
	// Seq counts the events of an epoch from 1; a kill leaves numbers out.
	Seq uint64
}

// Known reports whether p is a position; the zero Position is not.
func (p Position) Known() bool { return p.Seq > 0 && p.Epoch > 0 && isReplica(p.Replica) }

// positionVersion begins the written form: v1/REPLICA/EPOCH/SEQ.
const positionVersion = "v1"

// String is the header's value.
func (p Position) String() string {
	b := make([]byte, 0, len(positionVersion)+len(p.Replica)+2*20+3)
	b = append(b, positionVersion+"/"...)
	b = append(append(b, p.Replica...), '/')
	b = append(strconv.AppendUint(b, p.Epoch, 10), '/')
	return string(strconv.AppendUint(b, p.Seq, 10))
}

// ParsePosition reads a header's value. What is not a position, or is of a newer
// version, is none: the event can still be told by its id.
func ParsePosition(s string) (Position, bool) {
	version, s, _ := strings.Cut(s, "/")
	replica, s, _ := strings.Cut(s, "/")
	epoch, seq, ok := strings.Cut(s, "/")
	if !ok || version != positionVersion {
		return Position{}, false
	}
	p := Position{Replica: replica}
	var err error
	if p.Epoch, err = strconv.ParseUint(epoch, 10, 64); err != nil {
		return Position{}, false
	}
	if p.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil || !p.Known() {
		return Position{}, false
	}
	return p, true
}

func isReplica(s string) bool {
	const most = 63
	return s != "" && len(s) <= most && strings.Trim(s, slugAlphabet) == ""
}
