package relay

import (
	"context"
	"fmt"
	"time"
)

// HandOver sends copies of this replica's open admissions to another one, as the
// last thing before it leaves: nothing must be admitted any more. They stay open
// here, too: the other one drops its copies when this replica is back. It returns
// how many the other one has; the error says why not all.
func (r *Relay) HandOver(ctx context.Context, to string) (int, error) {
	open := r.cfg.Ledger.Open(time.Time{})
	h := handover{owner: r.cfg.Settler.Replica, incarnation: r.cfg.Incarnation}
	handed, bytes := 0, 0
	for i, a := range open {
		written := a.AppendBinary(nil)
		h.tokens = append(h.tokens, r.cfg.Settler.Sealer.Seal(written))
		bytes += len(written)
		if i+1 < len(open) && bytes < maxFlightBytes && len(h.tokens) < maxItems {
			continue
		}
		answers, err := r.ask(ctx, adoptSubject(to), encodeAdopt(h), len(h.tokens))
		if err != nil {
			return handed, fmt.Errorf("%d of %d open admissions were handed over to replica %s: %w", handed, len(open), to, err)
		}
		for _, answer := range answers {
			if answer == answerRecorded {
				handed++
			}
		}
		h.tokens, bytes = h.tokens[:0], 0
	}
	if handed < len(open) {
		return handed, fmt.Errorf("%d of %d open admissions were handed over: replica %s could not take the others", handed, len(open), to)
	}
	return handed, nil
}
