package events

import (
	"encoding/binary"
	"errors"
	"fmt"

	"tollgate/authz"
)

// What this replica's journal keeps for another one stands in it as an admission
// of its own. Both forms, version 1, begin with a mark that no admission begins
// with (those count up from 1) and the version; then comes
//   - for a settlement: the observation, as a length and bytes,
//   - for a copy: the owner's incarnation, as a length and bytes,
//
// and then the admission, in its own form.
const (
	heldMark       = 0xff
	copyMark       = 0xfe
	foreignVersion = 1
)

func isForeign(record []byte) bool {
	return len(record) > 0 && (record[0] == heldMark || record[0] == copyMark)
}

func (f *Foreign) encode() []byte {
	mark, rest := byte(copyMark), []byte(f.Incarnation)
	if f.Seen != nil {
		mark, rest = heldMark, f.Seen.AppendBinary(nil)
	}
	b := append(make([]byte, 0, 1024), mark, foreignVersion)
	b = append(binary.AppendUvarint(b, uint64(len(rest))), rest...)
	return f.Admission.AppendBinary(b)
}

var errForeign = errors.New("it is cut short")

func decodeForeign(record []byte) (*Foreign, error) {
	if len(record) < 2 || !isForeign(record) {
		return nil, errForeign
	}
	if record[1] != foreignVersion {
		return nil, fmt.Errorf("it is of version %d: this Tollgate reads version %d", record[1], foreignVersion)
	}
	size, n := binary.Uvarint(record[2:])
	if n <= 0 || size > uint64(len(record)-2-n) {
		return nil, errForeign
	}
	rest := record[2+n:]
	first, rest := rest[:size], rest[size:]
	f := &Foreign{}
	if record[0] == heldMark {
		seen, err := authz.ParseObservation(first)
		if err != nil {
			return nil, err
		}
		f.Seen = &seen
	} else {
		f.Incarnation = string(first)
	}
	var err error
	f.Admission, err = authz.ParseAdmission(rest)
	if err != nil {
		return nil, err
	}
	return f, nil
}
