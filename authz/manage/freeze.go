package manage

import (
	"context"
	"net/http"
	"sync"
)

// Freeze keeps everybody from changing anything by the management API of this
// process, while requests go on passing: so that a copy of what is stored stays
// true while it is brought elsewhere. It is not stored, so a restart ends it. The
// zero value is ready. It is safe for concurrent use, and shared by all handlers
// that change the same store.
type Freeze struct {
	mu     sync.Mutex
	frozen bool
	under  int           // changes under way
	idle   chan struct{} // closed when none is any more; nil: nobody waits
}

// begin tells of a change; end must be called when it is made. The error is the
// answer where nothing may be changed.
func (f *Freeze) begin() (end func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.frozen {
		return nil, errFrozen
	}
	f.under++
	return f.end, nil
}

func (f *Freeze) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.under--; f.under == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

// on lets no further change begin, and waits for those under way, for as long as
// ctx allows. It stays so after an error too.
func (f *Freeze) on(ctx context.Context) error {
	f.mu.Lock()
	f.frozen = true
	if f.under > 0 && f.idle == nil {
		f.idle = make(chan struct{})
	}
	idle := f.idle
	f.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return refuse(http.StatusServiceUnavailable, "No further change begins, but those under way are not made yet: ask again")
	}
}

func (f *Freeze) off() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = false
}

var errFrozen = refuse(http.StatusServiceUnavailable,
	"Nothing can be changed at the moment: this Tollgate is frozen while its store is copied. Keys and requests work as before; tollgate backup --unfreeze, or a restart, ends it")

const freezePath = "/api/v1/freeze"

// thawed is fn which, if it changes something, does so only while nothing is
// frozen.
func thawed[In, Out any](a *api, rt route, fn func(context.Context, *call, In) (Out, error)) func(context.Context, *call, In) (Out, error) {
	if a.Freeze == nil || !rt.changes() || rt.path == freezePath {
		return fn
	}
	return func(ctx context.Context, c *call, in In) (out Out, err error) {
		end, err := a.Freeze.begin()
		if err != nil {
			return out, err
		}
		defer end()
		return fn(ctx, c, in)
	}
}

func (a *api) freezeRoutes() {
	handle(a, route{
		method: http.MethodPost, path: freezePath, who: operatorOnly, status: http.StatusNoContent,
		summary: "Refuses changes from now on, by 503, and returns once those under way are made; requests pass as before",
	}, func(ctx context.Context, c *call, _ none) (none, error) {
		ctx, cancel := c.waiting(ctx)
		defer cancel()
		return none{}, a.Freeze.on(ctx)
	})
	handle(a, route{
		method: http.MethodDelete, path: freezePath, who: operatorOnly, status: http.StatusNoContent,
		summary: "Takes changes again",
	}, func(context.Context, *call, none) (none, error) {
		a.Freeze.off()
		return none{}, nil
	})
}

// Freeze keeps everybody from changing anything, until Unfreeze or a restart.
func (c *Client) Freeze(ctx context.Context) error {
	_, err := ask[none](ctx, c, http.MethodPost, freezePath, nil, nil)
	return err
}

// Unfreeze lets changes be made again.
func (c *Client) Unfreeze(ctx context.Context) error {
	_, err := ask[none](ctx, c, http.MethodDelete, freezePath, nil, nil)
	return err
}
