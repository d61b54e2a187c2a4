package events

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What is there is opened as it is, by many at once, and never changed.
func TestOpenBucketLeavesItAsItIs(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: keysBucket, Description: "the operator's", Storage: jetstream.MemoryStorage})
	if err != nil {
		t.Fatal(err)
	}
	put(t, openKeys(t, nc), record("k"), 0)
	stream, err := js.Stream(t.Context(), keysStream)
	if err != nil {
		t.Fatal(err)
	}
	if cfg := stream.CachedInfo().Config; cfg.Description != "the operator's" || cfg.Storage != jetstream.MemoryStorage {
		t.Errorf("it was changed: %+v", cfg)
	}
}

func TestOpenBucketAtOnce(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := OpenKeys(t.Context(), nc, KeysConfig{Logger: quiet}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	// Several copies, asked for in so many words, can't be had from one server.
	if _, err := OpenConfig(t.Context(), nc, 3); err == nil || !strings.Contains(err.Error(), "in no cluster") {
		t.Errorf("three copies on a single server: %v", err)
	}
}

// Who may only ask opens what is there, and is told what to do where nothing is.
func TestOpenBucketWithoutTheRightToMakeIt(t *testing.T) {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "replica", Password: "replica", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: []string{"$JS.API.STREAM.INFO." + keysStream}},
				Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	connect := func(user string) *nats.Conn {
		nc, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, user), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	replica := connect("replica")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := OpenKeys(ctx, replica, KeysConfig{Logger: quiet}); err == nil || !strings.Contains(err.Error(), "tollgate nats setup") {
		t.Errorf("where nothing is: %v", err)
	}
	openKeys(t, connect("admin"))
	openKeys(t, replica)
}
