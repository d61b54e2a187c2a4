package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"tollgate/authz"
	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/limit"
	"tollgate/authz/manage"
	"tollgate/cache"
	"tollgate/envoy"
	"tollgate/events"
	"tollgate/events/journal"
	"tollgate/events/totals"
)

var deploymentName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// node is one replica: everything but Envoy. Its parts are started in the order
// of start and stopped in the reverse one.
type node struct {
	settings  *settings
	withEnvoy bool // in front of it runs the Envoy that it supervises
	log       *slog.Logger
	metrics   *metrics

	store
	membership
	cache    *cache.Keys
	bindings *cache.Objects
	feed     *events.Feed
	journal  *journal.Journal
	ledger   *events.Ledger
	settler  *authz.Settler
	limits   *limit.Local
	budgets  *authz.Budgets
	catalog  *catalogStore
	fleet    *fleet
	totals   *totals.Folder
	lastUsed *lastUsed
	gate     *authz.Authorizer
	server   *envoy.Server
	probes   *probes
	freeze   manage.Freeze // of both handlers that change keys

	draining atomic.Bool
	failed   chan error // a part that ended by itself

	mu    sync.Mutex
	stops []func(context.Context) // in the order of starting; guarded by mu
}

// onStop registers how a part that was started is stopped.
func (n *node) onStop(f func(context.Context)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stops = append(n.stops, f)
}

// stop ends all parts, the last started first. ctx bounds how long work under way
// may take to end.
func (n *node) stop(ctx context.Context) {
	n.draining.Store(true)
	n.mu.Lock()
	stops := n.stops
	n.stops = nil
	n.mu.Unlock()
	for _, stop := range slices.Backward(stops) {
		stop(ctx)
	}
}

// background runs f until the node stops; an end before that is the node's.
func (n *node) background(what string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			n.fail(what, err)
		}
	}()
	n.onStop(func(context.Context) { cancel(); <-done })
}

// every calls f each time that d has passed, until ctx ends.
func every(ctx context.Context, d time.Duration, f func(now time.Time)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			f(now)
		}
	}
}

// fail says that a part ended by itself, upon which the node stops. Only the first
// to do so is heard.
func (n *node) fail(what string, err error) {
	select {
	case n.failed <- fmt.Errorf("%s: %w", what, err):
	default:
	}
}

// startCatalog puts the stored catalog in force, or the file's where none is
// stored yet.
func (n *node) startCatalog(ctx context.Context) (err error) {
	token, err := n.fleetToken(ctx)
	if err != nil {
		return err
	}
	n.fleet = newFleet(n.settings, token)
	n.onStop(func(context.Context) { n.fleet.Close() })
	if n.catalog, err = openCatalog(ctx, n.changes, n.fleet, n, n.settings.catalog, n.log); err != nil {
		return err
	}
	n.background("the watch of the catalog's files", n.catalog.watch)
	return nil
}

// startKeys reads all keys, and waits until they are.
func (n *node) startKeys(ctx context.Context) (err error) {
	n.probes.does(doesRead) // NATS may have been away until now
	cfg := cache.Config{Store: n.keys, Lease: n.lease}
	if n.once != nil { // it has the rights of who makes changes
		cfg.Many = n.changes
	}
	if n.cache, err = cache.New(cfg); err != nil {
		return err
	}
	n.onStop(func(context.Context) { n.cache.Close() })
	feed := events.NewFeed(n.keys)
	feed.Documents, feed.Members = n.catalog, n.members
	n.feed = feed
	n.background("the feed of keys", func(ctx context.Context) error { return feed.Run(ctx, fed{n.cache, n.catalog}) })
	if n.members != nil {
		n.onStop(n.leave)
	}
	if n.bindings, err = cache.NewObjects(n.objects); err != nil {
		return err
	}
	n.onStop(func(context.Context) { n.bindings.Close() })
	n.metrics.gauge("tollgate_keys", "Keys in the index.", func() float64 { return float64(n.cache.Stats().Keys) })
	n.metrics.counter("tollgate_key_store_reads_total", "Records read from the store because they were not in memory.",
		func() float64 { return float64(n.cache.Stats().StoreReads) })
	n.metrics.counter("tollgate_keys_unreadable_total", "Changes of keys that could not be read; such a key is closed.",
		func() float64 { return float64(feed.Unreadable()) })
	if err := n.untilRead(ctx); err != nil || n.members == nil {
		return err
	}
	return n.members.Strangers(ctx)
}

var errNothingRead = errors.New("the keys could not be read")

// untilRead waits until the keys are read, for as long as that goes on: of a million,
// a busy machine reads for minutes.
func (n *node) untilRead(ctx context.Context) error {
	for read := -1; ; {
		err := poll(ctx, 30*time.Second, "nothing came", n.current)
		now := n.cache.Stats().Keys
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case now == read:
			return fmt.Errorf("%w: %w", errNothingRead, err)
		}
		read = now
		n.log.Warn("the keys are still being read", "so far", read)
	}
}

// fed is what the feed of keys tells of.
type fed struct {
	*cache.Keys
	catalog *catalogStore
}

// Reset implements events.Sink.
func (f fed) Reset() {
	f.Keys.Reset()
	f.catalog.Reset()
}

// current reports whether this replica can answer by what it knows.
func (n *node) current() bool { return n.cache.Ready() && (n.lease == nil || n.lease.Valid()) }

// poll waits until ready says so.
func poll(ctx context.Context, most time.Duration, otherwise string, ready func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("%s within %v", otherwise, most))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// startChecks answers Envoy.
func (n *node) startChecks(context.Context) error {
	managed, err := manage.NewGateway(n.managed())
	if err != nil {
		return err
	}
	n.gate = &authz.Authorizer{
		Current: n.current,
		Replica: n.replica, Tables: n.catalog.Tables, Keys: n.cache, Limits: n.limits, Budgets: n.budgets, Ledger: n.ledger,
		Sealer: n.settler.Sealer, Estimator: n.settler.Estimator, Used: n.lastUsed.Touch,
		Objects: n.bindings, Resources: n.objects,
		NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
	}
	options := envoy.ServerOptions{
		Wanted:    func(header string) bool { return dialect.Wanted(header) || n.catalog.IsTag(header) },
		Reclaimer: n,
		Token:     n.fleet.token,
		Fleet:     n.fleet.Fleet,
		Grace:     n.grace(),
		Managed:   managed,
		Logger:    n.log,
	}
	if n.withEnvoy {
		options.Routable = routable
	}
	n.server = envoy.NewServer(checker{n.gate, n.metrics}, n.settler, options)
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := n.server.Serve(n.settings.grpc.listener); err != nil {
			n.fail("the grpc listener", err)
		}
	}()
	n.onStop(func(ctx context.Context) {
		if err := n.server.Stop(ctx); err != nil {
			n.log.Warn("checks were cut off", "error", err)
		}
		<-served
	})
	if n.lease != nil {
		n.background("readiness, as Envoys are told", n.tellReady)
	}
	stats := n.server.Stats()
	n.metrics.counter("tollgate_settlements_total", "Settlements taken.", func() float64 { return float64(stats.Settled.Load()) })
	n.metrics.counter("tollgate_settlements_deferred_total", "Settlements that Envoy was asked to bring again.",
		func() float64 { return float64(stats.SettlementsDeferred.Load()) })
	n.metrics.counter("tollgate_checks_abandoned_total", "Admissions taken back because Envoy no longer waited for them.",
		func() float64 { return float64(stats.AbandonedChecks.Load()) })
	n.metrics.counter("tollgate_panics_total", "Checks and settlements that panicked: each is a bug.",
		func() float64 { return float64(stats.CheckPanics.Load() + stats.SettlePanics.Load()) })
	return nil
}

// grace is how long this replica goes on when it is told to end, so that Envoys
// notice and use another one. One that supervises its Envoy ends that first.
func (n *node) grace() time.Duration {
	if n.alone() || n.withEnvoy {
		return 0
	}
	return envoy.DrainGrace
}

// managed is what both handlers of the management API work on.
func (n *node) managed() manage.Config {
	var audit manage.Audit
	if n.audit != nil {
		audit = managedAudit{n.audit, events.Source(n.settings.name)}
	}
	var once manage.Idempotency
	if n.once != nil {
		once = onceOnly{n.once}
	}
	return manage.Config{
		Keys:        n.changes,
		Index:       n.cache,
		Applied:     func(r *key.Record) { n.cache.Apply(changeOf(r)) },
		Wait:        n.Wait,
		Used:        n.lastUsed.Touch,
		Digests:     digests{n.changes, n.cache, n.feed.Applied},
		Idempotency: once,
		Budgets:     n.budgets,
		LastUsed:    n.lastUsed.Of,
		Requests: func(workspace, keyID string) (int64, bool) {
			return n.totals.OfKey(workspace, keyID).Requests, true
		},
		Totals:    managedUsage{n.totals},
		Tables:    n.catalog.Tables,
		Identify:  n.identify,
		Audit:     audit,
		Unaudited: func(why string) { n.metrics.unaudited.WithLabelValues(why).Inc() },
		Freeze:    &n.freeze,
		Ready:     n.ready,
		Version:   version,
		Logger:    n.log,
	}
}

// startManagement serves the management API.
func (n *node) startManagement(context.Context) error {
	operator, err := n.operatorKey()
	if err != nil {
		return err
	}
	cfg := n.managed()
	cfg.OperatorKey = key.DigestOf(operator)
	cfg.Events, cfg.Consumers, cfg.Catalog = managedEvents{n.usage}, managedConsumers{n.consumers}, n.catalog
	cfg.CatalogRoom = events.MaxDocument
	cfg.Resources = countedResources{n.objects}
	cfg.Explain, cfg.Backup = n.gate.Explain, n.backup
	handler, err := manage.New(cfg)
	if err != nil {
		return err
	}
	n.probes.becomes(handler)
	n.onStop(n.probes.stop) // before what it works on
	return nil
}

// operatorKey is the environment's, or the one that is kept in the data directory.
func (n *node) operatorKey() (string, error) {
	if n.settings.operator != "" {
		return n.settings.operator, nil
	}
	return kept(filepath.Join(n.settings.data, operatorKeyFile), func() (string, error) {
		format, err := key.ParseFormat("tgop_{base62:40}")
		if err != nil {
			return "", err
		}
		secret, _, err := format.Generate(rand.Reader)
		return secret, err
	})
}

// identify is who presents a key to the management API.
func (n *node) identify(ctx context.Context, secret string) (*key.Record, error) {
	digest := key.DigestOf(secret)
	r, err := n.cache.Lookup(ctx, digest)
	if err != nil {
		return nil, err
	}
	if !r.Valid(digest, time.Now()) {
		return nil, key.ErrNotFound
	}
	return r, nil
}

var errDraining = errors.New("shutting down")

// ready says why this replica should get no requests.
func (n *node) ready() error {
	if n.draining.Load() {
		return errDraining
	}
	if !n.cache.Ready() {
		return errors.New("the keys are not read yet")
	}
	if n.lease != nil && !n.lease.Valid() {
		return errors.New("NATS has not confirmed for longer than the revocation bound that this replica is current")
	}
	return n.hold()
}

func (n *node) startMetrics(context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{}))
	n.onStop(n.serveHTTP(&n.settings.metrics, mux))
	return nil
}

// maxConnections bounds those of the API and of the metrics, each: they are for
// people and scripts.
const maxConnections = 1000

// serveHTTP serves h on a bound address until stop.
func (n *node) serveHTTP(a *address, h http.Handler) (stop func(context.Context)) {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(netutil.LimitListener(a.listener, maxConnections)); !errors.Is(err, http.ErrServerClosed) {
			n.fail("the "+a.name+" listener", err)
		}
	}()
	return func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // long polls are not waited for
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			server.Close()
		}
		<-done
	}
}

// announce tells the command line where this Tollgate is.
func (n *node) announce(context.Context) error {
	path := filepath.Join(n.settings.data, addressesFile)
	s := n.settings
	text, err := json.Marshal(runningAddresses{
		Gateway: s.gateway.value, API: s.api.value, GRPC: s.grpc.value, Metrics: s.metrics.value, NATS: n.addr(),
	})
	if err != nil {
		return err
	}
	n.onStop(func(context.Context) { _ = os.Remove(path) }) // the next start writes it anew
	return writeFile(path, string(text)+"\n")
}

// tables is what is in force now.
func (n *node) tables() *catalog.Tables { return n.catalog.Tables() }
