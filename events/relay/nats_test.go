package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"tollgate/authz"
	"tollgate/authz/limit"
	"tollgate/events"
	"tollgate/events/journal"
	"tollgate/events/natsd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet is replicas on a real NATS. Who is gone, the test says.
type fleet struct {
	t      *testing.T
	nc     *nats.Conn
	usage  *events.Usage
	sealer *authz.Sealer

	mu    sync.Mutex
	gone  map[string]time.Duration
	lives map[string]string
}

const shortGone = 400 * time.Millisecond

func newFleet(t *testing.T) *fleet {
	t.Helper()
	s, err := natsd.Start(natsd.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	nc, err := s.Connect(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	usage, err := events.OpenUsage(t.Context(), nc, events.UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := authz.NewSealer(1, map[byte][]byte{1: bytes.Repeat([]byte{1}, authz.MinSealingKey)})
	if err != nil {
		t.Fatal(err)
	}
	return &fleet{t: t, nc: nc, usage: usage, sealer: sealer, gone: map[string]time.Duration{}, lives: map[string]string{}}
}

func (f *fleet) set(replica string, gone time.Duration, incarnation string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone[replica], f.lives[replica] = gone, incarnation
}

// Gone implements Peers.
func (f *fleet) Gone(replica string) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gone[replica]
}

// Incarnation implements Peers.
func (f *fleet) Incarnation(replica string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lives[replica]
}

// node is a replica.
type node struct {
	f       *fleet
	name    string
	dir     string
	journal *journal.Journal
	ledger  *events.Ledger
	settler *authz.Settler
	relay   *Relay
	limits  *slots
	fresh   atomic.Bool
	stop    func()
}

// Fresh and the others of Peers: this node's, and the fleet's.
type peers struct {
	*fleet
	n *node
}

func (p peers) Fresh(time.Duration) bool { return p.n.fresh.Load() }

func (f *fleet) node(name string) *node {
	f.t.Helper()
	n := &node{f: f, name: name, dir: f.t.TempDir()}
	n.fresh.Store(true)
	n.start()
	f.t.Cleanup(func() { n.stop() })
	return n
}

func (n *node) start() {
	n.f.t.Helper()
	log := slog.New(slog.DiscardHandler)
	j, open, err := journal.Open(n.dir, journal.Config{SegmentBytes: 256 << 10, MaxBytes: 8 << 20, Log: log})
	if err != nil {
		n.f.t.Fatal(err)
	}
	n.journal = j
	n.ledger = events.OpenLedger(j, open, "//test/tollgate", log)
	stream := events.NewSharedUsage(n.f.usage)
	n.ledger.Share(events.Sharing{Standing: peers{n.f, n}, Stream: stream, Gone: shortGone})
	n.limits = &slots{t: n.f.t, held: map[string]int{}}
	n.settler = &authz.Settler{Replica: n.name, Sealer: n.f.sealer, Ledger: n.ledger, Limits: n.limits, Estimator: new(authz.Estimator)}
	n.relay = New(Config{
		Incarnation: n.name + "@" + time.Now().String(), Ledger: n.ledger, Settler: n.settler,
		Peers: peers{n.f, n}, Link: NATS(n.f.nc), Gone: shortGone, Log: log,
	})
	n.settler.Foreign = n.relay.Take
	n.settler.Restore(time.Now(), n.ledger.Open(time.Time{}))
	n.f.set(n.name, 0, n.relay.cfg.Incarnation)
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = n.ledger.Run(ctx, stream) })
	tasks.Go(func() {
		if err := n.relay.Run(ctx); err != nil {
			n.f.t.Error(err)
		}
	})
	n.stop = sync.OnceFunc(func() {
		cancel()
		tasks.Wait()
		_ = j.Close()
	})
}

func (n *node) admit(id string, deadline time.Duration) *authz.Admission {
	n.f.t.Helper()
	now := time.Now()
	a := &authz.Admission{
		ID: id, Replica: n.name, Workspace: "w", Key: id, Model: "m", Dialect: "openai",
		Start: now.UTC().Truncate(time.Microsecond), Deadline: now.Add(deadline).UTC().Truncate(time.Microsecond),
		Reserved: limit.Grant{At: now.UTC().Truncate(time.Microsecond), Tokens: 10, Counted: 1 << limit.Key},
	}
	n.settler.Restore(now, []*authz.Admission{a})
	if err := n.ledger.Admit(a, a.AppendBinary(nil)); err != nil {
		n.f.t.Fatal(err)
	}
	return a
}

var answered = authz.Observation{Status: 200, Upstream: "u", Reported: true, Tokens: authz.Tokens{Input: 7, Output: 3}}

func (n *node) settle(a *authz.Admission) {
	n.f.t.Helper()
	if err := n.settler.Settle(n.f.t.Context(), time.Now(), n.f.sealer.Seal(a.AppendBinary(nil)), answered); err != nil {
		n.f.t.Error(err)
	}
}

// stored are all events, by type and admission; more than one of a kind is an
// error.
func (f *fleet) stored() map[string]events.UsageData {
	f.t.Helper()
	items, _, err := f.usage.Read(f.t.Context(), 0, time.Time{}, events.MaxRead, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	all := map[string]events.UsageData{}
	for _, item := range items {
		var e events.Event
		if err := json.Unmarshal(item.Payload, &e); err != nil {
			f.t.Fatal(err)
		}
		id := e.ID
		if e.Type == events.TypeAdjusted {
			id = "adjusted " + e.Data.Adjusts
		}
		if _, twice := all[id]; twice {
			f.t.Errorf("two events: %s", id)
		}
		all[id] = e.Data
	}
	return all
}

func (f *fleet) eventually(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("never: %s", what)
		}
	}
}

// idle waits until nothing is under way at a node, and says what it must not hold.
func (n *node) idle() {
	n.f.t.Helper()
	n.f.eventually("nothing is left at "+n.name, func() bool {
		s, j := n.relay.Stats(), n.journal.Stats()
		return s.Held == 0 && s.Copies == 0 && j.Open == 0 && j.Waiting == 0 && n.limits.left() == ""
	})
}

// A settlement may come to any replica, once or to several: the owner closes.
func TestSettlementAtAnyReplica(t *testing.T) {
	f := newFleet(t)
	owner, other, third := f.node("r1"), f.node("r2"), f.node("r3")
	wrong, twice, swept := owner.admit("wrong", time.Hour), owner.admit("twice", time.Hour), owner.admit("swept", time.Hour)
	if err := owner.settler.Abandon(time.Now(), swept); err != nil {
		t.Fatal(err)
	}
	other.settle(wrong)
	for _, n := range []*node{other, other, third, owner, third} {
		n.settle(twice)
		n.settle(swept)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, n := range []*node{other, third} {
		if err := n.relay.Flush(ctx); err != nil {
			t.Errorf("%s: %v, %+v", n.name, err, n.relay.Stats())
		}
	}
	for _, n := range []*node{owner, other, third} {
		n.idle()
	}
	all := f.stored()
	for _, id := range []string{"wrong", "twice", "adjusted swept"} {
		if d := all[id]; d.InputTokens != 7 || d.OutputTokens != 3 || d.Measurement != authz.Reported {
			t.Errorf("%s: %+v", id, d)
		}
	}
	if len(all) != 4 || all["swept"].Measurement != authz.None {
		t.Errorf("stored: %+v", all)
	}
	if s := other.relay.Stats(); s.Delivered < 3 || s.InPlace != 0 {
		t.Errorf("%+v", s)
	}
}

// A settlement waits for its owner over the restart of both.
func TestSettlementWaitsForItsOwner(t *testing.T) {
	f := newFleet(t)
	owner, other := f.node("r1"), f.node("r2")
	a := owner.admit("a", time.Hour)
	owner.stop()
	f.set("r1", shortGone/2, "")
	other.settle(a)
	other.settle(a)
	if s := other.relay.Stats(); s.Held != 1 {
		t.Errorf("%+v", s)
	}
	other.stop()
	other.start()
	if s := other.relay.Stats(); s.Held != 1 || len(f.stored()) != 0 {
		t.Errorf("after a restart: %+v", s)
	}
	owner.start()
	other.idle()
	owner.idle()
	if all := f.stored(); len(all) != 1 || all["a"].OutputTokens != 3 {
		t.Errorf("stored: %+v", all)
	}
}

// When the owner stays away, whoever has a settlement closes in its place, one of
// them; an owner that comes back all the same finds that.
func TestOwnerThatIsGone(t *testing.T) {
	f := newFleet(t)
	owner, other, third := f.node("r1"), f.node("r2"), f.node("r3")
	a, open, swept := owner.admit("a", time.Hour), owner.admit("open", time.Hour), owner.admit("swept", time.Hour)
	if err := owner.settler.Abandon(time.Now(), swept); err != nil {
		t.Fatal(err)
	}
	f.eventually("it is stored", func() bool { return len(f.stored()) == 1 })
	owner.stop()
	for _, n := range []*node{other, third} {
		n.settle(a)
		n.settle(swept)
	}
	f.set("r1", shortGone, "") // not longer than that
	time.Sleep(2 * every)
	if len(f.stored()) != 1 {
		t.Error("closed in place of an owner that may be there")
	}
	f.set("r1", time.Hour, "")
	other.fresh.Store(false)
	third.fresh.Store(false)
	time.Sleep(2 * every)
	if len(f.stored()) != 1 {
		t.Error("closed by who has no idea of who is there")
	}
	other.fresh.Store(true)
	third.fresh.Store(true)
	other.idle()
	third.idle()
	if s, u := other.relay.Stats(), third.relay.Stats(); s.InPlace != 2 || u.InPlace != 2 {
		t.Errorf("%+v, %+v", s, u)
	}
	all := f.stored()
	if len(all) != 3 || all["a"].OutputTokens != 3 || all["adjusted swept"].OutputTokens != 3 {
		t.Errorf("stored: %+v", all)
	}

	owner.fresh.Store(false)
	owner.start()
	if err := owner.relay.Reconcile(t.Context()); err == nil {
		t.Error("the sweep may begin before it is known what others closed")
	}
	owner.fresh.Store(true)
	f.eventually("the owner finds it", func() bool { return len(owner.ledger.Open(time.Time{})) == 1 })
	owner.settle(a)
	owner.settle(open)
	owner.idle()
	if all := f.stored(); len(all) != 4 || all["open"].OutputTokens != 3 {
		t.Errorf("stored: %+v", all)
	}
}

// What is handed over keeps its slots there, until it is settled, closed by
// somebody, or the owner is back.
func TestHandOver(t *testing.T) {
	f := newFleet(t)
	owner, adopter, third := f.node("r1"), f.node("r2"), f.node("r3")
	here, there, never := owner.admit("here", time.Hour), owner.admit("there", time.Hour), owner.admit("never", time.Millisecond)
	for range 2 { // the answer may be lost
		if n, err := owner.relay.HandOver(t.Context(), "r2"); n != 3 || err != nil {
			t.Fatalf("%d were handed over: %v", n, err)
		}
	}
	if _, err := owner.relay.HandOver(t.Context(), "nobody"); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("handed over to nobody: %v", err)
	}
	owner.stop()
	f.set("r1", time.Millisecond, owner.relay.cfg.Incarnation)
	slots := func(n *node) int {
		n.limits.mu.Lock()
		defer n.limits.mu.Unlock()
		sum := 0
		for _, held := range n.limits.held {
			sum += held
		}
		return sum
	}
	if n := slots(adopter); n != 3 {
		t.Errorf("the adopter holds %d slots", n)
	}
	adopter.stop()
	adopter.start()
	if n := slots(adopter); n != 3 || adopter.relay.Stats().Copies != 3 {
		t.Errorf("after a restart it holds %d slots", n)
	}
	adopter.settle(here)
	if n := slots(adopter); n != 2 {
		t.Errorf("after a settlement it holds %d slots", n)
	}
	third.settle(there)
	f.set("r1", time.Hour, owner.relay.cfg.Incarnation)
	adopter.idle()
	third.idle()
	all := f.stored()
	if len(all) != 3 || all["here"].OutputTokens != 3 || all["there"].OutputTokens != 3 || all["never"].Measurement != authz.None {
		t.Errorf("stored: %+v", all)
	}

	owner.start()
	owner.idle() // it finds all of them closed
	owner.settle(never)
	f.eventually("the truth", func() bool { return len(f.stored()) == 4 })

	back := owner.admit("back", time.Hour)
	if n, err := owner.relay.HandOver(t.Context(), "r2"); n != 1 || err != nil {
		t.Fatalf("%d were handed over: %v", n, err)
	}
	time.Sleep(2 * every)
	if n := slots(adopter); n != 1 {
		t.Errorf("while its owner is about to leave the adopter holds %d slots", n)
	}
	owner.stop()
	owner.start()
	adopter.idle()
	if n := slots(owner); n != 1 {
		t.Errorf("the owner holds %d slots", n)
	}
	owner.settle(back)
	owner.idle()
}

// A stranger's bytes, tokens of another deployment and settlements for somebody
// else change nothing and are counted.
func TestStrangers(t *testing.T) {
	f := newFleet(t)
	n := f.node("r1")
	a := n.admit("a", time.Hour)
	stranger, err := authz.NewSealer(1, map[byte][]byte{1: bytes.Repeat([]byte{9}, authz.MinSealingKey)})
	if err != nil {
		t.Fatal(err)
	}
	forged := stranger.Seal(a.AppendBinary(nil))
	foreign := *a
	foreign.Replica = "r2"
	misled := f.sealer.Seal(foreign.AppendBinary(nil))
	ask := func(subject string, request []byte) []byte {
		t.Helper()
		answer, err := NATS(f.nc).Ask(t.Context(), subject, request)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	f.eventually("it answers", func() bool {
		for _, subject := range []string{settleSubject("r1"), adoptSubject("r1")} {
			if _, err := NATS(f.nc).Ask(t.Context(), subject, encodeAdopt(handover{})); err != nil {
				return false
			}
		}
		return true
	})
	malformed := n.relay.Stats().Malformed
	for _, bad := range [][]byte{nil, {0}, {wireVersion, 0xff}, []byte("hello")} {
		for _, subject := range []string{settleSubject("r1"), adoptSubject("r1")} {
			if answer := ask(subject, bad); !bytes.Equal(answer, encodeAnswers(nil)) {
				t.Errorf("%q is answered with %q", bad, answer)
			}
		}
	}
	answers, err := decodeAnswers(ask(settleSubject("r1"), encodeSettle([]settlement{{answered, forged}, {answered, misled}, {answered, ""}})), 3)
	if err != nil || answers[0] != answerRefused || answers[1] != answerRefused || answers[2] != answerRefused {
		t.Errorf("%v, %v", answers, err)
	}
	answers, err = decodeAnswers(ask(adoptSubject("r1"), encodeAdopt(handover{"r2", "i", []string{forged, f.sealer.Seal(a.AppendBinary(nil))}})), 2)
	if err != nil || answers[0] != answerRefused || answers[1] != answerRefused {
		t.Errorf("%v, %v", answers, err)
	}
	if s := n.relay.Stats(); s.Malformed != malformed+8 || s.Refused != 5 || s.Copies != 0 || s.Held != 0 {
		t.Errorf("%+v", s)
	}
	if len(n.ledger.Open(time.Time{})) != 1 || len(f.stored()) != 0 {
		t.Error("a stranger has closed it")
	}
}
