package events

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"tollgate/events/journal"
)

// Sharing is what a Ledger needs so that no event is stored twice.
type Sharing struct {
	Standing Standing // nil: nobody else closes admissions
	Stream   Stream
	// Gone is for how long nobody may have heard of a replica before others close
	// its admissions. It must be the same in all replicas of a deployment.
	Gone time.Duration
	// Window is how long the stream recognises what it has. 0: that of UsageStream.
	Window time.Duration
}

// Stream is the usage stream that several replicas publish to. SharedUsage is it.
type Stream interface {
	Publisher
	// Look tells of admissions what the stream has of them, as it was at a moment
	// between at and the return. at is not before after.
	Look(ctx context.Context, sought []Sought, after time.Time) (found []Found, at time.Time, err error)
}

// Sought is an admission whose events are looked for.
type Sought struct {
	MsgID   string    // of its usage event, see MsgID
	Subject string    // of that, see Subject
	Start   time.Time // of the admission
}

// Found is what the stream has of an admission.
type Found struct {
	Usage    *UsageData // of its usage event; nil: none
	Adjusted bool       // there is an adjustment of it
}

var (
	errContested  = errors.New("another replica was first; looking what it published")
	errStale      = errors.New("the look into the stream took too long to go by it")
	errNoUsageYet = errors.New("the usage event that this corrects is not in the stream yet")
)

// shared is a Ledger's part that knows what the stream may have already. Its
// methods are for a nil one too: then nobody looks.
type shared struct {
	doubt
	source string
	stream Stream
	window time.Duration
	// waiting calls yield with the events that wait in the journal, but for those
	// that publish has.
	waiting func(yield func(journal.Event)) error
	// after is the time that a look into the stream must not be before: what was
	// seen then was overtaken. publish alone uses it.
	after time.Time
}

// Share makes the ledger one of those that close admissions and publish to a
// stream. It is called once, before Run and any other use.
//
// From then on an event that may have been published already, by another replica,
// by a process before this one, or by this one more than a quarter of Window ago,
// is published only when the stream does not have it, as it was less than half of
// Window ago: two that do so can't both have it stored, because the later one
// either finds the other's, or is refused as a duplicate. (No message is under way
// for longer than a quarter of Window.) Instead of one that is there an adjustment
// goes out, where it knew nothing and ours does.
func (l *Ledger) Share(s Sharing) {
	if s.Window == 0 {
		s.Window = duplicateWindow
	}
	l.shared = &shared{
		doubt:  doubt{standing: s.Standing, gone: s.Gone, repeat: s.Window / 4, generation: 1, sure: map[string]waits{}},
		source: l.source, stream: s.Stream, window: s.Window, waiting: l.journal.EachWaiting,
	}
}

func (s *shared) now() uint64 {
	if s == nil {
		return 0
	}
	return s.current()
}

func (s *shared) closing(msgID string, generation uint64) {
	if s != nil {
		s.doubt.closing(msgID, generation)
	}
}

func (s *shared) stored(msgID string) {
	if s != nil {
		s.doubt.stored(msgID)
	}
}

// publish is PublishBatch.
func (s *shared) publish(ctx context.Context, batch []Outgoing) []error {
	now := time.Now()
	generation := s.look(now)
	errs := make([]error, len(batch))
	noted := make([]string, len(batch)) // contest may make other events of them
	var sure, contested []int
	for i := range batch {
		noted[i] = batch[i].MsgID
		if s.contested(noted[i], generation, now) {
			contested = append(contested, i)
		} else {
			sure = append(sure, i)
		}
	}
	s.send(ctx, batch, sure, errs)
	s.contest(ctx, batch, contested, errs)
	for i, err := range errs {
		if err == nil {
			s.stored(noted[i])
		}
	}
	return errs
}

// send publishes those of a batch.
func (s *shared) send(ctx context.Context, batch []Outgoing, which []int, errs []error) {
	if len(which) == 0 {
		return
	}
	out := make([]Outgoing, len(which))
	for n, i := range which {
		out[n] = batch[i]
	}
	for n, err := range s.stream.PublishBatch(ctx, out) {
		errs[which[n]] = err
	}
}

// contest publishes what somebody else may have published too.
func (s *shared) contest(ctx context.Context, batch []Outgoing, which []int, errs []error) {
	if len(which) == 0 {
		return
	}
	ours := make([]Event, len(which))
	sought := make([]Sought, len(which))
	for n, i := range which {
		if err := json.Unmarshal(batch[i].Payload, &ours[n]); err != nil {
			// An event of ours is not unreadable. If it is, nobody looks for it.
			ours[n] = Event{ID: batch[i].MsgID, Time: time.Now()}
		}
		sought[n] = soughtFor(s.source, &ours[n])
	}
	s.freshly(ours)
	found, at, err := s.stream.Look(ctx, sought, s.after)
	var coming map[string]bool
	if err == nil {
		coming = s.coming(batch, ours, sought, found)
	}
	now := time.Now()
	if err == nil && elapsed(at, now) > s.window/2 {
		err = errStale
	}
	if err != nil {
		for _, i := range which {
			errs[i] = err
		}
		return
	}
	var out []int
	for n, i := range which {
		switch judge(now, &ours[n], &found[n], coming[sought[n].MsgID]) {
		case publishUsage:
			rebased(&batch[i], &ours[n], &found[n])
			batch[i].Contested = true
			out = append(out, i)
		case publishAdjustment:
			e := adjusting(ours[n], found[n].Usage.Charge())
			d := &e.Data
			batch[i].Subject, batch[i].MsgID = AdjustedSubject(d.Workspace, d.Key, d.Model), MsgID(s.source, e.ID)
			batch[i].Payload, batch[i].Contested = e.AppendJSON(nil), true
			out = append(out, i)
		case publishLater:
			errs[i] = errNoUsageYet
			s.after = now
		case publishNothing:
		}
	}
	s.send(ctx, batch, out, errs)
	for _, i := range out {
		var certain unsent
		if errs[i] != nil && !errors.As(errs[i], &certain) { // it may be stored now, or somebody else's is
			s.after = time.Now()
		}
	}
}
