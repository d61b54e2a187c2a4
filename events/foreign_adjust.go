package events

import (
	"time"

	"tollgate/authz"
	"tollgate/events/journal"
)

// coming are the usage events, by message id, that wait here and that old ones of
// our adjustments correct: while a stream is full or away that can be for longer
// than baseTime. One that doesn't wait any more is found by a look from now on.
func (s *shared) coming(batch []Outgoing, ours []Event, sought []Sought) map[string]bool {
	var coming map[string]bool
	now := time.Now()
	for n := range ours {
		if !old(now, &ours[n]) {
			continue
		}
		if coming == nil {
			coming, s.after = map[string]bool{}, now
		}
		coming[sought[n].MsgID] = s.awaits(sought[n].MsgID)
	}
	if coming == nil {
		return nil
	}
	waits := func(e journal.Event) {
		if _, of := coming[e.MsgID]; of {
			coming[e.MsgID] = true
		}
	}
	for i := range batch {
		waits(journal.Event{MsgID: batch[i].MsgID})
	}
	_ = s.waiting(waits) // closed: then nothing is published either
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
