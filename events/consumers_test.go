package events

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tollgate/events/natsd"
)

func openConsumers(t *testing.T, s *natsd.Server, nc *nats.Conn) (*Consumers, *Usage) {
	t.Helper()
	u := openUsage(t, nc, UsageConfig{})
	cfg, err := OpenConfig(t.Context(), nc, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := OpenConsumers(t.Context(), s, cfg, u)
	if err != nil {
		t.Fatal(err)
	}
	return c, u
}

// fetch reads up to n events with nothing but a credential.
func fetch(t *testing.T, cred Credential, n int) ([]string, error) {
	t.Helper()
	nc, err := nats.Connect(cred.URL, nats.NoReconnect())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	c, err := js.Consumer(t.Context(), cred.Stream, cred.Durable)
	if err != nil {
		return nil, err
	}
	batch, err := c.FetchNoWait(n)
	if err != nil {
		return nil, err
	}
	var subjects []string
	for msg := range batch.Messages() {
		subjects = append(subjects, strings.TrimPrefix(msg.Subject(), "tollgate.usage."))
		if err := msg.DoubleAck(t.Context()); err != nil {
			return nil, err
		}
	}
	return subjects, batch.Error()
}

func TestConsumersReadTheirWorkspace(t *testing.T) {
	dir := t.TempDir()
	s, nc := embedded(t, natsd.Config{Dir: dir, Listen: "127.0.0.1:0"})
	c, u := openConsumers(t, s, nc)
	all, err := c.Create(t.Context(), "all", "")
	if err != nil {
		t.Fatal(err)
	}
	// A workspace of this name must not match the version of other subjects.
	one, err := c.Create(t.Context(), "one", "v1")
	if err != nil {
		t.Fatal(err)
	}
	if one.Durable != "one" || one.Stream != UsageStream || len(one.Password) < 26 || !strings.Contains(one.URL, one.Password) {
		t.Errorf("credential %+v", one)
	}
	if _, err := c.Create(t.Context(), "one", ""); !errors.Is(err, ErrConflict) {
		t.Errorf("a second consumer of the name: %v", err)
	}
	for _, bad := range [][2]string{{"", ""}, {"A", ""}, {"a.b", ""}, {"a", "b.>"}, {strings.Repeat("a", 64), ""}} {
		if _, err := c.Create(t.Context(), bad[0], bad[1]); err == nil {
			t.Errorf("Create(%q, %q) worked", bad[0], bad[1])
		}
	}
	send := func(id, subject string) {
		t.Helper()
		publish(t, u, []Outgoing{{Subject: "tollgate.usage." + subject, MsgID: id, Payload: []byte("{}")}})
	}
	send("1", "v1.demo.key.m")
	send("2", "v1.v1.key.m")
	send("3", "adjusted.v1.demo.key.m")
	send("4", "adjusted.v1.v1.key.m")
	if got, err := fetch(t, one, 10); err != nil || strings.Join(got, " ") != "v1.v1.key.m adjusted.v1.v1.key.m" {
		t.Errorf("one got %v, %v", got, err)
	}
	if got, err := fetch(t, all, 2); err != nil || len(got) != 2 {
		t.Errorf("all got %v, %v", got, err)
	}

	// What a consumer's password is, nobody can read anywhere.
	value, _, err := c.config.Get(t.Context(), consumersDocument)
	if err != nil || strings.Contains(string(value), one.Password) {
		t.Errorf("stored: %s, %v", value, err)
	}

	// After a restart both go on where they were.
	addr := s.Addr()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, nc = embedded(t, natsd.Config{Dir: dir, Listen: addr})
	c, _ = openConsumers(t, s, nc)
	if got, err := fetch(t, all, 10); err != nil || strings.Join(got, " ") != "adjusted.v1.demo.key.m adjusted.v1.v1.key.m" {
		t.Errorf("after the restart all got %v, %v", got, err)
	}
	list, err := c.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "all" || list[1].Name != "one" || list[1].Workspace != "v1" || time.Since(list[1].CreatedAt) > time.Minute {
		t.Errorf("List: %+v, %v", list, err)
	}

	if err := c.Delete(t.Context(), "all"); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "all"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Delete again: %v", err)
	}
	if _, err := fetch(t, all, 1); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("after Delete: %v", err)
	}
	if _, err := fetch(t, one, 1); err != nil {
		t.Errorf("the other one: %v", err)
	}
	again, err := c.Create(t.Context(), "all", "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fetch(t, again, 10); err != nil || len(got) != 4 {
		t.Errorf("a new one of the name starts from the beginning: %v, %v", got, err)
	}
	if _, err := fetch(t, all, 1); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("the old password: %v", err)
	}
}

func TestConsumersNeedAListener(t *testing.T) {
	dir := t.TempDir()
	s, nc := embedded(t, natsd.Config{Dir: dir, Listen: "127.0.0.1:0"})
	c, _ := openConsumers(t, s, nc)
	if _, err := c.Create(t.Context(), "a", ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	s, nc = embedded(t, natsd.Config{Dir: dir})
	c, _ = openConsumers(t, s, nc)
	if _, err := c.Create(t.Context(), "b", ""); !errors.Is(err, natsd.ErrNotListening) || !strings.Contains(err.Error(), "--nats-listen") {
		t.Errorf("Create: %v", err)
	}
	if err := c.Delete(t.Context(), "a"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("List: %v, %v", list, err)
	}
}
