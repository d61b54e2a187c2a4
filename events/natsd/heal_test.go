package natsd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A full disk and what can be done on it is tested in package events.

func healthWithin(t *testing.T, s *Server, healthy bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); (s.Health() == nil) != healthy; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("health is %v", s.Health())
		}
	}
}

func TestRestartKeepsAddressUsersAndConnections(t *testing.T) {
	s, _, users := door(t)
	if err := s.SetUsers(users); err != nil {
		t.Fatal(err)
	}
	internal, js := connect(t, s)
	addr := s.Addr()
	if err := s.restart(); err != nil {
		t.Fatal(err)
	}
	if s.Addr() != addr {
		t.Errorf("the address was %s and is %s", addr, s.Addr())
	}
	if _, err := Start(Config{Dir: s.cfg.Dir, Logger: quiet}); err == nil {
		t.Error("the directory's lock is gone")
	}
	nc, err := outside(t, s, userA())
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := nc.Request("$JS.API.CONSUMER.MSG.NEXT.EVENTS.a", []byte(`{"batch":1}`), 5*time.Second); err != nil || string(msg.Data) != "event" {
		t.Errorf("the user's pull: %v, %v", msg, err)
	}
	if _, err := js.Publish(t.Context(), "tollgate.usage.x", []byte("event")); err != nil {
		t.Errorf("publishing: %v", err)
	}
	if n := internal.Stats().Reconnects; n != 1 {
		t.Errorf("%d reconnects", n)
	}
}

// lose stops JetStream, as the server itself does where it may not write any more,
// with something in the way that keeps it from starting again.
func lose(t *testing.T, s *Server) (restore func()) {
	t.Helper()
	store := filepath.Join(s.cfg.Dir, "jetstream")
	if err := errors.Join(os.Rename(store, store+".away"), os.WriteFile(store, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := s.nats.Load().ShutdownJetStream(); err != nil {
		t.Fatal(err)
	}
	healthWithin(t, s, false)
	return func() {
		if err := errors.Join(os.Remove(store), os.Rename(store+".away", store)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHealsWhenRestartsFail(t *testing.T) {
	s := start(t, Config{})
	_, js := connect(t, s)
	st := stream(t, js, "S", "s")
	if _, err := js.Publish(t.Context(), "s", nil); err != nil {
		t.Fatal(err)
	}
	restore := lose(t, s)
	for end := time.Now().Add(5 * time.Second); s.nats.Load().Running(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("there was no try to restart")
		}
	}
	restore()
	healthWithin(t, s, true)
	if _, err := js.Publish(t.Context(), "s", nil); err != nil {
		t.Error(err)
	}
	if info, err := st.Info(t.Context()); err != nil || info.State.Msgs != 2 {
		t.Errorf("the stream: %+v, %v", info, err)
	}
}

func TestCloseWhileBroken(t *testing.T) {
	s := start(t, Config{})
	_, js := connect(t, s)
	stream(t, js, "S", "s")
	restore := lose(t, s)
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	restore()
	again := start(t, Config{Dir: s.cfg.Dir})
	_, js = connect(t, again)
	if _, err := js.Stream(t.Context(), "S"); err != nil {
		t.Error(err)
	}
}

// A stream that is being made has a directory, but isn't there yet.
func TestHealthyWhileStreamsAreMade(t *testing.T) {
	s := start(t, Config{})
	_, js := connect(t, s)
	h := &healer{server: s}
	made := make(chan error, 1)
	go func() {
		for i := range 50 {
			name := fmt.Sprint("S", i)
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}}); err != nil {
				made <- err
				return
			}
		}
		made <- nil
	}()
	for {
		if err := h.broken(); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-made:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}

func TestReserve(t *testing.T) {
	r := reserve{filepath.Join(t.TempDir(), "reserve")}
	if released, err := r.release(); released || err != nil {
		t.Errorf("released nothing: %v, %v", released, err)
	}
	for _, torn := range []bool{false, true} { // as a kill in the middle of it leaves it
		if torn {
			if err := os.WriteFile(r.path, make([]byte, 1000), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.make(); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(r.path); err != nil || info.Size() != reserveBytes {
			t.Errorf("torn %v: %v, %v", torn, info, err)
		}
		if released, err := r.release(); !released || err != nil {
			t.Errorf("torn %v: released: %v, %v", torn, released, err)
		}
		if _, err := os.Stat(r.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("torn %v: it is still there: %v", torn, err)
		}
	}
}
