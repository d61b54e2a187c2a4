// Package manage is Tollgate's management API over HTTP, and its client: keys,
// models, the catalog, stored usage events and who consumes them.
//
// It is on a listener of its own and nothing that lets a request through
// depends on it. Who may do what is in auth.go; what an answer looks like when
// something is wrong is in errors.go. To add an endpoint, write a function of
// (context, *call, input) and name it in New: the wrapper in route.go
// authenticates, decodes, counts, maps errors and documents it.
package manage

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"tollgate/authz"
	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
)

// Config is what the management API works on. Fields without a stated zero
// value must be set.
type Config struct {
	// Keys is where keys are stored.
	Keys Keys
	// Index tells which keys there are.
	Index Index
	// Applied is called after a change to a key was stored: from then on this replica
	// goes by nothing older. It must not block. nil: nothing is called, for a store
	// that sees to it by itself.
	Applied func(rec *key.Record)
	// Wait waits, for as long as ctx allows, until no replica goes by anything older
	// than a revision, of keys or of the catalog, and says who does. nil: one replica
	// is said to go by it at once.
	Wait func(ctx context.Context, revision uint64) Propagation
	// LastUsed tells when a key was last used, by its secret of a number or, with
	// 0, by any. It must not block. nil: not known, of any key.
	LastUsed func(workspace, keyID string, secret int) (time.Time, bool)
	// Used is told of each use of a key here. It must not block. nil: nobody is.
	Used func(keyID string, secret int, now time.Time)
	// Requests tells how many requests a key was let through for. It must not
	// block. nil: not known, of any key.
	Requests func(workspace, keyID string) (int64, bool)
	// Digests sees to it that an imported secret opens one key only. nil: keys
	// can't be imported.
	Digests Digests
	// Idempotency remembers the Idempotency-Key of creations. nil: one is refused.
	Idempotency Idempotency
	// Tables returns the workspaces, users, plans and models in force. The
	// result is not changed. It must not block.
	Tables func() *catalog.Tables

	// Identify returns the record of a valid key, by the secret as presented.
	// An error that wraps key.ErrUnavailable says that it can't be told (503);
	// any other means that the key opens nothing (401).
	Identify func(ctx context.Context, secret string) (*key.Record, error)
	// OperatorKey is the digest of the operator's own key, which may do
	// everything. Zero: there is none.
	OperatorKey key.Digest

	// Budgets tells where budgets and credit stand. nil: it is not told, and there is
	// no granting of credit.
	Budgets Budgets
	// Resources are the counts of what plans count. nil: they are neither told nor
	// corrected.
	Resources Resources
	// Totals are what usage events add up to. nil: the endpoints of usage don't
	// exist.
	Totals Totals
	// Events, Consumers and Catalog stand behind the endpoints of their names.
	// nil: those endpoints don't exist.
	Events    Events
	Consumers Consumers
	Catalog   Catalog
	// CatalogRoom is the most bytes that a catalog can have in its stored form
	// (catalog.Encode's), of which tenants may not use all. 0: there is no bound.
	CatalogRoom int
	// Audit is where every action is written down. nil: nowhere. Unaudited is told
	// of entries that are not, or not whole: "suppressed", "unstored" or "shortened".
	// nil: nobody is.
	Audit     Audit
	Unaudited func(why string)
	// Explain says what the gate would say to a request. nil: nobody can ask.
	Explain func(ctx context.Context, now time.Time, q *authz.Question) *authz.Explanation

	// Backup writes all that is stored to w; with events, usage and audit events
	// too. nil: there is no such endpoint.
	Backup func(ctx context.Context, w io.Writer, events bool) error
	// Freeze is what keeps changes from being made, the same for all handlers. nil:
	// they can't be kept.
	Freeze *Freeze

	// Ready says why this replica should get no requests, nil when it should.
	// nil: always ready.
	Ready func() error
	// Version is Tollgate's, for the OpenAPI document. Empty: "dev".
	Version string
	// Now is the clock. nil: time.Now.
	Now func() time.Time
	// Rand is where secrets come from. nil: crypto/rand.
	Rand io.Reader
	// Logger gets a line per change and per failure. It never gets a secret.
	// nil: slog.Default.
	Logger *slog.Logger
	// Served is called after each request. It must not block. nil: nothing is.
	Served func(Served)
}

// Served is a request that was answered, for metrics.
type Served struct {
	Operation string // such as "GET /api/v1/api-keys/{id}"; "none" where no endpoint matched
	Status    int
	Duration  time.Duration
}

// Keys stores the records of keys. Errors wrap the sentinels of package key.
// All methods may block on I/O until their context ends.
type Keys interface {
	// Put stores a record if its revision in the store is still expect (0: if
	// there is none), and returns the new revision. key.ErrConflict: somebody
	// else was faster. A write whose fate is not known is key.ErrUnavailable.
	Put(ctx context.Context, rec *key.Record, expect uint64) (uint64, error)
	// Get returns the newest record, with its Revision, or key.ErrNotFound.
	Get(ctx context.Context, workspace, id string) (*key.Record, error)
}

// Index knows of all keys, by what replicas go by. Errors wrap key.ErrUnavailable.
type Index interface {
	// Page returns records of a workspace's keys that are not revoked, in the order
	// of their ids, from the first id behind after on: up to limit, at least 1, of
	// the keys whose owner is wanted, which is quick and doesn't block. next is the
	// id behind which the next page begins; "": there is none. Its work is bounded by
	// limit. It may block on I/O until its context ends.
	Page(ctx context.Context, workspace, after string, limit int, wanted func(key.Owner) bool) (page []*key.Record, next string, err error)
	// Records returns the records of keys, revoked ones too, in the order of ids. Of
	// what is no key's there is none. It may block as Page does.
	Records(ctx context.Context, ids []string) ([]*key.Record, error)
	// Owner tells whose a key is, also of one that was revoked. It doesn't block.
	Owner(id string) (key.Owner, bool)
}

// api is the running management API.
type api struct {
	Config // complete: New puts the defaults in
	doc    *document
	mux    *http.ServeMux

	refusals   refusals
	allowances allowances
	// gateway: it has only what a dialect documents.
	gateway bool
	// speaks is the dialect in whose form it refuses; nil: the management API's own.
	speaks *dialect.Dialect
}

// New makes the handler of the management API. It refuses a Config that lacks
// what it needs.
func New(cfg Config) (http.Handler, error) {
	a, err := newAPI(cfg)
	if err != nil {
		return nil, err
	}
	a.probes()
	a.keyRoutes()
	a.modelRoutes()
	a.workspaceRoutes()
	a.userRoutes()
	if cfg.Explain != nil {
		a.explainRoutes()
	}
	if cfg.Audit != nil {
		a.auditRoutes()
	}
	if cfg.Totals != nil {
		a.usageRoutes()
		a.metricsRoute()
	}
	if cfg.Events != nil {
		a.eventRoutes()
	}
	if cfg.Consumers != nil {
		a.consumerRoutes()
	}
	if cfg.Catalog != nil {
		a.catalogRoutes()
	}
	if cfg.Backup != nil {
		a.backupRoutes()
	}
	if cfg.Freeze != nil {
		a.freezeRoutes()
	}
	if err := a.serveDocument(); err != nil {
		return nil, err
	}
	return a.outermost(), nil
}

// newAPI checks a Config, puts the defaults in, and has no routes yet.
func newAPI(cfg Config) (*api, error) {
	if cfg.Keys == nil || cfg.Index == nil || cfg.Tables == nil || cfg.Identify == nil {
		return nil, errors.New("manage: Keys, Index, Tables and Identify must be set")
	}
	if cfg.Applied == nil {
		cfg.Applied = func(*key.Record) {}
	}
	if cfg.Wait == nil {
		cfg.Wait = func(_ context.Context, revision uint64) Propagation {
			return Propagation{Revision: revision, Replicas: []string{"this"}}
		}
	}
	if cfg.LastUsed == nil {
		cfg.LastUsed = func(string, string, int) (time.Time, bool) { return time.Time{}, false }
	}
	if cfg.Used == nil {
		cfg.Used = func(string, int, time.Time) {}
	}
	if cfg.Requests == nil {
		cfg.Requests = func(string, string) (int64, bool) { return 0, false }
	}
	if cfg.Ready == nil {
		cfg.Ready = func() error { return nil }
	}
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Unaudited == nil {
		cfg.Unaudited = func(string) {}
	}
	if cfg.Served == nil {
		cfg.Served = func(Served) {}
	}
	return &api{Config: cfg, mux: http.NewServeMux(), doc: newDocument(cfg.Version)}, nil
}

const readyPath = "/readyz"

// probes are the endpoints that need no key and tell nothing of anybody.
func (a *api) probes() {
	handle(a, route{
		method: http.MethodGet, path: "/livez", who: anybody, status: http.StatusOK,
		summary: "Whether the process runs",
	}, func(context.Context, *call, none) (state, error) { return state{"ok"}, nil })
	handle(a, route{
		method: http.MethodGet, path: readyPath, who: anybody, status: http.StatusOK,
		summary: "Whether this replica should get requests",
	}, func(context.Context, *call, none) (state, error) {
		if err := a.Ready(); err != nil {
			a.Logger.Warn("not ready", "reason", err)
			return state{}, refuse(http.StatusServiceUnavailable, "This replica is not ready; its log says why")
		}
		return state{"ok"}, nil
	})
}

type state struct {
	Status string `json:"status"`
}
