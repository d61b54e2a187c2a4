package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ConnectConfig says where a NATS of the operator's is and who we are there.
type ConnectConfig struct {
	// URL is nats://host:port or tls://host:port, or several with commas between;
	// it may hold a user and a password. Required.
	URL string
	// Name says in the server's logs whose connection it is.
	Name string
	// CredsFile has a user's JWT and seed, NkeyFile a user's seed alone. At most
	// one of them. They are read again at every reconnect.
	CredsFile, NkeyFile string
	// CAFile has the certificates that the server's is checked against. Empty: the
	// system's.
	CAFile string
	// CertFile and KeyFile are what we show to a server that asks. Both or none.
	CertFile, KeyFile string
	// Logger. Nil: slog.Default().
	Logger *slog.Logger
}

const (
	// A connection that is dead without a sign is given up after two pings: much
	// sooner than the revocation bound, so that another server may be tried.
	pingEvery = 2 * time.Second
	maxPings  = 2

	connectTimeout = 5 * time.Second // for each server that is tried

	reconnectWait   = 250 * time.Millisecond
	reconnectJitter = 500 * time.Millisecond // so that a server that is back isn't asked by all at once
)

// Connect connects to a NATS of the operator's. Where that fails at first, it is
// an error that says what to do, without any secret; a connection that is lost
// later comes back by itself, however long that takes, and whatever the server
// says of our credentials meanwhile. The caller closes it.
//
// While it is away, what is published fails at once (nats.ErrReconnectBufExceeded)
// and so does every question: nothing is sent minutes later that was true when it
// was said. Subscriptions, and pull consumers with them, come back.
//
// Answers come under an inbox that is named for our public key, where we have one
// (see inbox): permissions can then keep others from listening to it.
func Connect(ctx context.Context, cfg ConnectConfig) (*nats.Conn, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	log := cfg.Logger.With("part", "nats", "connection", cfg.Name)
	if err := checkURL(cfg.URL); err != nil {
		return nil, err
	}
	who, err := identity(&cfg)
	if err != nil {
		return nil, err
	}
	options := append(who, //nolint:gocritic // identity's slice is nobody else's
		nats.Name(cfg.Name),
		nats.Timeout(connectTimeout),
		nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(maxPings),
		nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.ReconnectBufSize(-1),
		// Else a second refusal ends it for good, as while an operator reloads users.
		nats.IgnoreAuthErrorAbort(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Warn("connection to NATS is back", "server", nc.ConnectedAddr()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Error("NATS reported an error", "error", err, "subject", subject)
		}),
	)
	nc, err := connectUntil(ctx, cfg.URL, options)
	if err != nil {
		return nil, refusal(&cfg, err)
	}
	if err := checkServer(ctx, nc); err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}

// connectUntil is nats.Connect that stops waiting when ctx ends.
func connectUntil(ctx context.Context, servers string, options []nats.Option) (*nats.Conn, error) {
	type result struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		nc, err := nats.Connect(servers, options...)
		done <- result{nc, err}
	}()
	select {
	case r := <-done:
		return r.nc, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// checkURL refuses what the client library would take for something else. What
// can't be read is not repeated: it may hold a password.
func checkURL(servers string) error {
	for part := range strings.SplitSeq(servers, ",") {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || u.Host == "" {
			return errors.New("the URL of NATS can't be read: want nats://host:port or tls://host:port, or several with commas between")
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return fmt.Errorf("the URL of NATS begins with %s://: want nats:// or tls://", u.Scheme)
		}
	}
	return nil
}

// hosts are the servers of a URL without users and passwords.
func hosts(servers string) string {
	var names []string
	for part := range strings.SplitSeq(servers, ",") {
		if u, err := url.Parse(strings.TrimSpace(part)); err == nil {
			names = append(names, u.Host)
		}
	}
	return strings.Join(names, ", ")
}

// What a server must be at least.
const leastMajor, leastMinor = 2, 15

// leastPayload is what a server has to take in one message, which is its default: a
// document may be as large.
const leastPayload = 1 << 20

// checkServer refuses a server that is too old, takes too little in one message, or has
// no JetStream for us.
func checkServer(ctx context.Context, nc *nats.Conn) error {
	version := nc.ConnectedServerVersion()
	if !atLeast(version, leastMajor, leastMinor) {
		return fmt.Errorf("the nats-server at %s has version %s, Tollgate needs %d.%d or later: upgrade it",
			nc.ConnectedAddr(), version, leastMajor, leastMinor)
	}
	if most := nc.MaxPayload(); most < leastPayload {
		return fmt.Errorf("the nats-server at %s takes %d bytes in one message, which a catalog can be larger than: take max_payload out of its configuration, or set it to 1MB or more",
			nc.ConnectedAddr(), most)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	// For longer than an election takes: who starts after a fault starts during one.
	ctx, cancel := context.WithTimeout(ctx, 3*askTimeout)
	defer cancel()
	_, err = repeat(ctx, 3*askTimeout, briefly(js.AccountInfo), func(err error) bool {
		return noAnswer(err) && !errors.Is(nc.LastError(), nats.ErrPermissionViolation)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return fmt.Errorf("JetStream is not enabled on the nats-server at %s: add jetstream {store_dir: DIR} to its configuration", nc.ConnectedAddr())
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("JetStream is not enabled for our account on the nats-server at %s: add jetstream: enabled to the account", nc.ConnectedAddr())
	}
	return fmt.Errorf("JetStream at %s: %w", nc.ConnectedAddr(), denied(nc, err))
}

// atLeast compares the beginning of a version; one that can't be read is too old.
func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	isMajor, err1 := strconv.Atoi(parts[0])
	isMinor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (isMajor > major || isMajor == major && isMinor >= minor)
}

// denied adds to an error what the server said of our permissions last: it does
// not answer a request that is not permitted, which looks like a server that is
// slow.
func denied(nc *nats.Conn, err error) error {
	if last := nc.LastError(); unanswered(err) && errors.Is(last, nats.ErrPermissionViolation) {
		return fmt.Errorf("%w (%w)", last, err)
	}
	return err
}
