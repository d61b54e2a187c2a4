package events

import (
	"slices"
	"time"

	"tollgate/authz"
	"tollgate/events/journal"
)

// freshly makes the next look see all that was published before it, where there are
// old adjustments: coming tells of nothing that doesn't wait any more.
func (s *shared) freshly(ours []Event) {
	now := time.Now()
	if slices.ContainsFunc(ours, func(e Event) bool { return old(now, &e) }) {
		s.after = now
	}
}

// coming are the usage events, by message id, that wait here and that old ones of
// our adjustments correct of which a look found no event: while a stream is full or
// away that can be for longer than baseTime. It comes after the look, because it may
// have to read all of the journal; nothing leaves that meanwhile but by publish.
func (s *shared) coming(batch []Outgoing, ours []Event, sought []Sought, found []Found) map[string]bool {
	coming := map[string]bool{}
	now, unsure := time.Now(), false
	for n := range ours {
		if found[n].Usage != nil || !old(now, &ours[n]) {
			continue
		}
		id := sought[n].MsgID
		coming[id] = s.awaits(id) || slices.ContainsFunc(batch, func(out Outgoing) bool { return out.MsgID == id })
		unsure = unsure || !coming[id]
	}
	if !unsure {
		return coming
	}
	_ = s.waiting(func(e journal.Event) { // closed: then nothing is published either
		if _, of := coming[e.MsgID]; of {
			coming[e.MsgID] = true
		}
	})
	return coming
}

// rebased writes an adjustment anew where the event that is in the stream charged
// something else than the one which it was made for: another replica's, that did
// not know that the admission was superseded; or none, because that was lost.
func rebased(out *Outgoing, e *Event, f *Found) {
	if e.Type != TypeAdjusted {
		return
	}
	var is authz.Charge
	if f.Usage != nil {
		is = f.Usage.Charge()
	}
	if is.List.Cmp(e.Data.AdjustedListCost) != 0 || is.Cost.Cmp(e.Data.AdjustedCost) != 0 {
		e.Data.rebase(is)
		out.Payload = e.AppendJSON(nil)
	}
}
