package natsd

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// door is a listening server with a stream of ten messages, a bucket, and users
// a and b, each with a durable consumer of the same name.
func door(t *testing.T) (*Server, jetstream.Stream, []User) {
	t.Helper()
	s := start(t, Config{Listen: "127.0.0.1:0"})
	_, js := connect(t, s)
	st := stream(t, js, "EVENTS", "tollgate.usage.>")
	if _, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "TOLLGATE_KEYS"}); err != nil {
		t.Fatal(err)
	}
	var users []User
	for _, name := range []string{"a", "b"} {
		hash, err := HashPassword("password-" + name)
		if err != nil {
			t.Fatal(err)
		}
		users = append(users, User{Name: name, PasswordHash: hash, Stream: "EVENTS", Durable: name})
		if _, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		if _, err := js.Publish(t.Context(), "tollgate.usage.x", []byte("event")); err != nil {
			t.Fatal(err)
		}
	}
	return s, st, users
}

func outside(t *testing.T, s *Server, opts ...nats.Option) (*nats.Conn, error) {
	t.Helper()
	nc, err := nats.Connect("nats://"+s.Addr(), append(opts, nats.NoReconnect(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if err == nil {
		t.Cleanup(nc.Close)
	}
	return nc, err
}

func userA() nats.Option { return nats.UserInfo("a", "password-a") }

func TestNobodyWithoutPassword(t *testing.T) {
	s, _, users := door(t)
	check := func(when string) {
		t.Helper()
		for what, opts := range map[string][]nats.Option{
			"anonymous":      nil,
			"wrong password": {nats.UserInfo("a", "password-b")},
			"no password":    {nats.UserInfo("a", "")},
			"internal user":  {nats.UserInfo(internalUser, "")},
			"unknown user":   {nats.UserInfo("c", "password-a")},
			"hash":           {nats.UserInfo("a", users[0].PasswordHash)},
		} {
			if _, err := outside(t, s, opts...); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("%s, %s: %v; want %v", when, what, err, nats.ErrAuthorization)
			}
		}
	}
	check("before there are users")
	if err := s.SetUsers(users); err != nil {
		t.Fatal(err)
	}
	check("with users")
	if err := s.SetUsers(nil); err != nil {
		t.Fatal(err)
	}
	check("after they are gone")
}

// A client with nothing but the address and its password, as any client library
// does it: default inbox, consumer information, pull, acknowledgement.
func TestUserReadsItsConsumer(t *testing.T) {
	s, st, users := door(t)
	if err := s.SetUsers(users); err != nil {
		t.Fatal(err)
	}
	nc, err := outside(t, s, userA())
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	cons, err := js.Consumer(t.Context(), "EVENTS", "a")
	if err != nil {
		t.Fatalf("the consumer's information: %v", err)
	}
	if n := cons.CachedInfo().NumPending; n != 10 {
		t.Errorf("%d messages are pending, want 10", n)
	}
	for range 2 {
		batch, err := cons.Fetch(5, jetstream.FetchMaxWait(2*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for msg := range batch.Messages() {
			n++
			if err := msg.DoubleAck(t.Context()); err != nil {
				t.Fatalf("acknowledging: %v", err)
			}
		}
		if n != 5 || batch.Error() != nil {
			t.Fatalf("%d messages, error %v", n, batch.Error())
		}
	}
	for name, floor := range map[string]uint64{"a": 10, "b": 0} {
		c, err := st.Consumer(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.CachedInfo().AckFloor.Stream; got != floor {
			t.Errorf("consumer %s has acknowledged up to %d, want %d", name, got, floor)
		}
	}
}

// Whatever else a user tries is refused, and changes nothing.
func TestUserCanDoNothingElse(t *testing.T) {
	s, st, users := door(t)
	if err := s.SetUsers(users); err != nil {
		t.Fatal(err)
	}
	internal, ijs := connect(t, s)
	kv, err := ijs.KeyValue(t.Context(), "TOLLGATE_KEYS")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "k.w.id", []byte("record")); err != nil {
		t.Fatal(err)
	}
	nc, err := outside(t, s, userA())
	if err != nil {
		t.Fatal(err)
	}
	denied := make(chan error, 1000)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
	expectDenial := func(what string) {
		t.Helper()
		select {
		case err := <-denied:
			if !errors.Is(err, nats.ErrPermissionViolation) && !strings.Contains(strings.ToLower(err.Error()), "violation") {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s was not denied", what)
		}
	}

	for _, subject := range []string{
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST",
		"$JS.API.STREAM.INFO.EVENTS", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.DELETE.EVENTS",
		"$JS.API.STREAM.MSG.GET.EVENTS", "$JS.API.STREAM.MSG.DELETE.EVENTS", "$JS.API.DIRECT.GET.EVENTS",
		"$JS.API.STREAM.MSG.GET.KV_TOLLGATE_KEYS", "$JS.API.STREAM.INFO.KV_TOLLGATE_KEYS", "$JS.API.STREAM.PURGE.KV_TOLLGATE_KEYS",
		"$JS.API.DIRECT.GET.KV_TOLLGATE_KEYS", "$JS.API.DIRECT.GET.KV_TOLLGATE_KEYS.$KV.TOLLGATE_KEYS.k.w.id",
		"$JS.API.CONSUMER.CREATE.EVENTS", "$JS.API.CONSUMER.CREATE.KV_TOLLGATE_KEYS", "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.c",
		"$JS.API.CONSUMER.INFO.EVENTS.b", "$JS.API.CONSUMER.DELETE.EVENTS.a", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.b",
		"$JS.API.CONSUMER.LIST.EVENTS", "$JS.ACK.EVENTS.b.1.1.1.1.1", "$JS.ACK.EVENTS.b.>",
		"$KV.TOLLGATE_KEYS.k.w.id", "tollgate.usage.x", "tollgate.usage.v1.w.k.m", "tollgate.audit.v1.x",
		"_INBOX.someone", "_TGI.someone", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO",
	} {
		if err := nc.PublishRequest(subject, nats.NewInbox(), []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		expectDenial("publishing to " + subject)
	}

	var heard atomic.Int64
	for _, subject := range []string{">", "*", "$KV.>", "$JS.>", "$JS.ACK.>", "$SYS.>", "tollgate.>", "_TGI.>", "_R_.>"} {
		if _, err := nc.Subscribe(subject, func(*nats.Msg) { heard.Add(1) }); err != nil {
			t.Fatal(err)
		}
		expectDenial("subscribing to " + subject)
	}

	// It may listen to _INBOX.>, but hears nobody there: b's deliveries and our
	// own replies are in other accounts.
	if _, err := nc.Subscribe("_INBOX.>", func(*nats.Msg) { heard.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	other, err := outside(t, s, nats.UserInfo("b", "password-b"))
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := other.Request("$JS.API.CONSUMER.MSG.NEXT.EVENTS.b", []byte(`{"batch":1}`), 2*time.Second); err != nil || string(msg.Data) != "event" {
		t.Fatalf("b's own pull: %v, %v", msg, err)
	}
	if err := internal.Publish("_INBOX.secret", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), "k.w.id", []byte("record 2")); err != nil {
		t.Fatal(err)
	}

	// A pull whose answers would go where a must not write: to b's
	// acknowledgements, to the bucket, into the stream.
	for _, reply := range []string{"$JS.ACK.EVENTS.b.1.1.1.1.0", "$KV.TOLLGATE_KEYS.k.w.id", "tollgate.usage.forged"} {
		sender, err := outside(t, s, userA())
		if err != nil {
			t.Fatal(err)
		}
		if err := sender.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.EVENTS.a", reply, []byte(`{"batch":2,"no_wait":true}`)); err != nil {
			t.Fatal(err)
		}
		_ = sender.Flush() // an error where the server has hung up on it
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := heard.Load(); n != 0 {
		t.Errorf("a heard %d messages of others", n)
	}
	info, err := st.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 10 {
		t.Errorf("the stream has %d messages, want 10", info.State.Msgs)
	}
	if e, err := kv.Get(t.Context(), "k.w.id"); err != nil || string(e.Value()) != "record 2" {
		t.Errorf("the bucket has %v, %v", e, err)
	}
	b, err := st.Consumer(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if i := b.CachedInfo(); i.NumAckPending != 1 || i.AckFloor.Stream != 0 {
		t.Errorf("b has %d unacknowledged, floor %d; want 1 and 0", i.NumAckPending, i.AckFloor.Stream)
	}
}

func TestSetUsersActsAtOnce(t *testing.T) {
	s, _, users := door(t)
	internal, _ := connect(t, s)
	if err := s.SetUsers(users); err != nil {
		t.Fatal(err)
	}
	cut := make(chan struct{})
	if _, err := outside(t, s, userA(), nats.ClosedHandler(func(*nats.Conn) { close(cut) })); err != nil {
		t.Fatal(err)
	}
	stays, err := outside(t, s, nats.UserInfo("b", "password-b"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetUsers(users[1:]); err != nil {
		t.Fatal(err)
	}
	select {
	case <-cut:
	case <-time.After(time.Minute):
		t.Error("the user who was taken away is still connected")
	}
	if _, err := outside(t, s, userA()); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("it can come back: %v", err)
	}
	if _, err := stays.Request("$JS.API.CONSUMER.MSG.NEXT.EVENTS.b", []byte(`{"batch":1}`), 2*time.Second); err != nil {
		t.Errorf("the one that stayed: %v", err)
	}
	if n := internal.Stats().Reconnects; n != 0 || !internal.IsConnected() {
		t.Errorf("the internal connection was broken: %d reconnects", n)
	}
}

func TestMalformedUsers(t *testing.T) {
	s, _, users := door(t)
	good := users[0]
	for what, change := range map[string]func(*User){
		"name":    func(u *User) { u.Name = `a", password: "x` },
		"hash":    func(u *User) { u.PasswordHash = "plain" },
		"stream":  func(u *User) { u.Stream = "*" },
		"durable": func(u *User) { u.Durable = ">" },
	} {
		u := good
		change(&u)
		if err := s.SetUsers([]User{u}); err == nil {
			t.Errorf("a user with a bad %s was accepted", what)
		}
	}
	if err := s.SetUsers([]User{good, good}); err == nil {
		t.Error("a user was accepted twice")
	}
}
