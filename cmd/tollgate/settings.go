package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// settings are what up, serve and envoy bootstrap are told: each by a flag or by
// its environment twin, the flag first.
type settings struct {
	gateway, api, grpc, metrics address

	data       string
	catalog    string // file; "": what is stored, or nothing
	natsListen string
	nats       natsSettings
	bound      time.Duration // the revocation bound, where there are several replicas
	replicas   string        // host:port, comma-separated: where Envoy finds all replicas; "": this one
	envoy      string
	name       string
	operator   string // environment only: a secret doesn't belong into a command line
	logLevel   string
	demoKey    bool
}

// newSettings gives cmd the flags that a server has.
func newSettings(cmd *cobra.Command) *settings {
	s := &settings{
		gateway: address{name: "gateway", flag: "--gateway-addr", env: "TOLLGATE_GATEWAY_ADDR"},
		api:     address{name: "api", flag: "--api-addr", env: "TOLLGATE_API_ADDR"},
		grpc:    address{name: "grpc", flag: "--grpc-addr", env: "TOLLGATE_GRPC_ADDR"},
		metrics: address{name: "metrics", flag: "--metrics-addr", env: "TOLLGATE_METRICS_ADDR"},
	}
	f := cmd.Flags()
	what := map[*address]string{
		&s.gateway: "where Envoy listens for callers (default " + defaultGateway + ")",
		&s.api:     "where the management API listens (default " + defaultAPI + ")",
		&s.grpc:    "where Envoy's calls are answered (default: a free port)",
		&s.metrics: "where Tollgate's own metrics are (default: a free port)",
	}
	for _, a := range s.addresses() {
		f.StringVar(&a.value, a.flag[2:], "", what[a]+" ("+a.env+")")
	}
	text := func(to *string, name, env, usage, otherwise string) {
		f.StringVar(to, name, first(os.Getenv(env), otherwise), usage+" ("+env+")")
	}
	text(&s.data, "data", "TOLLGATE_DATA", "data directory", defaultDataDir)
	text(&s.catalog, "catalog", "TOLLGATE_CATALOG", "catalog to begin with; later ones take effect by tollgate apply", "")
	text(&s.natsListen, "nats-listen", "TOLLGATE_NATS_LISTEN", "let consumers of usage events in from outside at this address; empty: nobody", "")
	s.nats.flags(f)
	f.DurationVar(&s.bound, "revocation-bound", durationFrom("TOLLGATE_REVOCATION_BOUND", defaultBound),
		"with --nats-url: how long a replica that is cut off goes on with the keys it knows, and so by when a revocation is certain at the latest (TOLLGATE_REVOCATION_BOUND)")
	text(&s.replicas, "replica-addrs", "TOLLGATE_REPLICA_ADDRS", "gRPC addresses of all replicas, comma-separated, for an Envoy that uses several; empty: this one's", "")
	text(&s.envoy, "envoy", "TOLLGATE_ENVOY", "the Envoy to run; empty: the one on PATH, then the one that make tools installs", "")
	text(&s.name, "name", "TOLLGATE_NAME", "name of the deployment, in the source of its events", "local")
	text(&s.logLevel, "log-level", "TOLLGATE_LOG_LEVEL", "debug, info, warn or error", "warn")
	return s
}

func (s *settings) addresses() []*address {
	return []*address{&s.gateway, &s.api, &s.grpc, &s.metrics}
}

// resolve takes the environment in for the addresses that no flag gave, and the
// operator's key. It is called once the flags are parsed.
func (s *settings) resolve(flags *pflag.FlagSet) error {
	for _, a := range s.addresses() {
		if !flags.Changed(a.flag[2:]) {
			a.value = os.Getenv(a.env)
		}
		a.given = a.value != ""
		if err := a.check(); err != nil {
			return err
		}
	}
	s.operator = strings.TrimSpace(os.Getenv("TOLLGATE_OPERATOR_KEY"))
	if strings.ContainsFunc(s.operator, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("TOLLGATE_OPERATOR_KEY can't be sent in a header: want printable ASCII without spaces")
	}
	if err := s.nats.check(); err != nil {
		return err
	}
	if s.nats.external() && s.natsListen != "" {
		return errors.New("--nats-listen lets consumers into the embedded NATS, and --nats-url uses one of yours: leave one of them out")
	}
	if s.bound == 0 && !flags.Changed("revocation-bound") {
		return fmt.Errorf("TOLLGATE_REVOCATION_BOUND takes a duration such as 15s or 2h, not %q", os.Getenv("TOLLGATE_REVOCATION_BOUND"))
	}
	if s.bound < minBound || s.bound > maxBound {
		return fmt.Errorf("--revocation-bound %v: want %v to %v (a cluster takes no writes for up to 5 s when a leader dies, so less than 6 s refuses valid keys then)", s.bound, minBound, maxBound)
	}
	if !deploymentName.MatchString(s.name) {
		return fmt.Errorf("the deployment's name %q: want 1 to 63 of a-z, 0-9 and -", s.name)
	}
	return nil
}

// What the revocation bound may be. More than a day would be no promise.
const (
	defaultBound = 15 * time.Second
	minBound     = 2 * time.Second
	maxBound     = 24 * time.Hour
)

// durationFrom reads an environment variable. What can't be read becomes zero,
// which resolve refuses where zero is out of bounds.
func durationFrom(env string, otherwise time.Duration) time.Duration {
	text := os.Getenv(env)
	if text == "" {
		return otherwise
	}
	d, _ := time.ParseDuration(text)
	return d
}

// logger writes JSON lines to standard error, which people redirect and machines
// read; what a person must see is printed.
func (s *settings) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level is debug, info, warn or error, not %q", s.logLevel)
	}
	return logTo(os.Stderr, level), nil
}

// logTo makes a log in JSON, with durations as people write them: slog's are numbers
// of nanoseconds.
func logTo(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}))
}
