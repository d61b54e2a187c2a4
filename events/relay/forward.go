package relay

import (
	"context"
	"sync"
	"time"
)

const (
	// askTimeout bounds one request to another replica.
	askTimeout = 5 * time.Second
	// maxFlights bounds how many are under way at once, each to another owner.
	maxFlights = 16
)

// forward brings settlements to their owners until ctx ends. Flights are tasks.
func (r *Relay) forward(ctx context.Context, tasks *sync.WaitGroup) {
	room := make(chan struct{}, maxFlights)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		to, flight := r.custody.depart(time.Now())
		due := r.custody.due()
		r.mu.Unlock()
		if flight != nil {
			tasks.Go(func() {
				r.fly(ctx, to, flight)
				<-room
				r.wakeUp()
			})
			continue
		}
		<-room
		var soon <-chan time.Time
		if !due.IsZero() {
			timer.Reset(time.Until(due))
			soon = timer.C
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-soon:
		}
	}
}

// fly brings settlements to their owner, and lets go of what it has recorded.
func (r *Relay) fly(ctx context.Context, to string, flight []*held) {
	request := make([]settlement, len(flight))
	for i, h := range flight {
		// Sealed anew: the key of the token that came may be gone by now.
		request[i] = settlement{*h.Seen, r.cfg.Settler.Sealer.Seal(h.Admission.AppendBinary(nil))}
	}
	answers, err := r.ask(ctx, settleSubject(to), encodeSettle(request), len(flight))
	if err != nil {
		r.cfg.Log.Debug("settlements wait for their owner", "owner", to, "count", len(flight), "error", err)
	}
	r.mu.Lock()
	recorded := r.custody.land(time.Now(), to, flight, answers)
	r.tellEmpty()
	r.mu.Unlock()
	for _, h := range recorded {
		r.drop(h.Foreign)
	}
	r.delivered.Add(int64(len(recorded)))
}

// ask returns the answers to a request of so many items.
func (r *Relay) ask(ctx context.Context, subject string, request []byte, items int) ([]answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reply, err := r.cfg.Link.Ask(ctx, subject, request)
	if err != nil {
		return nil, err
	}
	answers, err := decodeAnswers(reply, items)
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// tellEmpty tells Flush that nothing is held any more. r.mu is held.
func (r *Relay) tellEmpty() {
	if r.custody.count == 0 && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

// Flush waits until no settlement is held any more; Run must be under way. The
// error is ctx's, if that ends first.
func (r *Relay) Flush(ctx context.Context) error {
	r.mu.Lock()
	if r.custody.count == 0 {
		r.mu.Unlock()
		return nil
	}
	if r.empty == nil {
		r.empty = make(chan struct{})
	}
	empty := r.empty
	r.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
