package events

import (
	"errors"

	"tollgate/authz"
	"tollgate/events/journal"
)

// Foreign is another replica's admission that this one's journal keeps: with what
// a proxy saw of its end (a settlement that was told here), or as a copy that its
// owner handed over. It must not be changed.
type Foreign struct {
	ref       journal.Ref
	Admission *authz.Admission
	Seen      *authz.Observation // nil: a copy
	// Incarnation is the process of the owner that handed a copy over.
	Incarnation string
}

// Hold writes a settlement of another replica's admission down, durably. An error
// means that it is not.
func (l *Ledger) Hold(a *authz.Admission, o authz.Observation) (*Foreign, error) {
	return l.keep(&Foreign{Admission: a, Seen: &o})
}

// Copy writes down, durably, an admission that its owner handed over. An error
// means that it is not.
func (l *Ledger) Copy(a *authz.Admission, incarnation string) (*Foreign, error) {
	return l.keep(&Foreign{Admission: a, Incarnation: incarnation})
}

func (l *Ledger) keep(f *Foreign) (_ *Foreign, err error) {
	if f.ref, err = l.journal.Admit(f.encode()); err != nil {
		return nil, err
	}
	return f, nil
}

// findForeign takes in what a process before this one kept.
func (l *Ledger) findForeign(e journal.Entry) error {
	f, err := decodeForeign(e.Payload)
	if err != nil {
		return err
	}
	f.ref = e.Ref
	l.foreign = append(l.foreign, f)
	return nil
}

// Foreign are those that were kept when the journal was opened, oldest first.
func (l *Ledger) Foreign() []*Foreign { return l.foreign }

// Drop lets one go: its owner has it, or has closed it. It may be there again
// after a power loss. Dropping what is gone is no error.
func (l *Ledger) Drop(f *Foreign) error {
	err := l.journal.Release(f.ref)
	if errors.Is(err, journal.ErrSettled) {
		return nil
	}
	return err
}

// CloseForeign ends one in its owner's place: u becomes its usage event, unless
// the stream has one when it is published (see Share). After an error it is kept
// as it was.
func (l *Ledger) CloseForeign(f *Foreign, u *authz.Usage) error {
	e := FromUsage(l.source, u)
	// Its message id is not noted as ours alone, so it is published as contested.
	err := l.journal.Settle(f.ref, l.outgoing(&e, Subject(e.Data.Workspace, e.Data.Key, e.Data.Model)))
	if errors.Is(err, journal.ErrSettled) {
		return nil
	}
	return err
}
