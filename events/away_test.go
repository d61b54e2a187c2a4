package events

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/events/natstest"
	"tollgate/events/natstest/freeaddr"
)

// Who starts goes on trying where NATS is away, and not where it refuses.
func TestAway(t *testing.T) {
	const login = "authorization {user: a, password: geheim}\n"
	c := natstest.StartCluster(t, natstest.Options{Servers: 1, Config: login})
	small := natstest.StartCluster(t, natstest.Options{Servers: 1, Config: "max_payload: 64KB\n"})
	for what, one := range map[string]struct {
		url  string
		away bool
	}{
		"nobody listens":       {"nats://" + freeaddr.Take(t), true},
		"the name is nobody's": {"nats://nowhere.invalid", true},
		"a wrong password":     {"nats://a:falsch@" + c.Addr(0), false},
		"no password":          {"nats://" + c.Addr(0), false},
		"a wrong URL":          {"http://127.0.0.1", false},
		"a port there is not":  {"nats://127.0.0.1:99999", false},
		"a port twice":         {"nats://127.0.0.1:1:2", false},
		"small messages only":  {"nats://" + small.Addr(0), false},
	} {
		_, err := connectAs(t, ConnectConfig{URL: one.url})
		if err == nil || Away(err) != one.away {
			t.Errorf("%s: away %t, %v", what, !one.away, err)
		}
	}
	api := func(code jetstream.ErrorCode, says string) error {
		return &jetstream.APIError{ErrorCode: code, Description: says}
	}
	for _, one := range []struct {
		err  error
		away bool
	}{
		{nil, false},
		{errors.New("anything"), false},
		{context.Canceled, false},
		{fmt.Errorf("%w: %w", ErrUnavailable, nats.ErrNoResponders), true},
		{fmt.Errorf("%w: %w", ErrUnavailable, nats.ErrReconnectBufExceeded), true},
		{fmt.Errorf("a question: %w", context.DeadlineExceeded), true},
		{fmt.Errorf("%w (%w)", nats.ErrPermissionViolation, context.DeadlineExceeded), false},
		{api(clusterNotAvailable, ""), true},
		{api(noPeers, "no suitable peers for placement, peer offline"), true},
		{api(noPeers, "no suitable peers for placement, peer offline, insufficient storage"), true},
		{api(noPeers, "no suitable peers for placement, insufficient storage"), false},
		{api(storageExceeded, ""), false},
	} {
		if Away(one.err) != one.away {
			t.Errorf("away %t: %v", !one.away, one.err)
		}
	}
}

// A stream that is full says so, and takes events again once it has room.
func TestUsageFull(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	u, err := OpenUsage(t.Context(), nc, UsageConfig{MaxBytes: 2048})
	if err != nil {
		t.Fatal(err)
	}
	out := []Outgoing{{Subject: "tollgate.usage.v1.w.k.m", MsgID: "one", Payload: make([]byte, 1500)}}
	if errs := u.PublishBatch(t.Context(), out); errs[0] != nil {
		t.Fatal(errs[0])
	}
	out[0].MsgID = "two"
	errs := u.PublishBatch(t.Context(), out)
	expectRefusal(t, errs[0], "the stream TOLLGATE_USAGE is full: raise its bounds")
	cfg := u.stream.CachedInfo().Config
	cfg.MaxBytes = 1 << 20
	if _, err := u.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if errs := u.PublishBatch(t.Context(), out); errs[0] != nil {
		t.Error(errs[0])
	}
	lost := lost(jetstream.ErrStreamNotFound, UsageStream, "make it again")
	expectRefusal(t, lost, "TOLLGATE_USAGE was deleted: make it again")
}

// What doesn't fit says how much is needed.
func TestNoRoom(t *testing.T) {
	c := natstest.StartCluster(t, natstest.Options{Servers: 1, Config: `
accounts {A {jetstream: {max_file: 100MB}, users: [{user: a, password: b}]}, B {jetstream: {max_streams: 1}, users: [{user: b, password: b}]}}`})
	nc, err := connectAs(t, ConnectConfig{URL: "nats://a:b@" + c.Addr(0)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenUsage(t.Context(), nc, UsageConfig{})
	expectRefusal(t, err, "needs 12 GiB")
	if nc, err = connectAs(t, ConnectConfig{URL: "nats://b:b@" + c.Addr(0)}); err != nil {
		t.Fatal(err)
	}
	if _, err = OpenConfig(t.Context(), nc, 0); err != nil {
		t.Fatal(err)
	}
	_, err = OpenUsage(t.Context(), nc, UsageConfig{})
	expectRefusal(t, err, "raise max_streams")
}
