package events

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"tollgate/authz/key"
)

// simStream is a model of the stream of keys: compare-and-set, one value a name,
// one order. It can be replaced by an older copy of itself.
type simStream struct {
	mu      sync.Mutex
	created time.Time
	last    uint64
	names   map[string]entry
	order   []string // by revision - 1; overwritten ones stay in it
	life    int      // how often it was replaced
	down    bool
	wake    chan struct{}
	ears    map[*simLink]func([]byte)
}

func newSimStream() *simStream {
	return &simStream{created: time.Now(), names: map[string]entry{}, wake: make(chan struct{}), ears: map[*simLink]func([]byte){}}
}

func (s *simStream) changed() { close(s.wake); s.wake = make(chan struct{}) }

// put is a compare-and-set without a network.
func (s *simStream) put(name string, value []byte, expect uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return 0, key.ErrUnavailable
	}
	if s.names[name].revision != expect {
		return 0, key.ErrConflict
	}
	s.last++
	s.names[name] = entry{value: value, revision: s.last, stored: time.Now()}
	s.order = append(s.order, name)
	s.changed()
	return s.last, nil
}

func (s *simStream) get(name string) (entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return entry{}, key.ErrUnavailable
	}
	e, ok := s.names[name]
	if !ok {
		return entry{}, key.ErrNotFound
	}
	return e, nil
}

type simCopy struct {
	last  uint64
	names map[string]entry
	order []string
}

func (s *simStream) backup() simCopy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return simCopy{s.last, maps.Clone(s.names), slices.Clone(s.order)}
}

// revision is that of the last change.
func (s *simStream) revision() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// now is the newest value of a name, or the zero entry: also while it is down.
func (s *simStream) now(name string) entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[name]
}

// lives is how often the stream was replaced.
func (s *simStream) lives() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life
}

// stop breaks all connections, start lets them come back to a copy.
func (s *simStream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	s.life++
	s.changed()
}

func (s *simStream) start(c *simCopy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = false
	if c != nil {
		s.last, s.names, s.order = c.last, maps.Clone(c.names), slices.Clone(c.order) // it may come again
	}
	s.changed()
}

// next is the first change behind a position that is still there.
func (s *simStream) next(after uint64) (name string, e entry, behind uint64, ok bool) {
	for at := after; at < s.last; at++ {
		name := s.order[at]
		if e := s.names[name]; e.revision == at+1 {
			for rest := at + 1; rest < s.last; rest++ {
				if s.names[s.order[rest]].revision == rest+1 {
					behind++
				}
			}
			return name, e, behind, true
		}
	}
	return "", entry{}, 0, false
}

// simLink is one process's connection to the stream. It implements changes.
type simLink struct {
	stream *simStream
	rng    *rand.Rand
	mu     sync.Mutex
	cut    bool          // nothing passes, either way
	slow   time.Duration // what anything may take at most
	dead   chan struct{} // closed when the process is killed
	heals  chan struct{} // closed when something changed
}

func newSimLink(s *simStream, seed uint64) *simLink {
	return &simLink{stream: s, rng: rand.New(rand.NewPCG(seed, 1)), slow: 3 * time.Millisecond, dead: make(chan struct{}), heals: make(chan struct{})}
}

func (l *simLink) set(cut bool, slow time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.slow = cut, slow
	close(l.heals)
	l.heals = make(chan struct{})
}

var errSimGone = errors.New("the process was killed")

// travel takes as long as a message does one way.
func (l *simLink) travel(ctx context.Context) error {
	l.mu.Lock()
	d := time.Duration(l.rng.Int64N(int64(l.slow)))
	l.mu.Unlock()
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", key.ErrUnavailable, ctx.Err())
	case <-l.dead:
		return errSimGone
	}
	for {
		l.mu.Lock()
		cut, heals := l.cut, l.heals
		l.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-heals:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", key.ErrUnavailable, ctx.Err())
		case <-l.dead:
			return errSimGone
		}
	}
}

// ask is a question and its answer.
func (l *simLink) ask(ctx context.Context, most time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if err := l.travel(ctx); err != nil {
		return err
	}
	answer := f()
	if err := l.travel(ctx); err != nil {
		return err // it happened, and nobody learns of it
	}
	return answer
}

func (l *simLink) identity(ctx context.Context) (created time.Time, last uint64, err error) {
	err = l.ask(ctx, time.Second, func() error {
		l.stream.mu.Lock()
		defer l.stream.mu.Unlock()
		if l.stream.down {
			return key.ErrUnavailable
		}
		created, last = l.stream.created, l.stream.last
		return nil
	})
	return created, last, err
}

func (l *simLink) last(ctx context.Context, name string) (e entry, err error) {
	err = l.ask(ctx, time.Second, func() (err error) { e, err = l.stream.get(name); return err })
	return e, err
}

func (l *simLink) swap(ctx context.Context, name string, value []byte, expect uint64) (revision uint64, err error) {
	err = l.ask(ctx, firstTry, func() (err error) { revision, err = l.stream.put(name, value, expect); return err })
	return revision, err
}

func (l *simLink) heartbeats(ctx context.Context) (newest map[string]entry, upTo uint64, err error) {
	newest = map[string]entry{}
	err = l.ask(ctx, time.Second, func() error {
		l.stream.mu.Lock()
		defer l.stream.mu.Unlock()
		if l.stream.down {
			return key.ErrUnavailable
		}
		for name, e := range l.stream.names {
			if _, ok := replicaOf(name); ok {
				newest[name] = e
			}
		}
		upTo = l.stream.last
		return nil
	})
	return newest, upTo, err
}

func (l *simLink) say(_ string, message []byte) error {
	s := l.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	life := s.life
	for to, ear := range s.ears {
		go func() {
			if l.travel(context.Background()) != nil || to.travel(context.Background()) != nil {
				return
			}
			s.mu.Lock()
			same := s.life == life // what was on its way died with the connections
			s.mu.Unlock()
			if same {
				ear(message)
			}
		}()
	}
	return nil
}

func (l *simLink) hear(_ string, f func([]byte)) (stop func(), err error) {
	s := l.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ears[l] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ears, l)
	}, nil
}

func (l *simLink) closed() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

func (l *simLink) follow(ctx context.Context, from uint64) (source, error) {
	src := &simSource{link: l, ctx: ctx, at: from - 1}
	err := l.ask(ctx, time.Second, func() error {
		l.stream.mu.Lock()
		defer l.stream.mu.Unlock()
		if l.stream.down {
			return key.ErrUnavailable
		}
		src.life = l.stream.life
		if _, _, behind, ok := l.stream.next(src.at); ok {
			src.behind = behind + 1
		}
		return nil
	})
	return src, err
}

// simSource reads like a consumer: what is overwritten before it gets there is
// never seen.
type simSource struct {
	link   *simLink
	ctx    context.Context
	at     uint64
	behind uint64
	life   int
}

func (r *simSource) waiting() uint64 { return r.behind }
func (r *simSource) stop()           {}

func (r *simSource) next() (string, entry, error) {
	s := r.link.stream
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	for {
		// On the way to the consumer, then from it.
		if err := r.travel(ctx); err != nil {
			return "", entry{}, err
		}
		s.mu.Lock()
		name, e, behind, ok := s.next(r.at)
		life, wake := s.life, s.wake
		s.mu.Unlock()
		switch {
		case life != r.life:
			return "", entry{}, nats.ErrDisconnected
		case ok:
			r.at, r.behind = e.revision, behind
			return name, e, r.travel(ctx)
		}
		select {
		case <-wake:
		case <-r.ctx.Done():
			return "", entry{}, context.Cause(r.ctx)
		case <-r.link.dead:
			return "", entry{}, errSimGone
		}
	}
}

// travel fails when nothing came through for as long as a reader waits for the
// server's sign of life.
func (r *simSource) travel(ctx context.Context) error {
	r.link.mu.Lock()
	patience := 2*heartbeat + r.link.slow
	r.link.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, patience, nats.ErrTimeout)
	defer cancel()
	if err := r.link.travel(ctx); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return nil
}
