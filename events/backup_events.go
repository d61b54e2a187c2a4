package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// eventCopier brings events of another stream, or of a backup, into a stream and
// leaves those out that it has. Others may publish there meanwhile.
//
// Which events are there it learns from their message ids. What others publish
// after it has looked, the stream itself refuses as long as it remembers the ids
// (duplicateWindow), so it looks again long before that is over.
type eventCopier struct {
	js     jetstream.JetStream
	stream string
	now    func() time.Time

	known  map[messageID]struct{}
	upTo   uint64 // the stream's place up to which known is complete
	looked time.Time
	again  time.Duration // how old the knowledge of what is there may be
	batch  []*nats.Msg
	done   CopiedEvents
}

// messageID is a message id's SHA-256, cut: millions of them are kept in memory,
// 16 bytes each.
type messageID [16]byte

func idOf(id string) messageID {
	sum := sha256.Sum256([]byte(id))
	return messageID(sum[:16])
}

// newEventCopier looks what the stream has.
func newEventCopier(ctx context.Context, js jetstream.JetStream, stream string) (*eventCopier, error) {
	actx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := js.Stream(actx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("there is no stream %s for the events: make it first, by tollgate nats setup or by starting a Tollgate on that NATS", stream)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the stream %s: %w", ErrUnavailable, stream, err)
	}
	c := &eventCopier{
		js: js, stream: stream, now: time.Now, known: map[messageID]struct{}{},
		again: s.CachedInfo().Config.Duplicates / 5,
	}
	return c, c.look(ctx)
}

// add takes an event in; it is stored at the latest by flush. An error means that
// some of those taken in so far may be missing: repeating everything is safe.
func (c *eventCopier) add(ctx context.Context, subject string, headers nats.Header, value []byte) error {
	m := &nats.Msg{Subject: subject, Header: nats.Header{}, Data: value}
	maps.Copy(m.Header, headers)
	for name := range m.Header {
		if strings.HasPrefix(name, "Nats-Expected-") {
			delete(m.Header, name) // was true of the stream that it comes from
		}
	}
	if m.Header.Get(jetstream.MsgIDHeader) == "" { // somebody published it by hand
		sum := sha256.Sum256(append([]byte(subject+"\n"), value...))
		m.Header.Set(jetstream.MsgIDHeader, "sha256:"+hex.EncodeToString(sum[:]))
	}
	if c.batch = append(c.batch, m); len(c.batch) < inFlight {
		return nil
	}
	return c.flush(ctx)
}

// flush stores what was taken in.
func (c *eventCopier) flush(ctx context.Context) error {
	if len(c.batch) == 0 {
		return nil
	}
	if err := c.look(ctx); err != nil {
		return err
	}
	var missing []*nats.Msg
	for _, m := range c.batch {
		id := idOf(m.Header.Get(jetstream.MsgIDHeader))
		if _, ok := c.known[id]; ok {
			c.done.There++
			continue
		}
		missing = append(missing, m)
	}
	c.batch = c.batch[:0]
	// What was not acknowledged may be stored: the id tells.
	const tries = 3
	for try := 1; ; try++ {
		left, err := c.publish(ctx, missing, try > 1)
		if err == nil {
			return nil
		}
		if try == tries || ctx.Err() != nil {
			return fmt.Errorf("storing events in the stream %s: %w", c.stream, err)
		}
		missing = left
	}
}

// publish stores messages and returns those of which it is not known whether they
// are, and why of one of them. again: they were sent before.
func (c *eventCopier) publish(ctx context.Context, messages []*nats.Msg, again bool) (left []*nats.Msg, err error) {
	futures := make([]jetstream.PubAckFuture, len(messages))
	errs := make([]error, len(messages))
	for i, m := range messages {
		futures[i], errs[i] = c.js.PublishMsgAsync(m, jetstream.WithExpectStream(c.stream))
	}
	for i, m := range messages {
		ack, failed := acknowledged(ctx, futures[i], errs[i])
		switch {
		case failed != nil:
			left, err = append(left, m), failed
		case ack.Duplicate && !again:
			c.done.There++
		default:
			c.done.Added++
		}
	}
	return left, err
}

func acknowledged(ctx context.Context, f jetstream.PubAckFuture, sent error) (*jetstream.PubAck, error) {
	if sent != nil {
		return nil, sent
	}
	select {
	case ack := <-f.Ok():
		return ack, nil
	case err := <-f.Err():
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// look learns the ids of what came into the stream since the last look, unless
// that was a short time ago.
func (c *eventCopier) look(ctx context.Context) error {
	now := c.now()
	if !c.looked.IsZero() && now.Sub(c.looked) < c.again {
		return nil
	}
	err := scanStream(ctx, c.js, c.stream, c.upTo, true, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		c.upTo = meta.Sequence.Stream
		if id := m.Headers().Get(jetstream.MsgIDHeader); id != "" {
			c.known[idOf(id)] = struct{}{}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: looking which events are there: %w", ErrUnavailable, err)
	}
	c.looked = now
	return nil
}

// CopiedEvents is what CopyEvents did.
type CopiedEvents struct {
	Added int `json:"added"` // were missing
	There int `json:"there"` // were there already
}

// CopyEvents brings the usage and audit events that from has, and to has not, into
// the streams of to, as they are: with their ids and headers, in their order. They
// are stored under the time of the copy. Others may publish to both meanwhile;
// what comes into from after the call began may be left out. It may be repeated
// and then adds what is missing. It keeps 16 bytes and a map's overhead, some 40
// bytes together, per event that to has.
func CopyEvents(ctx context.Context, from, to *nats.Conn) (CopiedEvents, error) {
	source, err := jetstream.New(from)
	if err != nil {
		return CopiedEvents{}, fmt.Errorf("JetStream: %w", err)
	}
	target, err := copyingJetStream(to)
	if err != nil {
		return CopiedEvents{}, err
	}
	var done CopiedEvents
	for _, section := range []string{sectionUsage, sectionAudit} {
		stream := streamsOf[section]
		actx, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := source.Stream(actx, stream)
		cancel()
		if section == sectionAudit && errors.Is(err, jetstream.ErrStreamNotFound) {
			continue // an older Tollgate kept none
		}
		if err != nil {
			return done, fmt.Errorf("the stream %s to copy from: %w", stream, err)
		}
		c, err := newEventCopier(ctx, target, stream)
		if err != nil {
			return done, err
		}
		err = scanStream(ctx, source, stream, 0, false, func(m jetstream.Msg, _ *jetstream.MsgMetadata) error {
			return c.add(ctx, m.Subject(), m.Headers(), m.Data())
		})
		if err == nil {
			err = c.flush(ctx)
		}
		done.Added, done.There = done.Added+c.done.Added, done.There+c.done.There
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func copyingJetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(2*inFlight), jetstream.WithPublishAsyncTimeout(askTimeout))
	if err != nil {
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	return js, nil
}
