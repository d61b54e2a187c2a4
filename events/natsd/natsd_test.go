package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Logger = quiet
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) }) // again where the test did: harmless
	return s
}

func TestDirectoryBelongsToOne(t *testing.T) {
	dir := t.TempDir()
	s, err := Start(Config{Dir: dir, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(Config{Dir: dir, Logger: quiet})
	if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("a second server on the directory: %v; want an error that names directory and process", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := Start(Config{Dir: dir, Logger: quiet})
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	if err := again.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	began := time.Now()
	_, err = Start(Config{Dir: dir, Listen: l.Addr().String(), Logger: quiet})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("Start on a port in use: %v; want an error that names it", err)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("it took %s", d)
	}
	start(t, Config{Dir: dir}) // the directory is free again
}

func TestBadListenAddress(t *testing.T) {
	for _, addr := range []string{"nonsense", "127.0.0.1:http", "127.0.0.1:99999"} {
		if s, err := Start(Config{Dir: t.TempDir(), Listen: addr, Logger: quiet}); err == nil {
			t.Errorf("Start with Listen %q worked", addr)
			_ = s.Close(t.Context())
		}
	}
}

func TestNotListening(t *testing.T) {
	s := start(t, Config{})
	if s.Addr() != "" {
		t.Errorf("Addr is %q", s.Addr())
	}
	if err := s.SetUsers(nil); !errors.Is(err, ErrNotListening) {
		t.Errorf("SetUsers: %v", err)
	}
}

// What was under way on a connection when Close was called still arrives.
func TestCloseDrains(t *testing.T) {
	s := start(t, Config{})
	nc, _ := connect(t, s)
	n := 0
	if _, err := nc.Subscribe("x", func(*nats.Msg) { n++ }); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := nc.Publish("x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !nc.IsClosed() || n != 100 {
		t.Errorf("closed: %v, %d of 100 messages arrived", nc.IsClosed(), n)
	}
}

func connect(t *testing.T, s *Server) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := s.Connect(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

func stream(t *testing.T, js jetstream.JetStream, name, subject string) jetstream.Stream {
	t.Helper()
	st, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}})
	if err != nil {
		t.Fatal(err)
	}
	return st
}
