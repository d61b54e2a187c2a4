package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"

	"tollgate/authz/manage"
)

// probes is the management API's listener from the first moment: what asks whether
// the process lives must not be kept waiting while a million keys are read, nor while
// NATS is away.
type probes struct {
	handler atomic.Pointer[http.Handler]
	doing   atomic.Pointer[string]
	stop    func(context.Context) // once, also if it is called again
}

// What a replica does that starts, as its probes tell.
const (
	doesRead = "reads what is stored"
	doesWait = "waits for NATS, which can't be asked; its log says why"
)

func (p *probes) becomes(h http.Handler) { p.handler.Store(&h) }

// does says what this replica does until it is started.
func (p *probes) does(what string) { p.doing.Store(&what) }

func (p *probes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*p.handler.Load()).ServeHTTP(w, r)
}

// startProbes serves the management API's address, with nothing behind it yet.
func (n *node) startProbes() {
	n.probes = new(probes)
	n.probes.does(doesRead)
	n.probes.becomes(manage.Starting(func() string { return *n.probes.doing.Load() }))
	stop, once := n.serveHTTP(&n.settings.api, n.probes), new(sync.Once)
	n.probes.stop = func(ctx context.Context) { once.Do(func() { stop(ctx) }) }
}
