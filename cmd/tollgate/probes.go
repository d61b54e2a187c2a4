package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"

	"tollgate/authz/manage"
)

// probes is the management API's listener from the first moment: what asks whether
// the process lives must not be kept waiting while a million keys are read.
type probes struct {
	handler atomic.Pointer[http.Handler]
	stop    func(context.Context) // once, also if it is called again
}

func (p *probes) becomes(h http.Handler) { p.handler.Store(&h) }

func (p *probes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*p.handler.Load()).ServeHTTP(w, r)
}

// startProbes serves the management API's address, with nothing behind it yet.
func (n *node) startProbes(context.Context) error {
	n.probes = new(probes)
	n.probes.becomes(manage.Starting())
	stop, once := n.serveHTTP(&n.settings.api, n.probes), new(sync.Once)
	n.probes.stop = func(ctx context.Context) { once.Do(func() { stop(ctx) }) }
	n.onStop(n.probes.stop) // where a later part doesn't start
	return nil
}
