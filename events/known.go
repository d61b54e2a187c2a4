package events

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// clockSkew is how far the clocks of replicas and of NATS may be apart: a
	// look begins so long before the start of an admission.
	clockSkew = 5 * time.Minute
	// lookMost bounds a look, which reads some 100,000 messages a second.
	lookMost = time.Minute
	// lookAll is up to how many messages all are read, whatever they are of: then
	// what was seen answers later looks too.
	lookAll = 100_000
	// seenFor is for how long it does. It is a small part of duplicateWindow,
	// half of which is how old what is gone by may be.
	seenFor = time.Minute
)

// SharedUsage is the stream of usage events where several replicas publish to it:
// it can tell what is in it. All methods are safe for concurrent use.
type SharedUsage struct {
	*Usage

	all uint64 // lookAll, but in tests

	mu   sync.Mutex // held while it looks
	seen *seen      // by the last look; nil: none
}

// NewSharedUsage returns a SharedUsage of u.
func NewSharedUsage(u *Usage) *SharedUsage { return &SharedUsage{Usage: u, all: lookAll} }

// seen is what a look saw.
type seen struct {
	at       time.Time         // it is not older than this
	since    time.Time         // everything that was stored from then on
	subjects map[string]bool   // of these; nil: of all
	numbers  map[string]uint64 // message ids: their place in the stream
}

// covers reports whether it answers for those admissions.
func (s *seen) covers(now, after, since time.Time, sought []Sought) bool {
	if s == nil || s.at.Before(after) || elapsed(s.at, now) > seenFor || since.Before(s.since) {
		return false
	}
	return s.subjects == nil || !slices.ContainsFunc(sought, func(a Sought) bool { return !s.subjects[a.Subject] })
}

// Look implements Stream. It reads the ids of what was stored since the earliest
// start, up to the place that is the stream's last one when it begins, as the
// stream's leader says. An error means that it could not read all of that. It
// takes at most a minute.
func (u *SharedUsage) Look(ctx context.Context, sought []Sought, after time.Time) ([]Found, time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, lookMost)
	defer cancel()
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(sought) == 0 {
		return nil, time.Now(), nil
	}
	since := slices.MinFunc(sought, func(a, b Sought) int { return a.Start.Compare(b.Start) }).Start.Add(-clockSkew)
	if !u.seen.covers(time.Now(), after, since, sought) {
		seen, err := u.scan(ctx, since, sought)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("%w: looking into the usage events: %w", ErrUnavailable, err)
		}
		u.seen = seen
	}
	found := make([]Found, len(sought))
	for i, a := range sought {
		found[i].Adjusted = u.seen.numbers[a.MsgID+lateSuffix] != 0
		at := u.seen.numbers[a.MsgID]
		if at == 0 {
			continue
		}
		m, err := asked(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return u.stream.GetMsg(ctx, at) })
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("%w: reading the usage event %d: %w", ErrUnavailable, at, err)
		}
		var e Event
		// One that can't be read was not ours. It stands where ours would.
		_ = json.Unmarshal(m.Data, &e)
		found[i].Usage = &e.Data
	}
	return found, u.seen.at, nil
}

// scan reads message ids.
func (u *SharedUsage) scan(ctx context.Context, since time.Time, sought []Sought) (*seen, error) {
	s := &seen{at: time.Now(), since: since, numbers: map[string]uint64{}}
	info, err := asked(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return u.stream.Info(ctx) })
	if err != nil {
		return nil, err
	}
	if info.State.Msgs == 0 {
		return s, nil
	}
	end := info.State.LastSeq
	last, err := asked(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return u.stream.GetMsg(ctx, end) })
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		end, last = 0, &jetstream.RawStreamMsg{Subject: TypeUsage} // somebody removed it by hand
	case err != nil:
		return nil, err
	case last.Time.Before(since):
		return s, nil
	}
	cfg := readFrom(0, since, "")
	cfg.HeadersOnly = true
	c, err := consume(ctx, u.stream, cfg)
	if err != nil {
		return nil, err
	}
	if c.CachedInfo().NumPending > u.all {
		forget(ctx, u.stream, c)
		// The last message is read in any case: it says that the end was reached,
		// also where the server that we read from lags behind the leader.
		s.subjects = map[string]bool{}
		subjects := map[string]bool{last.Subject: true}
		for _, a := range sought {
			s.subjects[a.Subject] = true
			subjects[a.Subject], subjects[adjustedSubject(a.Subject)] = true, true
		}
		for subject := range subjects {
			cfg.FilterSubjects = append(cfg.FilterSubjects, subject)
		}
		if c, err = consume(ctx, u.stream, cfg); err != nil {
			return nil, err
		}
	}
	defer forget(ctx, u.stream, c)
	return s, s.read(ctx, c, end)
}

// adjustedSubject is AdjustedSubject of what has that Subject.
func adjustedSubject(subject string) string { return TypeAdjusted + subject[len(TypeUsage):] }

var errLost = errors.New("a message was lost on the way")

// read reads message ids up to a place in the stream, without a gap; with 0, up to
// where nothing more is pending.
func (s *seen) read(ctx context.Context, c jetstream.Consumer, end uint64) error {
	pending, count := c.CachedInfo().NumPending, uint64(0)
	for end > 0 || pending > 0 {
		last, err := patiently(ctx, askTimeout, func(ctx context.Context) (uint64, error) { return s.fetch(ctx, c, &pending, &count) })
		if err != nil {
			return err
		}
		if end > 0 && last >= end {
			return nil
		}
	}
	return nil
}

// fetch reads some message ids, and returns the place of the last one. What does
// not come in time was lost with a connection; where nothing is pending before the
// end the server that we read from lags behind.
func (s *seen) fetch(ctx context.Context, c jetstream.Consumer, pending, count *uint64) (last uint64, err error) {
	const atOnce = 1000
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	batch, err := c.Fetch(int(min(max(*pending, 1), atOnce)), jetstream.FetchContext(ctx))
	if err != nil {
		return 0, err
	}
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return 0, err
		}
		if *count++; meta.Sequence.Consumer != *count {
			return 0, errLost
		}
		last, *pending = meta.Sequence.Stream, meta.NumPending
		if id := m.Headers().Get(nats.MsgIdHdr); id != "" {
			s.numbers[id] = cmp.Or(s.numbers[id], last)
		}
	}
	return last, batch.Error()
}
