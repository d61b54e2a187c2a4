package events

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A consumer on a NATS of the operator's gets in with what Create answers, once
// that is in the configuration, and reads its durable and nothing else. Who only
// knows its name can't meddle with it.
func TestExternalConsumer(t *testing.T) {
	g := setUpGround(t, 1)
	ctx := t.Context()
	usage, err := OpenUsage(ctx, g.admin, UsageConfig{})
	if err != nil {
		t.Fatal(err)
	}
	documents, err := OpenConfig(ctx, g.admin, 0)
	if err != nil {
		t.Fatal(err)
	}
	consumers, err := OpenConsumers(ctx, nil, documents, usage)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, usage, []Outgoing{
		{Subject: "tollgate.usage.v1.demo.key.m", MsgID: "1", Payload: []byte("{}")},
		{Subject: "tollgate.usage.v1.other.key.m", MsgID: "2", Payload: []byte("{}")},
	})
	cred, err := consumers.Create(ctx, "billing", "demo")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumers.Create(ctx, "billing", ""); !errors.Is(err, ErrConflict) {
		t.Errorf("a second one of the name: %v", err)
	}
	if cred.Password != "" || cred.URL != g.cluster.URL() || !strings.HasPrefix(cred.Durable, "billing-") {
		t.Errorf("credential %+v", cred)
	}
	for _, name := range []string{consumersDocument} {
		value, _, err := documents.Get(ctx, name)
		if err != nil || strings.Contains(string(value), cred.Seed) || strings.Contains(string(value), cred.Durable) {
			t.Errorf("what replicas may read: %s, %v", value, err)
		}
	}

	// The operator adds the account beside Tollgate's.
	config := strings.Replace(g.file(t, usersFile), "accounts {\n", "accounts {\n"+cred.ServerConfig, 1)
	g.cluster.Reconfigure(config)
	seed := filepath.Join(t.TempDir(), "billing.nk")
	if err := os.WriteFile(seed, []byte(cred.Seed), 0o600); err != nil {
		t.Fatal(err)
	}
	option, err := nats.NkeyOptionFromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	var nc *nats.Conn
	eventually(t, "the consumer is let in", func() bool {
		nc, err = nats.Connect(cred.URL, option)
		return err == nil
	})
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	// nats-server 2.15 subscribes the imports of an account in a reload only if the
	// account was there before.
	g.cluster.Reconfigure(config)
	var consumer jetstream.Consumer
	eventually(t, "the consumer sees its durable", func() bool {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		consumer, err = js.Consumer(ctx, cred.Stream, cred.Durable)
		return err == nil
	})
	batch, err := consumer.FetchNoWait(10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for m := range batch.Messages() {
		got = append(got, m.Subject())
		if err := m.DoubleAck(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Join(got, " ") != "tollgate.usage.v1.demo.key.m" {
		t.Errorf("got %v, %v", got, batch.Error())
	}

	denied := violations(nc)
	for _, subject := range []string{
		"$JS.API.INFO", "$JS.API.STREAM.INFO.TOLLGATE_USAGE", "$JS.API.STREAM.MSG.GET.TOLLGATE_USAGE", "$JS.API.CONSUMER.CREATE.TOLLGATE_USAGE.x",
		"$JS.API.CONSUMER.DELETE.TOLLGATE_USAGE." + cred.Durable, "$JS.API.CONSUMER.MSG.NEXT.TOLLGATE_USAGE.other", "$JS.API.CONSUMER.LIST.TOLLGATE_USAGE",
		"$JS.ACK.TOLLGATE_USAGE.other.1.1.1.1.1", "$KV.TOLLGATE_KEYS.k.demo.x", "tollgate.usage.v1.x", "tollgate.replica.x", "_INBOX.x",
	} {
		if err := nc.PublishRequest(subject, nc.NewInbox(), []byte("{}")); err != nil {
			t.Fatal(err)
		}
		expectDenied(t, denied, subject)
	}
	for _, subject := range []string{">", "tollgate.>", "$KV.>", "$JS.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		expectDenied(t, denied, subject)
	}
	// Its answers stay in its own account, wherever it wants them.
	for _, ask := range []string{"CONSUMER.INFO", "CONSUMER.MSG.NEXT"} {
		if err := nc.PublishRequest(jsAPI+ask+".TOLLGATE_USAGE."+cred.Durable, "$KV.TOLLGATE_KEYS.k.demo.x", []byte(`{"batch":1,"no_wait":true}`)); err != nil {
			t.Fatal(err)
		}
	}

	// A replica knows the name, and not the durable's.
	admin := g.connect(t, adminName)
	replica := g.connect(t, replicaName)
	rjs, err := jetstream.New(replica)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rjs.UpdateConsumer(ctx, UsageStream, jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: "none"}); err == nil {
		t.Error("a replica changed a durable by its consumer's name")
	}
	if err := rjs.DeleteConsumer(ctx, UsageStream, "billing"); err == nil {
		t.Error("a replica deleted a durable by its consumer's name")
	}
	ajs, err := jetstream.New(admin)
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := ajs.Stream(ctx, keysStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := bucket.CachedInfo().State.Msgs; n != 0 {
		t.Errorf("the bucket of keys has %d messages of a consumer", n)
	}

	if usage, err = OpenUsage(ctx, admin, UsageConfig{}); err != nil {
		t.Fatal(err)
	}
	if documents, err = OpenConfig(ctx, admin, 0); err != nil {
		t.Fatal(err)
	}
	if consumers, err = OpenConsumers(ctx, nil, documents, usage); err != nil {
		t.Fatal(err)
	}
	if err := consumers.Delete(ctx, "billing"); err != nil {
		t.Fatal(err)
	}
	if _, err := usage.stream.Consumer(ctx, cred.Durable); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("after Delete: %v", err)
	}
}
