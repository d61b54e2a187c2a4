package authz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// An observation's written form, version 2, is one version byte and then its
// fields in the order of AppendBinary: strings as a length and bytes, integers
// and durations (nanoseconds) as signed varints, labels as their number and the
// strings. It stands in the journal of a replica that was told of another one's
// admission, and goes to that one. Version 1 has no Told; it is what is written
// where there is nothing told, so that a replica of the release before, while
// one after the other is replaced, reads most of them.
const (
	observationVersion       = 2
	observationVersionUntold = 1
)

// Flags of the written form.
const (
	seenReported = 1 << iota
	seenComplete
	seenUntold
	seenUnwatched
	seenPartly // a replica of the release before passes over it, and estimates
)

// AppendBinary appends the observation's written form. It never fails.
func (o *Observation) AppendBinary(b []byte) []byte {
	version := byte(observationVersion)
	if len(o.Told) == 0 {
		version = observationVersionUntold
	}
	b = append(b, version)
	for _, s := range [...]string{o.Flags, o.Details, o.Upstream} {
		b = appendString(b, s)
	}
	flags := seenFlag(o.Reported, seenReported) | seenFlag(o.Complete, seenComplete) |
		seenFlag(o.Untold, seenUntold) | seenFlag(o.Unwatched, seenUnwatched) | seenFlag(o.Partly, seenPartly)
	t := &o.Tokens
	for _, n := range [...]int64{
		flags, int64(o.Status), int64(o.Duration), int64(o.FirstByte),
		t.Input, t.CacheRead, t.CacheCreation, t.Output, t.Reasoning,
		o.Events, o.Bytes,
	} {
		b = binary.AppendVarint(b, n)
	}
	if version == observationVersionUntold {
		return b
	}
	return appendLabels(b, o.Told)
}

func seenFlag(set bool, flag int64) int64 {
	if set {
		return flag
	}
	return 0
}

// ParseObservation reads what AppendBinary wrote. Any other input is an error.
func ParseObservation(data []byte) (Observation, error) {
	r := reader{data: data}
	version := r.byte()
	if r.err == nil && version != observationVersion && version != observationVersionUntold {
		return Observation{}, fmt.Errorf("an observation of version %d: this Tollgate reads versions %d and %d", version, observationVersionUntold, observationVersion)
	}
	var o Observation
	for _, s := range [...]*string{&o.Flags, &o.Details, &o.Upstream} {
		*s = r.string()
	}
	flags := r.int()
	o.Reported, o.Complete = flags&seenReported != 0, flags&seenComplete != 0
	o.Untold, o.Unwatched, o.Partly = flags&seenUntold != 0, flags&seenUnwatched != 0, flags&seenPartly != 0
	o.Status = int(r.int())
	o.Duration, o.FirstByte = time.Duration(r.int()), time.Duration(r.int())
	t := &o.Tokens
	for _, n := range [...]*int64{
		&t.Input, &t.CacheRead, &t.CacheCreation, &t.Output, &t.Reasoning,
		&o.Events, &o.Bytes,
	} {
		*n = r.int()
	}
	if version != observationVersionUntold {
		o.Told = r.labels()
	}
	if r.err == nil && len(r.data) > 0 {
		r.err = errors.New("bytes left over")
	}
	if r.err != nil {
		return Observation{}, fmt.Errorf("an observation that can't be read: %w", r.err)
	}
	return o, nil
}
