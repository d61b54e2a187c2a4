package natsd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// healer brings the store back after a write error. JetStream keeps the first one
// of each stream, for a full disk as for any other, and stores nothing more until
// it starts again, whatever the disk does meanwhile. Its fields belong to the
// goroutine of run.
type healer struct {
	server  *Server
	reserve reserve
	down    error         // why no server runs: the last restart failed
	pause   time.Duration // to the look after the next restart
	told    string        // the state that the log was told last; "" is health
	last    time.Time     // of the last restart
}

const (
	// lookEvery is how long a write error may go unseen. A look costs some
	// directory entries.
	lookEvery = 250 * time.Millisecond
	// Looks that found something wrong are minPause apart, those after restarts
	// up to maxPause, doubling while the errors come back: outside users notice
	// a restart.
	minPause, maxPause = time.Second, 16 * time.Second
)

// run looks after the store until ctx ends.
func (h *healer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(h.look())
		}
	}
}

// look finds out what state the store is in, tells, and does what can be done. It
// returns the time to the next look.
//
// On a full disk it gives the reserve's room back and restarts the server, which
// can write again then. The state is still not health: what can wait should, so
// that the room is there for what can't. The reserve is made again when the disk
// has room; where it was used up, that is also what the restart waits for.
func (h *healer) look() time.Duration {
	broken := h.broken()
	if broken == nil {
		if err := h.reserve.make(); err != nil {
			h.tell(fmt.Errorf("there is room for changes of keys only, usage events wait: %w", err))
			return minPause
		}
		if time.Since(h.last) > maxPause {
			h.pause = minPause
		}
		h.tell(nil)
		return lookEvery
	}
	released, err := h.reserve.release()
	if err == nil && !released && h.down == nil {
		err = h.reserve.make()
	}
	if err != nil {
		h.tell(fmt.Errorf("the store can't be written: %w", err))
		return minPause
	}
	h.tell(fmt.Errorf("the store can't be written, restarting it: %w", broken))
	h.down, h.last = h.server.restart(), time.Now()
	pause := h.pause
	h.pause = min(2*h.pause, maxPause)
	if h.down != nil {
		h.tell(fmt.Errorf("the store can't be written: %w", h.down))
		return pause
	}
	if err := h.reserve.make(); err != nil {
		h.tell(fmt.Errorf("there is room for changes of keys only, usage events wait: %w", err))
	} else {
		h.tell(nil)
	}
	return pause
}

// broken is why something can't be written, or nil. A stream's error shows after
// the first write that met it.
func (h *healer) broken() error {
	if h.down != nil {
		return h.down
	}
	health := h.server.nats.Load().Healthz(&server.HealthzOptions{Account: mainAccount, Details: true})
	for _, e := range health.Errors {
		// Others don't tell of a broken store: no stream was made yet, one is
		// being made, or the machine was too slow for the question.
		if e.Type == server.HealthzErrorJetStream ||
			e.Type == server.HealthzErrorStream && strings.Contains(e.Error, "write error") {
			return errors.New(e.Error)
		}
	}
	return nil
}

// tell makes err what Health answers, and logs a change.
func (h *healer) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == h.told {
		return
	}
	h.told = text
	h.server.health.Store(&err)
	if err != nil {
		h.server.log.Error("the disk needs attention", "error", err)
	} else {
		h.server.log.Info("the store can be written, and has its reserve")
	}
}

// Health says why the store can't be written, or should be written by nobody who
// can wait: on a full disk there may be just the room to revoke keys. It is nil
// when all is well. The server heals by itself once the disk does; meanwhile it
// restarts, upon which connections come back and outside users find it at the
// same address.
func (s *Server) Health() error {
	if err := s.health.Load(); err != nil {
		return *err
	}
	return nil
}

// restart replaces the server by a new one on the same directory and address, for
// the same users.
func (s *Server) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.nats.Load()
	old.Shutdown()
	old.WaitForShutdown()
	fresh, err := s.launch(s.users)
	if err != nil {
		return err
	}
	s.nats.Store(fresh)
	return nil
}

// heal starts the healer. The function that it returns ends it.
func (s *Server) heal() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	h := &healer{server: s, reserve: reserve{filepath.Join(s.cfg.Dir, "reserve")}, pause: minPause}
	go func() {
		defer close(done)
		h.run(ctx)
	}()
	return func() { cancel(); <-done }
}
