package events

import (
	"encoding/binary"
	"errors"

	"tollgate/events/journal"
)

// An event that belongs to no open admission goes into the journal as an
// admission of its own, which has the event in it and is settled with it at once.
// A process that is killed in between leaves it open, and the next one settles
// it. Its form, version 1: a zero (no admission begins with one), the version,
// then subject and message id, each as a length and bytes, then the payload.
const (
	lateMark    = 0
	lateVersion = 1
)

func isLateEvent(record []byte) bool { return len(record) > 0 && record[0] == lateMark }

func encodeLate(e journal.Event) []byte {
	b := make([]byte, 0, 2+2*binary.MaxVarintLen32+len(e.Subject)+len(e.MsgID)+len(e.Payload))
	b = append(b, lateMark, lateVersion)
	for _, s := range [...]string{e.Subject, e.MsgID} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return append(b, e.Payload...)
}

var errLate = errors.New("an event in the journal that can't be read")

func decodeLate(record []byte) (e journal.Event, err error) {
	if len(record) < 2 || record[0] != lateMark || record[1] != lateVersion {
		return e, errLate
	}
	rest := record[2:]
	for _, s := range [...]*string{&e.Subject, &e.MsgID} {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return journal.Event{}, errLate
		}
		*s, rest = string(rest[n:n+int(size)]), rest[n+int(size):]
	}
	e.Payload = rest
	return e, nil
}

// publishLate writes an event down, durably. An error means that it is not.
func (l *Ledger) publishLate(e journal.Event) error {
	record := encodeLate(e)
	ref, err := l.journal.Admit(record)
	if err != nil {
		return err
	}
	// Should this fail, the next start does it.
	_ = l.journal.Settle(ref, e)
	return nil
}

// finishLate settles what a process before this one left.
func (l *Ledger) finishLate(open journal.Entry) error {
	e, err := decodeLate(open.Payload)
	if err != nil {
		return err
	}
	return l.journal.Settle(open.Ref, e)
}
