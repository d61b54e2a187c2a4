package events

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/authz/key"
	"tollgate/events/natstest"
)

// ground is a cluster that was set up as an operator does it, with the files that
// Users wrote.
type ground struct {
	cluster *natstest.Cluster
	dir     string
	admin   *nats.Conn
	replica *nats.Conn
}

func setUpGround(t *testing.T, servers int) *ground {
	t.Helper()
	g := &ground{dir: t.TempDir()}
	if _, err := (Users{Dir: g.dir}).Write(); err != nil {
		t.Fatal(err)
	}
	g.cluster = natstest.StartCluster(t, natstest.Options{Servers: servers, Config: g.file(t, usersFile)})
	g.admin = g.connect(t, adminName)
	if _, err := SetUp(t.Context(), g.admin, 0, false); err != nil {
		t.Fatal(err)
	}
	g.replica = g.connect(t, replicaName)
	return g
}

func (g *ground) file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (g *ground) connect(t *testing.T, role string) *nats.Conn {
	t.Helper()
	nc, err := Connect(t.Context(), ConnectConfig{URL: g.cluster.URL(), NkeyFile: filepath.Join(g.dir, role+".nk"), Name: t.Name(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// violations collects what the server denies a connection.
func violations(nc *nats.Conn) <-chan error {
	denied := make(chan error, 1000)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
	return denied
}

func expectDenied(t *testing.T, denied <-chan error, what string) {
	t.Helper()
	select {
	case err := <-denied:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+what+`"`) {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(time.Minute):
		t.Errorf("%s is allowed", what)
	}
}

// A replica's rights are enough for everything that a replica does, and an
// administrator's for every change.
func TestRolesCanDoTheirWork(t *testing.T) {
	g := setUpGround(t, 3)
	ctx := t.Context()

	changes, err := OpenKeys(ctx, g.admin, KeysConfig{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := OpenKeys(ctx, g.replica, KeysConfig{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	rec := record("018f0000-0000-7000-8000-000000000001")
	revision, err := changes.Put(ctx, rec, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := changes.PutDocument(ctx, "catalog", []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := keys.Get(ctx, "demo", rec.ID); err != nil || got.Revision != revision {
		t.Errorf("Get as a replica: %v, %v", got, err)
	}
	if _, _, err := keys.GetDocument(ctx, "catalog"); err != nil {
		t.Errorf("GetDocument as a replica: %v", err)
	}

	// A heartbeat, and what the feed brings of it and of the key.
	src, err := keys.bucket.follow(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer src.stop()
	if _, err := keys.bucket.swap(ctx, "h.r1", []byte("{}"), 0); err != nil {
		t.Fatalf("a heartbeat: %v", err)
	}
	var names []string
	for range 3 {
		name, _, err := src.next()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if want := []string{"k.demo." + rec.ID, "d.catalog", "h.r1"}; !slices.Equal(names, want) {
		t.Errorf("the feed brought %v, want %v", names, want)
	}
	if newest, _, err := changes.bucket.heartbeats(ctx); err != nil || len(newest) != 1 {
		t.Errorf("the list of heartbeats, as an administrator: %v, %v", newest, err)
	}
	if many, err := changes.GetMany(ctx, "demo", []string{rec.ID, "nobody"}); err != nil || len(many) != 1 {
		t.Errorf("many records at once, as an administrator: %v, %v", many, err)
	}

	// Events out, and in again by all ways.
	usage, err := OpenUsage(ctx, g.replica, UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, usage, outgoing(0, 300))
	if items, _, err := usage.Read(ctx, 0, time.Time{}, MaxRead, 0); err != nil || len(items) != 300 {
		t.Errorf("Read: %d, %v", len(items), err)
	}
	sought := []Sought{{MsgID: outgoing(7, 8)[0].MsgID, Subject: outgoing(7, 8)[0].Subject, Start: time.Now()}}
	if _, _, err := NewSharedUsage(usage).Look(ctx, sought, time.Now()); err != nil {
		t.Errorf("Look: %v", err)
	}

	// Documents: the replica's own one, the others read.
	documents, err := OpenConfig(ctx, g.admin, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := documents.Put(ctx, "sealing-keys", []byte("{}"), 0); err != nil {
		t.Fatal(err)
	}
	own, err := OpenConfig(ctx, g.replica, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := own.Get(ctx, "sealing-keys"); err != nil {
		t.Errorf("the sealing keys: %v", err)
	}
	if _, err := own.Put(ctx, learnedName, []byte("{}"), 0); err != nil {
		t.Errorf("the learned ratios: %v", err)
	}
	once, err := OpenIdempotency(ctx, g.admin, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := once.Claim(ctx, "a", "id", "print"); err != nil {
		t.Errorf("an idempotency key: %v", err)
	}

	// Whose an object is, and what is counted.
	objects, err := OpenObjects(ctx, g.replica, 0)
	if err != nil {
		t.Fatal(err)
	}
	if bound, err := objects.Bind(ctx, aTask, bindingOf(ours, time.Now())); err != nil || !bound {
		t.Errorf("Bind as a replica: %t, %v", bound, err)
	}
	if held, err := objects.Reserve(ctx, time.Now(), aMind, 1, "1", time.Now().Add(time.Hour)); err != nil || !held {
		t.Errorf("Reserve as a replica: %t, %v", held, err)
	}

	trail, err := OpenAudit(ctx, g.admin, AuditConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := trail.Append(ctx, &AuditEvent{ID: "1", Data: AuditData{Action: "key.create"}}); err != nil {
		t.Errorf("the audit trail: %v", err)
	}

	// Replicas and administrators ask replicas.
	second := g.connect(t, replicaName)
	stop, err := AnswerPrepare(g.replica, "r1", func(context.Context, []byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for who, nc := range map[string]*nats.Conn{"a replica": second, "an administrator": g.admin} {
		// Servers hear of each other's subscriptions a moment later.
		eventually(t, who+" is answered", func() bool { return AskPrepare(ctx, nc, "r1", []byte("{}")) == nil })
	}
	for role, nc := range map[string]*nats.Conn{replicaName: g.replica, adminName: g.admin, "second replica": second} {
		if err := nc.LastError(); err != nil {
			t.Errorf("the connection of the %s: %v", role, err)
		}
	}
}

// What a role has no right to is denied, each for itself, and nothing changes.
func TestRolesCanDoNothingElse(t *testing.T) {
	g := setUpGround(t, 1)
	ctx := t.Context()
	changes, err := OpenKeys(ctx, g.admin, KeysConfig{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	rec := record("018f0000-0000-7000-8000-000000000001")
	if _, err := changes.Put(ctx, rec, 0); err != nil {
		t.Fatal(err)
	}
	before, _, err := identityOf(t, g.admin)
	if err != nil {
		t.Fatal(err)
	}

	nobody := []string{
		"$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.UPDATE.OTHER", "$JS.API.STREAM.INFO.OTHER",
		"$JS.API.CONSUMER.CREATE.OTHER.x", "$JS.API.META.LEADER.STEPDOWN", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO",
		"$JS.ACK.TOLLGATE_USAGE.a.1.1.1.1.1", "$KV.OTHER.x", "tollgate.other", "_INBOX.someone", "_INBOX.UABC.x", "any.subject",
	}
	for _, stream := range []string{keysStream, configStream, objectsStream, onceStream, UsageStream, auditStream} {
		for _, verb := range []string{"STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE", "STREAM.SNAPSHOT", "STREAM.RESTORE", "STREAM.LEADER.STEPDOWN", "STREAM.PEER.REMOVE", "CONSUMER.LIST"} {
			nobody = append(nobody, jsAPI+verb+"."+stream)
		}
		nobody = append(nobody, jsAPI+"CONSUMER.CREATE."+stream, jsAPI+"CONSUMER.DURABLE.CREATE."+stream+".x")
	}
	replica := slices.Clone(nobody)
	for _, stream := range []string{keysStream, configStream, objectsStream, onceStream, UsageStream, auditStream} {
		replica = append(replica, jsAPI+"STREAM.CREATE."+stream, jsAPI+"STREAM.UPDATE."+stream, jsAPI+"DIRECT.GET."+stream,
			jsAPI+"DIRECT.GET."+stream+".x", jsAPI+"CONSUMER.NAMES."+stream, jsAPI+"CONSUMER.INFO."+stream+".x",
			jsAPI+"CONSUMER.PAUSE."+stream+".x", jsAPI+"CONSUMER.RESET."+stream+".x", jsAPI+"CONSUMER.UNPIN."+stream+".x")
	}
	replica = append(replica,
		"$KV.TOLLGATE_KEYS.k.demo."+rec.ID, "$KV.TOLLGATE_KEYS.k.demo.new", "$KV.TOLLGATE_KEYS.d.catalog", "$KV.TOLLGATE_KEYS.x.digest",
		jsAPI+"CONSUMER.INFO."+UsageStream+".billing", "$KV.TOLLGATE_CONFIG.sealing-keys", "$KV.TOLLGATE_CONFIG.consumers", "$KV.TOLLGATE_ONCE.a", "tollgate.audit.v1.demo.x",
		jsAPI+"CONSUMER.CREATE."+configStream+".x", jsAPI+"STREAM.MSG.GET."+onceStream,
		jsAPI+"CONSUMER.CREATE."+objectsStream+".x", "$KV.TOLLGATE_OBJECTS.x", "$KV.TOLLGATE_OBJECTS.o.a.b")

	for role, subjects := range map[string][]string{replicaName: replica, adminName: nobody} {
		nc := g.connect(t, role)
		denied := violations(nc)
		for _, subject := range subjects {
			if err := nc.PublishRequest(subject, nc.NewInbox(), []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
			expectDenied(t, denied, subject)
		}
		for _, subject := range []string{">", "*", "$KV.>", "$KV.TOLLGATE_KEYS.>", "$JS.>", "$JS.API.>", "$SYS.>", "tollgate.>", "tollgate.usage.>", "_INBOX.>", "_INBOX.*.>"} {
			if _, err := nc.SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
			expectDenied(t, denied, subject)
		}
	}
	after, _, err := identityOf(t, g.admin)
	if err != nil {
		t.Fatal(err)
	}
	if before != after {
		t.Errorf("the streams were\n%s\nand are\n%s", before, after)
	}
	if got, err := changes.Get(ctx, "demo", rec.ID); err != nil || got.Revision != 1 {
		t.Errorf("the key is %+v, %v", got, err)
	}
}

// identityOf tells how many messages the streams have, for comparison.
func identityOf(t *testing.T, nc *nats.Conn) (string, jetstream.JetStream, error) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		return "", nil, err
	}
	var b strings.Builder
	for _, name := range []string{keysStream, configStream, objectsStream, onceStream, UsageStream, auditStream} {
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			return "", nil, err
		}
		info := s.CachedInfo()
		b.WriteString(name + " " + info.Created.String() + " " + numbered(int(info.State.Msgs), "message", "messages") + "\n")
	}
	return b.String(), js, nil
}

// One message of a replica's must not delete the others of a stream, as the header
// for it does where a bucket is made in the usual way.
func TestReplicaCanNotEmptyTheBucket(t *testing.T) {
	g := setUpGround(t, 1)
	changes, err := OpenKeys(t.Context(), g.admin, KeysConfig{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := changes.Put(t.Context(), record("018f0000-0000-7000-8000-000000000001"), 0); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(g.replica)
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"$KV.TOLLGATE_KEYS.h.r1", "$KV.TOLLGATE_CONFIG." + learnedName, "$KV.TOLLGATE_OBJECTS.o.x", "$KV.TOLLGATE_OBJECTS.r.x", "tollgate.usage.v1.x"} {
		for _, header := range []nats.Header{{"Nats-Rollup": {"all"}}, {"Nats-Rollup": {"sub"}}} {
			if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: header}); err == nil {
				t.Errorf("%s with %v was taken", subject, header)
			}
		}
	}
	if _, err := changes.Get(t.Context(), "demo", "018f0000-0000-7000-8000-000000000001"); err != nil {
		t.Errorf("the key: %v", err)
	}
}

// Whoever asks NATS chooses where the answer goes. What a replica may ask for must
// not become a record that it may not write. (An answer that is stored under a
// key's name closes the key, which a replica can do as well by refusing it.)
func TestAnswersAreNoRecords(t *testing.T) {
	g := setUpGround(t, 1)
	ctx := t.Context()
	keys, err := OpenKeys(ctx, g.replica, KeysConfig{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(g.replica)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(request string, target, body string) {
		t.Helper()
		if err := g.replica.PublishRequest(jsAPI+request, target, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	ways := map[string]func(stream, subject, target string){
		"msg-get": func(stream, subject, target string) {
			ask("STREAM.MSG.GET."+stream, target, `{"last_by_subj":"`+subject+`"}`)
		},
		"direct-get": func(stream, subject, target string) {
			ask("DIRECT.GET."+stream, target, `{"last_by_subj":"`+subject+`"}`)
		},
		"pull": func(stream, subject, target string) {
			c, err := js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, FilterSubject: subject})
			if err != nil {
				t.Fatal(err)
			}
			ask("CONSUMER.MSG.NEXT."+stream+"."+c.CachedInfo().Name, target, `{"batch":1}`)
		},
		"push": func(stream, subject, target string) {
			ask("CONSUMER.CREATE."+stream+".p", g.replica.NewInbox(), `{"stream_name":"`+stream+`","config":{"name":"p","deliver_subject":"`+target+
				`","filter_subject":"`+subject+`","deliver_policy":"all","ack_policy":"none","replay_policy":"instant"}}`)
		},
	}
	var ids []string
	for way, try := range ways {
		for stream, place := range map[string]string{keysStream: "$KV.TOLLGATE_KEYS.h.", UsageStream: "tollgate.usage.v1."} {
			id := strings.ToLower(stream) + "-" + way
			forged, err := json.Marshal(record(id))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(ctx, place+id, forged); err != nil {
				t.Fatal(err)
			}
			try(stream, place+id, "$KV.TOLLGATE_KEYS.k.demo."+id)
			ids = append(ids, id)
		}
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, id := range ids {
			if got, err := keys.Get(ctx, "demo", id); err == nil {
				t.Fatalf("a replica made a key: %+v", got)
			} else if !errors.Is(err, key.ErrNotFound) && !errors.Is(err, key.ErrUnavailable) {
				t.Fatal(err)
			}
		}
	}
}
