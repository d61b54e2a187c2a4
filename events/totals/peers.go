package totals

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// A replica with a gap asks all others at once what they have counted, and then the
// one that has counted most for its snapshot, piece by piece. The messages, version 1,
// are JSON; what comes of them is read as a snapshot from a disk is, so that a damaged
// one is refused.

const (
	peersVersion = 1
	// askSubject is where all are asked; below it each by its name.
	askSubject = "tollgate.replica.totals"
	// askWindow is how long the next answer is waited for, askGrace for how long after
	// that, should this process have stood still for all of it, and pieceTimeout for how
	// long a piece.
	askWindow, askGrace, pieceTimeout = time.Second, 200 * time.Millisecond, 10 * time.Second
	// pieceBytes is what goes into a message, a third more as base64: less than the
	// 1 MiB that a NATS server takes unless it is told otherwise. pieceRest is more than
	// what is around it.
	pieceBytes, pieceRest = 512 << 10, 512
	// maxSnapshot bounds what is taken from another replica.
	maxSnapshot = 4 << 30
	// keptFor is how long a snapshot is kept for who asks for its next piece.
	keptFor = time.Minute
)

type ask struct {
	Version  int    `json:"v"`
	From     string `json:"from"` // the replica that asks
	MoreThan int64  `json:"moreThan"`
}

type offer struct {
	Version int    `json:"v"`
	Replica string `json:"replica"`
	Counted int64  `json:"counted"` // requests
	// Partial: it misses some that the stream has dropped.
	Partial bool `json:"partial,omitempty"`
}

// better reports whether an offer comes before another one.
func (o *offer) better(than *offer) bool {
	if o.Partial != than.Partial && than.Replica != "" {
		return than.Partial
	}
	return o.Counted > than.Counted
}

type pieceRequest struct {
	Version int    `json:"v"`
	ID      string `json:"id"` // of the snapshot; "": a new one
	Offset  int    `json:"offset"`
}

type piece struct {
	Version int    `json:"v"`
	ID      string `json:"id"` // "": there is no such snapshot any more
	Size    int    `json:"size"`
	Data    []byte `json:"data"`
}

type natsPeers struct {
	nc      *nats.Conn
	replica string
}

// NATSPeers are the other replicas over a NATS connection. replica is the name of this
// one.
func NATSPeers(nc *nats.Conn, replica string) Peers { return natsPeers{nc, replica} }

// Snapshot implements Peers.
func (p natsPeers) Snapshot(ctx context.Context, moreThan int64, whole bool) (all []byte, partial bool, err error) {
	best, err := p.best(ctx, moreThan, whole)
	if err != nil || best.Replica == "" {
		return nil, false, err
	}
	for id := ""; ; {
		got, err := p.piece(ctx, best.Replica, pieceRequest{peersVersion, id, len(all)})
		if err != nil {
			return nil, false, fmt.Errorf("the totals of replica %s: %w", best.Replica, err)
		}
		all, id = append(all, got.Data...), got.ID
		if len(all) >= got.Size {
			return all, best.Partial, nil
		}
	}
}

// best is the best offer; zero: there is none.
func (p natsPeers) best(ctx context.Context, moreThan int64, whole bool) (best offer, err error) {
	text, err := json.Marshal(ask{peersVersion, p.replica, moreThan})
	if err != nil {
		return best, err
	}
	inbox := p.nc.NewInbox()
	sub, err := p.nc.SubscribeSync(inbox)
	if err != nil {
		return best, err
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be gone already
	if err := p.nc.PublishRequest(askSubject, inbox, text); err != nil {
		return best, err
	}
	for {
		m, err := nextWithin(ctx, sub, askWindow)
		if errors.Is(err, nats.ErrTimeout) {
			m, err = nextWithin(ctx, sub, askGrace)
		}
		switch {
		case errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders):
			return best, nil
		case err != nil:
			return best, err
		}
		var o offer
		if json.Unmarshal(m.Data, &o) != nil || o.Version != peersVersion || o.Replica == p.replica || o.Counted <= moreThan || whole && o.Partial {
			continue
		}
		if o.better(&best) {
			best = o
		}
	}
}

// nextWithin is the next answer; nats.ErrTimeout: none came in time.
func nextWithin(ctx context.Context, sub *nats.Subscription, most time.Duration) (*nats.Msg, error) {
	window, cancel := context.WithTimeoutCause(ctx, most, nats.ErrTimeout)
	defer cancel()
	m, err := sub.NextMsgWithContext(window)
	if err != nil && window.Err() != nil {
		err = context.Cause(window)
	}
	return m, err
}

var errPiece = errors.New("what came is not the next piece of a snapshot")

func (p natsPeers) piece(ctx context.Context, replica string, r pieceRequest) (got piece, err error) {
	text, err := json.Marshal(r)
	if err != nil {
		return got, err
	}
	ctx, cancel := context.WithTimeout(ctx, pieceTimeout)
	defer cancel()
	m, err := p.nc.RequestWithContext(ctx, askSubject+"."+replica, text)
	if err != nil {
		return got, err
	}
	if err := json.Unmarshal(m.Data, &got); err != nil {
		return got, err
	}
	if got.Version != peersVersion || got.ID == "" || r.ID != "" && got.ID != r.ID || len(got.Data) == 0 || got.Size > maxSnapshot || r.Offset+len(got.Data) > got.Size {
		return got, errPiece
	}
	return got, nil
}

// Serve answers other replicas that ask for totals, until stop is called. A snapshot
// for them is in memory while they fetch it, one at a time.
func Serve(nc *nats.Conn, replica string, f *Folder) (stop func(), err error) {
	s := &served{folder: f, most: func() int { return pieceSize(nc.MaxPayload()) }}
	asked, err := nc.Subscribe(askSubject, func(m *nats.Msg) {
		var a ask
		counted, partial, current := f.Offer()
		if json.Unmarshal(m.Data, &a) == nil && a.Version == peersVersion && a.From != replica && current && counted > a.MoreThan {
			respond(m, offer{peersVersion, replica, counted, partial})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("answering replicas that ask for totals: %w", err)
	}
	pieces, err := nc.Subscribe(askSubject+"."+replica, func(m *nats.Msg) {
		var r pieceRequest
		if json.Unmarshal(m.Data, &r) == nil && r.Version == peersVersion {
			respond(m, s.piece(r))
		}
	})
	if err != nil {
		_ = asked.Unsubscribe()
		return nil, fmt.Errorf("answering replicas that ask for totals: %w", err)
	}
	return func() { // the connection may be gone already
		_, _ = asked.Unsubscribe(), pieces.Unsubscribe()
		s.forget()
	}, nil
}

func respond(m *nats.Msg, answer any) {
	if text, err := json.Marshal(answer); err == nil {
		_ = m.Respond(text) // whoever asked asks again
	}
}

// served is the snapshot that others fetch.
type served struct {
	folder *Folder
	most   func() int // bytes of a piece

	mu   sync.Mutex
	id   string // guarded by mu, as the following; "": there is none
	text []byte
	end  *time.Timer // when nobody has asked for it for long
}

func (s *served) piece(r pieceRequest) piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.ID == "" && !s.make() || r.ID != s.id && r.ID != "" || r.Offset < 0 || r.Offset >= len(s.text) {
		return piece{Version: peersVersion}
	}
	s.end.Reset(keptFor)
	return piece{peersVersion, s.id, len(s.text), s.text[r.Offset:min(r.Offset+s.most(), len(s.text))]}
}

// pieceSize is what fits into a message of a server that takes so many bytes, which
// may be set to less than usual; 0: it is not known.
func pieceSize(maxPayload int64) int {
	if maxPayload <= 0 {
		return pieceBytes
	}
	return int(min(pieceBytes, max(1, (maxPayload-pieceRest)/4*3)))
}

// make writes a snapshot, unless there is one that somebody fetches; s.mu is held.
func (s *served) make() bool {
	if s.id != "" {
		return true
	}
	text, err := s.folder.Snapshot()
	if err != nil {
		return false
	}
	s.id, s.text, s.end = uuid.NewString(), text, time.AfterFunc(keptFor, s.forget)
	return true
}

func (s *served) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		s.end.Stop()
	}
	s.id, s.text, s.end = "", nil, nil
}
