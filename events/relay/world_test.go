package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/authz"
	"tollgate/authz/limit"
	"tollgate/events"
	"tollgate/events/journal"
)

// world is a NATS of the simulation: one stream with a window in which it
// recognises duplicates, one log of heartbeats, and requests between replicas.
// All of it is slow, loses requests and answers, and stores things later than
// whoever asked believes, in proportions of its own.
type world struct {
	t      *testing.T
	window time.Duration

	mu  sync.Mutex // guards what follows
	rng *rand.Rand
	// In so many of a hundred cases a request to the stream is lost, comes late, or
	// its answer is lost; and a look takes for windows.
	lost, late, unanswered, slow int
	stream                       []message
	state                        state               // of the stream
	story                        map[string][]string // by message id: what happened to it, for a failure
	beats                        []beat
	handlers                     map[string]handler // by subject
	linger                       sync.WaitGroup
}

// state is what a stream does with requests, for everybody: heartbeats are in
// another one.
type state int

const (
	answers  state = iota
	deaf           // it stores what comes, and nobody hears of it
	noLeader       // it is not there
)

// is changes what the stream does.
func (w *world) is(s state) { w.set(func() { w.state = s }) }

func (w *world) does() state {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

type message struct {
	id    string
	at    time.Time
	event events.Event
}

type beat struct {
	replica, incarnation string
	sent                 time.Time
}

type handler struct {
	of *process
	f  func([]byte) []byte
}

var errLoss = errors.New("lost on the way")

// happensf notes what happens to an event. w.mu is held.
func (w *world) happensf(msgID, format string, args ...any) {
	id := strings.TrimSuffix(msgID, ".late")
	w.story[id] = append(w.story[id], fmt.Sprint(time.Now().UnixMilli()%1e7, " ")+fmt.Sprintf(format, args...))
}

func (w *world) chance(percent int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(100) < percent
}

// happensTo is chance, with one of the world's proportions.
func (w *world) happensTo(percent *int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(100) < *percent
}

// between is a time from a to b.
func (w *world) between(a, b time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

func (w *world) pick(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// store stores an event unless it is recognised, and reports whether it was.
func (w *world) store(by string, out events.Outgoing) (duplicate bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	defer func() {
		w.happensf(out.MsgID, "%s publishes %s, contested %v: duplicate %v", by, out.MsgID, out.Contested, duplicate)
	}()
	for _, m := range w.stream {
		if m.id == out.MsgID && now.Sub(m.at) < w.window {
			return true
		}
	}
	var e events.Event
	if err := json.Unmarshal(out.Payload, &e); err != nil {
		w.t.Error(err)
	}
	w.stream = append(w.stream, message{out.MsgID, now, e})
	return false
}

// process is one life of a replica.
type process struct {
	w           *world
	name, dir   string
	incarnation string
	journal     *journal.Journal
	ledger      *events.Ledger
	settler     *authz.Settler
	relay       *Relay
	limits      *slots
	cancel      context.CancelFunc
	tasks       sync.WaitGroup

	mu        sync.Mutex
	cutUntil  time.Time // from NATS
	dead      bool
	leaving   bool
	applied   int       // heartbeats
	begin     time.Time //
	confirmed time.Time // the sending of our last heartbeat that came back
	heard     map[string]time.Time
	lives     map[string]string // incarnations
}

// there reports whether the process can reach NATS.
func (p *process) there() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !time.Now().Before(p.cutUntil) && !p.dead
}

// cut takes NATS away from the process for a while, unless it is away.
func (p *process) cut(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); !now.Before(p.cutUntil) {
		p.cutUntil = now.Add(d)
	}
}

func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.dead
}

func (p *process) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// start begins a life of a replica on what its directory holds.
func (w *world) start(name, dir string, sealer *authz.Sealer, gone time.Duration) *process {
	quiet := slog.New(slog.DiscardHandler)
	j, open, err := journal.Open(dir, journal.Config{SegmentBytes: 256 << 10, MaxBytes: 8 << 20, Log: quiet})
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{
		w: w, name: name, dir: dir, incarnation: fmt.Sprint(name, "@", time.Now().UnixMilli()), journal: j,
		begin: time.Now(), heard: map[string]time.Time{}, lives: map[string]string{},
	}
	w.mu.Lock()
	p.applied = len(w.beats)
	w.mu.Unlock()
	p.ledger = events.OpenLedger(j, open, "//sim/tollgate", quiet)
	p.ledger.Share(events.Sharing{Standing: p, Stream: p, Gone: gone, Window: w.window})
	p.limits = &slots{t: w.t, held: map[string]int{}}
	p.settler = &authz.Settler{Began: time.Now(), Replica: name, Sealer: sealer, Ledger: p.ledger, Limits: p.limits, Estimator: new(authz.Estimator)}
	p.relay = New(Config{Incarnation: p.incarnation, Ledger: p.ledger, Settler: p.settler, Peers: p, Link: p, Gone: gone, Log: quiet})
	p.settler.Foreign = p.relay.Take
	p.settler.Restore(time.Now(), p.ledger.Open(time.Time{}))

	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.tasks.Go(func() { _ = p.ledger.Run(ctx, p) })
	p.tasks.Go(func() {
		if err := p.relay.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	p.tasks.Go(func() { p.every(ctx, time.Second, p.beat) })
	p.tasks.Go(func() { p.every(ctx, 300*time.Millisecond, p.apply) })
	p.tasks.Go(func() { p.every(ctx, 5*time.Second, func() { p.sweep(ctx) }) })
	return p
}

// pass lets time pass, at most until ctx ends.
func pass(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (p *process) every(ctx context.Context, d time.Duration, f func()) {
	for ctx.Err() == nil {
		f()
		pass(ctx, d+p.w.between(0, d/10))
	}
}

// beat writes a heartbeat.
func (p *process) beat() {
	sent := time.Now()
	time.Sleep(p.w.between(0, 200*time.Millisecond))
	p.mu.Lock()
	defer p.mu.Unlock()
	if !time.Now().Before(p.cutUntil) && !p.dead && !p.leaving {
		p.w.mu.Lock()
		p.w.beats = append(p.w.beats, beat{p.name, p.incarnation, sent})
		p.w.mu.Unlock()
	}
}

// apply reads heartbeats, in their order, and may be behind.
func (p *process) apply() {
	if !p.there() {
		if p.w.chance(30) {
			time.Sleep(p.w.between(0, 5*time.Second))
		}
		return
	}
	if p.w.chance(5) {
		time.Sleep(p.w.between(0, 2*time.Second))
	}
	p.w.mu.Lock()
	beats := p.w.beats[p.applied:]
	p.w.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range beats {
		p.applied++
		if b.replica != p.name {
			p.heard[b.replica], p.lives[b.replica] = time.Now(), b.incarnation
		} else if b.incarnation == p.incarnation {
			p.confirmed = b.sent
		}
	}
}

func (p *process) sweep(ctx context.Context) {
	if p.relay.Reconcile(ctx) != nil {
		return
	}
	for _, a := range p.ledger.Open(time.Now()) {
		if err := p.settler.Abandon(time.Now(), a); err != nil && p.alive() {
			p.w.t.Error(err)
		}
	}
}

// Fresh implements Peers.
func (p *process) Fresh(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.confirmed.IsZero() && time.Since(p.confirmed) <= d
}

// Gone implements Peers.
func (p *process) Gone(replica string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, ok := p.heard[replica]
	if !ok {
		last = p.begin
	}
	if d := time.Since(last); d > 4*time.Second || !ok {
		return d
	}
	return 0
}

// Incarnation implements Peers.
func (p *process) Incarnation(replica string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lives[replica]
}

// PublishBatch implements events.Publisher.
func (p *process) PublishBatch(_ context.Context, batch []events.Outgoing) []error {
	errs := make([]error, len(batch))
	for i, out := range batch {
		time.Sleep(p.w.between(0, 20*time.Millisecond))
		if !p.there() {
			errs[i] = errLoss
			p.note(out.MsgID, "is not there")
			continue
		}
		switch does := p.w.does(); {
		case does == noLeader, p.w.happensTo(&p.w.lost):
			errs[i] = errLoss // the request
			p.note(out.MsgID, "loses a request")
		case p.w.happensTo(&p.w.late): // it is on its way for longer than anybody waits
			errs[i] = errLoss
			after := p.w.between(0, p.w.window/4)
			p.note(out.MsgID, "has a late request")
			p.w.linger.Go(func() {
				time.Sleep(after)
				p.w.store(p.incarnation, out)
			})
		default:
			duplicate := p.w.store(p.incarnation, out)
			if does == deaf || p.w.happensTo(&p.w.unanswered) || duplicate && out.Contested {
				errs[i] = errLoss // the answer; or told
			}
		}
		time.Sleep(p.w.between(0, 20*time.Millisecond))
		if !p.there() {
			errs[i] = errLoss
		}
	}
	return errs
}

// note notes what this process does with an event.
func (p *process) note(msgID, what string) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.happensf(msgID, "%s %s", p.incarnation, what)
}

// Look implements events.Stream.
func (p *process) Look(ctx context.Context, sought []events.Sought, _ time.Time) ([]events.Found, time.Time, error) {
	at, most := time.Now(), time.Second
	if p.w.happensTo(&p.w.slow) {
		most = 3 * p.w.window
	}
	pass(ctx, p.w.between(0, most/100))
	if !p.there() || p.w.does() != answers {
		return nil, at, errLoss
	}
	found := make([]events.Found, len(sought))
	p.w.mu.Lock()
	for i, s := range sought {
		for _, m := range p.w.stream {
			switch m.id {
			case s.MsgID:
				found[i].Usage = &m.event.Data
			case s.MsgID + ".late":
				found[i].Adjusted = true
			}
		}
		p.w.happensf(s.MsgID, "%s looks as of %d, finds usage %v", p.incarnation, at.UnixMilli()%1e7, found[i].Usage != nil)
	}
	p.w.mu.Unlock()
	pass(ctx, p.w.between(0, most))
	if ctx.Err() != nil || !p.there() {
		return nil, at, errLoss
	}
	return found, at, nil
}

// Ask implements Link.
func (p *process) Ask(ctx context.Context, subject string, request []byte) ([]byte, error) {
	time.Sleep(p.w.between(0, 50*time.Millisecond))
	p.w.mu.Lock()
	h := p.w.handlers[subject]
	p.w.mu.Unlock()
	if h.f == nil || !p.there() {
		return nil, errLoss
	}
	if !h.of.there() || p.w.chance(5) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	answer := h.f(request)
	time.Sleep(p.w.between(0, 50*time.Millisecond))
	if !p.there() || !h.of.there() || p.w.chance(10) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return answer, nil
}

// Answer implements Link.
func (p *process) Answer(subject string, f func([]byte) []byte) (func(), error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.handlers[subject] = handler{p, f}
	return func() {
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		if p.w.handlers[subject].of == p {
			delete(p.w.handlers, subject)
		}
	}, nil
}

// kill ends a life at this moment: what it writes from here on nobody sees. It
// returns the directory as it was.
func (p *process) kill() string {
	p.set(func() { p.dead = true })
	dir := p.w.t.TempDir()
	names, err := filepath.Glob(filepath.Join(p.dir, "*.seg"))
	if err != nil {
		p.w.t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // it was let go
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o600)
		}
		if err != nil {
			p.w.t.Fatal(err)
		}
	}
	p.end()
	return dir
}

func (p *process) end() {
	p.cancel()
	p.tasks.Wait()
	if err := p.journal.Close(); err != nil {
		p.w.t.Error(err)
	}
}

// slots is a Limiter that knows of each admission, which has a key of its own.
type slots struct {
	limit.Limiter
	t *testing.T

	mu   sync.Mutex
	held map[string]int
}

func (s *slots) Restore(_ time.Time, demands []limit.Demand, _ limit.Grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[demands[0].Tenant]++
}

func (s *slots) Settle(_ time.Time, demands []limit.Demand, _ limit.Grant, _ int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := demands[0].Tenant
	if s.held[id]--; s.held[id] < 0 {
		s.t.Errorf("%s was given back more often than it was taken", id)
	}
}

func (s *slots) left() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for id, n := range s.held {
		if n != 0 {
			all = append(all, fmt.Sprintf("%s ×%d", id, n))
		}
	}
	return strings.Join(all, ", ")
}
