package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
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
	"tollgate/events/natsd"
)

var deploymentName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// node is one replica: everything but Envoy. Its parts are started in the order
// of start and stopped in the reverse one.
type node struct {
	settings  *settings
	withEnvoy bool // in front of it runs the Envoy that it supervises
	log       *slog.Logger
	metrics   *metrics

	nats      *natsd.Server
	keys      *events.Keys
	config    *events.Config
	usage     *events.Usage
	consumers *events.Consumers
	cache     *cache.Keys
	journal   *journal.Journal
	ledger    *events.Ledger
	settler   *authz.Settler
	limits    *limit.Local
	catalog   *catalogStore
	fleet     *fleet
	lastUsed  *lastUsed
	server    *envoy.Server

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

// fail says that a part ended by itself, upon which the node stops. Only the first
// to do so is heard.
func (n *node) fail(what string, err error) {
	select {
	case n.failed <- fmt.Errorf("%s: %w", what, err):
	default:
	}
}

// start brings the node up, on addresses that are bound already. On an error
// everything is stopped again.
func start(ctx context.Context, s *settings, withEnvoy bool, log *slog.Logger) (_ *node, err error) {
	n := &node{settings: s, withEnvoy: withEnvoy, log: log, metrics: newMetrics(), failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			n.stop(ctx)
		}
	}()
	for _, step := range []func(context.Context) error{
		n.startStore, n.startCatalog, n.startKeys, n.startLedger, n.startChecks, n.startManagement, n.startMetrics, n.announce,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// startStore opens the embedded NATS and what is kept in it.
func (n *node) startStore(ctx context.Context) (err error) {
	if err := os.MkdirAll(n.settings.data, 0o700); err != nil {
		return fmt.Errorf("the data directory: %w", err)
	}
	n.nats, err = natsd.Start(natsd.Config{
		Dir: filepath.Join(n.settings.data, "nats"), Listen: n.settings.natsListen, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.onStop(func(ctx context.Context) {
		if err := n.nats.Close(ctx); err != nil {
			n.log.Warn("NATS did not stop in time", "error", err)
		}
	})
	var nc *nats.Conn
	if nc, err = n.nats.Connect("tollgate"); err != nil {
		return err
	}
	if n.config, err = events.OpenConfig(ctx, nc, 1); err != nil {
		return err
	}
	if n.keys, err = events.OpenKeys(ctx, nc, events.KeysConfig{Logger: n.log}); err != nil {
		return err
	}
	if n.usage, err = events.OpenUsage(ctx, nc, events.UsageConfig{Hold: n.nats.Health}); err != nil {
		return err
	}
	n.consumers, err = events.OpenConsumers(ctx, n.nats, n.config, n.usage)
	return err
}

// startCatalog puts the stored catalog in force, or the file's where none is
// stored yet.
func (n *node) startCatalog(ctx context.Context) (err error) {
	if n.fleet, err = newFleet(n.settings); err != nil {
		return err
	}
	n.onStop(func(context.Context) { n.fleet.Close() })
	if n.catalog, err = openCatalog(ctx, n.config, n.fleet, n.settings.catalog, n.log); err != nil {
		return err
	}
	n.background("the watch of the catalog's files", n.catalog.watch)
	return nil
}

// startKeys reads all keys, and waits until they are.
func (n *node) startKeys(ctx context.Context) (err error) {
	if n.cache, err = cache.New(cache.Config{Store: n.keys}); err != nil {
		return err
	}
	n.onStop(func(context.Context) { n.cache.Close() })
	feed := events.NewFeed(n.keys)
	n.background("the feed of keys", func(ctx context.Context) error { return feed.Run(ctx, n.cache) })
	n.lastUsed = newLastUsed(n.usage)
	n.metrics.gauge("tollgate_keys", "Keys in the index.", func() float64 { return float64(n.cache.Stats().Keys) })
	n.metrics.counter("tollgate_key_store_reads_total", "Records read from the store because they were not in memory.",
		func() float64 { return float64(n.cache.Stats().StoreReads) })
	n.metrics.counter("tollgate_keys_unreadable_total", "Changes of keys that could not be read; such a key is closed.",
		func() float64 { return float64(feed.Unreadable()) })
	return poll(ctx, 30*time.Second, "the keys could not be read", n.cache.Ready)
}

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

// sweepEvery is how often admissions whose time is over are looked for.
const sweepEvery = 10 * time.Second

// startLedger opens the journal and what was open in it, and begins to bring
// events into the stream.
func (n *node) startLedger(ctx context.Context) error {
	j, open, err := journal.Open(filepath.Join(n.settings.data, "journal"), journal.Config{Log: n.log})
	if err != nil {
		return err
	}
	n.journal = j
	n.onStop(func(context.Context) {
		if err := j.Close(); err != nil {
			n.log.Warn("the journal did not close well", "error", err)
		}
	})
	n.ledger = events.OpenLedger(j, open, events.Source(n.settings.name), n.log)
	n.background("the journal's drain", func(ctx context.Context) error { return n.ledger.Run(ctx, n.usage) })
	n.onStop(func(ctx context.Context) {
		if err := j.Flush(ctx); err != nil {
			n.log.Warn("events wait in the journal for the next start", "error", err)
		}
	})

	replica, err := n.replicaID()
	if err != nil {
		return err
	}
	sealer, err := openSealer(ctx, n.config)
	if err != nil {
		return err
	}
	n.limits = limit.NewLocal(time.Now())
	estimator, err := n.startEstimator(ctx)
	if err != nil {
		return err
	}
	n.settler = &authz.Settler{
		Replica: replica, Sealer: sealer, Ledger: n.ledger, Limits: n.limits, Estimator: estimator,
		Dropped: func(why string) { n.metrics.settlements.WithLabelValues(why).Inc() },
	}
	n.settler.Restore(time.Now(), n.ledger.Open(time.Time{}))
	n.recount(ctx)
	n.background("the sweep", func(ctx context.Context) error {
		tick := time.NewTicker(sweepEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case now := <-tick.C:
				n.sweep(now)
			}
		}
	})
	stats := func(of func(journal.Stats) float64) func() float64 { return func() float64 { return of(j.Stats()) } }
	n.metrics.gauge("tollgate_admissions_open", "Admissions that are not settled.", stats(func(s journal.Stats) float64 { return float64(s.Open) }))
	n.metrics.gauge("tollgate_events_waiting", "Usage events that the stream has not acknowledged.", stats(func(s journal.Stats) float64 { return float64(s.Waiting) }))
	n.metrics.gauge("tollgate_journal_bytes", "Disk that the journal takes.", stats(func(s journal.Stats) float64 { return float64(s.Bytes) }))
	n.metrics.counter("tollgate_events_published_total", "Usage events that the stream acknowledged.", stats(func(s journal.Stats) float64 { return float64(s.Published) }))
	n.metrics.counter("tollgate_journal_full_total", "Records refused because the journal was full.", stats(func(s journal.Stats) float64 { return float64(s.Full) }))
	return nil
}

// sweep closes what nobody settled by its deadline.
func (n *node) sweep(now time.Time) { n.abandon(n.ledger.Open(now)) }

// recount makes the limits what they were before a restart, from the usage events
// of the last minute, and finds which of them the truth may still come for: Envoy
// brings a settlement again for that long.
func (n *node) recount(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := n.journal.Flush(ctx); err != nil {
		n.log.Warn("events of before the restart are not in the stream yet: limits may be generous for a minute", "error", err)
	}
	since, after := time.Now().Add(-limit.Span), uint64(0)
	for {
		stored, next, err := n.usage.Read(ctx, after, since, events.MaxRead, 0)
		if err != nil || len(stored) == 0 {
			if err != nil {
				n.log.Warn("the last minute's usage can't be read: limits may be generous for a minute", "error", err)
			}
			return
		}
		after = next
		for _, s := range stored {
			var e events.Event
			if err := json.Unmarshal(s.Payload, &e); err != nil {
				continue // it was not ours, or is of another version: it counts nothing
			}
			d := &e.Data
			switch {
			case e.Type == events.TypeAdjusted:
				n.settler.Forget(d.Adjusts)
				continue
			case e.Type != events.TypeUsage:
				continue
			case d.Measurement == authz.None:
				n.settler.Remember(e.ID)
			}
			n.settler.Recount(time.Now(), n.tables(), e.Time, d.Workspace, d.Key, d.User, d.Model, d.InputTokens+d.OutputTokens)
		}
	}
}

// Reclaim implements envoy.Reclaimer.
func (n *node) Reclaim(now time.Time, requestID string) {
	for _, a := range n.ledger.OfRequest(requestID) {
		if err := n.settler.TakeBack(now, a); err != nil {
			n.log.Warn("an admission could not be taken back; the sweep tries again", "id", a.ID, "error", err)
		}
	}
}

// abandon closes admissions that nobody will settle any more.
func (n *node) abandon(open []*authz.Admission) {
	for _, a := range open {
		if err := n.settler.Abandon(time.Now(), a); err != nil {
			n.log.Warn("an admission could not be closed; the sweep tries again", "id", a.ID, "error", err)
			return
		}
	}
	if len(open) > 0 {
		n.log.Warn("closed admissions that nobody settled", "count", len(open))
	}
}

// replicaID is who owns this data directory's admissions: made once, kept in it.
func (n *node) replicaID() (string, error) {
	return kept(filepath.Join(n.settings.data, "replica"), func() (string, error) { return uuid.NewString(), nil })
}

// kept returns what a file of the data directory holds, made at first use.
func kept(path string, fresh func() (string, error)) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	value, err := fresh()
	if err != nil {
		return "", err
	}
	return value, writeFile(path, value+"\n")
}

// writeFile writes a file that only its owner reads, whole or not at all.
func writeFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path))
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already where all went well
	_, err = f.WriteString(text)               // CreateTemp's mode is 0600
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// startChecks answers Envoy.
func (n *node) startChecks(context.Context) error {
	authorizer := &authz.Authorizer{
		Replica: n.settler.Replica, Tables: n.catalog.Tables, Keys: n.cache, Limits: n.limits, Ledger: n.ledger,
		Sealer: n.settler.Sealer, Estimator: n.settler.Estimator, Used: n.lastUsed.Touch,
		NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
	}
	options := envoy.ServerOptions{
		Wanted:    func(header string) bool { return dialect.Wanted(header) || n.catalog.IsTag(header) },
		Reclaimer: n,
		Token:     n.fleet.token,
		Fleet:     n.fleet.Fleet,
		Logger:    n.log,
	}
	if n.withEnvoy {
		options.Routable = routable
	}
	n.server = envoy.NewServer(checker{authorizer, n.metrics}, n.settler, options)
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

// startManagement serves the management API.
func (n *node) startManagement(context.Context) error {
	operator, err := n.operatorKey()
	if err != nil {
		return err
	}
	handler, err := manage.New(manage.Config{
		Keys:        n.keys,
		Applied:     func(_ context.Context, r *key.Record) { n.cache.Apply(changeOf(r)) },
		LastUsed:    n.lastUsed.Of,
		Tables:      n.catalog.Tables,
		Identify:    n.identify,
		OperatorKey: key.DigestOf(operator),
		Events:      managedEvents{n.usage},
		Consumers:   managedConsumers{n.consumers},
		Catalog:     n.catalog,
		Ready:       n.ready,
		Version:     version,
		Logger:      n.log,
	})
	if err != nil {
		return err
	}
	n.serveHTTP(&n.settings.api, handler)
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
	return n.nats.Health()
}

func (n *node) startMetrics(context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{}))
	n.serveHTTP(&n.settings.metrics, mux)
	return nil
}

// maxConnections bounds those of the API and of the metrics, each: they are for
// people and scripts.
const maxConnections = 1000

// serveHTTP serves h on a bound address until the node stops.
func (n *node) serveHTTP(a *address, h http.Handler) {
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
	n.onStop(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // long polls are not waited for
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			server.Close()
		}
		<-done
	})
}

// announce tells the command line where this Tollgate is.
func (n *node) announce(context.Context) error {
	path := filepath.Join(n.settings.data, addressesFile)
	s := n.settings
	text, err := json.Marshal(runningAddresses{
		Gateway: s.gateway.value, API: s.api.value, GRPC: s.grpc.value, Metrics: s.metrics.value, NATS: n.nats.Addr(),
	})
	if err != nil {
		return err
	}
	n.onStop(func(context.Context) { _ = os.Remove(path) }) // the next start writes it anew
	return writeFile(path, string(text)+"\n")
}

// tables is what is in force now.
func (n *node) tables() *catalog.Tables { return n.catalog.Tables() }
