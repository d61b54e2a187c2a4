package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"tollgate/authz/catalog"
	"tollgate/authz/dialect"
	"tollgate/authz/manage"
	"tollgate/envoy"
)

// envoyOptions are what Envoy's configuration needs of the settings. token is what
// Envoy shows.
func (s *settings) envoyOptions(token string) envoy.Options {
	o := envoy.Options{Listen: s.gateway.value, Servers: s.servers(), Token: token, RevocationBound: s.bound}
	// What was decided must not pass later than the bound says, retries included.
	o.CheckTimeout = min(envoy.DefaultCheckTimeout, s.bound/2)
	o.LargeCheckTimeout = min(envoy.DefaultLargeCheckTimeout, s.bound/2)
	return o
}

// servers are where Envoy finds the replicas: those that --replica-addrs names, or
// this one.
func (s *settings) servers() []string {
	if s.replicas == "" {
		return []string{s.grpc.value}
	}
	list := strings.Split(s.replicas, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// fleetTokenFile is in the data directory.
const fleetTokenFile = "envoy.token"

// fleetToken is what Envoys that get their configuration from this data directory's
// Tollgate have to show it.
func (s *settings) fleetToken() (string, error) {
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return "", fmt.Errorf("the data directory: %w", err)
	}
	return kept(filepath.Join(s.data, fleetTokenFile), func() (string, error) { return rand.Text(), nil })
}

// routable reports whether our own Envoy has a cluster: it has those that a catalog
// makes, and none of the operator's.
func routable(cluster string) bool {
	return strings.HasPrefix(cluster, catalog.ModelCluster("")) || strings.HasPrefix(cluster, catalog.RouteCluster(""))
}

// routing is what a catalog says of where requests go: a cluster per model that
// has upstreams and per route that has one, and Envoy routes for the paths of each
// dialect, or the way to Tollgate itself for those that are managed. Where paths of
// two dialects begin alike on the same hosts, the settings count of the route that
// comes first in the catalog.
func routing(t *catalog.Tables) envoy.Spec {
	var spec envoy.Spec
	for _, m := range t.Models {
		if len(m.Upstreams) > 0 {
			spec.Clusters = append(spec.Clusters, modelCluster(m))
		}
	}
	slices.SortFunc(spec.Clusters, func(a, b envoy.Cluster) int { return strings.Compare(a.Name, b.Name) })
	seen := map[string]bool{}
	for i := range t.Routes {
		r := &t.Routes[i]
		cors := allowed(r)
		if r.Upstream != nil {
			spec.Clusters = append(spec.Clusters, cluster(r.Cluster, []catalog.Upstream{*r.Upstream}))
		}
		paths := r.Dialect.Paths
		if r.Dialect.Root != "" {
			paths = append(slices.Clip(paths), dialect.Path{Pattern: r.Dialect.Root, Header: r.Dialect.RootHeader}) // to be refused by a Check
		}
		for j := range paths {
			if p := paths[j].Pattern; paths[j].Answer == dialect.AnswerManaged {
				if m := (envoy.Managed{Path: p, Hosts: r.Hosts, CORS: cors, Dialect: r.Dialect.Name}); !seen[fmt.Sprint(p, m.Hosts)] {
					seen[fmt.Sprint(p, m.Hosts)] = true
					spec.Managed = append(spec.Managed, m)
				}
				continue
			}
			prefix := literal(paths[j].Pattern)
			same := fmt.Sprint(prefix, " ", paths[j].Header, r.Hosts)
			if seen[same] {
				continue
			}
			seen[same] = true
			spec.Routes = append(spec.Routes, envoy.Route{
				Prefix: prefix, Hosts: r.Hosts, Header: paths[j].Header, CORS: cors, Dialect: r.Dialect.Name,
				Rewrite: r.Dialect.Upstream(prefix), WebSocket: paths[j].WebSocket,
				MaxDuration: r.Duration(&paths[j]), MaxBody: uint32(r.MaxBody), MaxMultipart: uint32(r.MaxMultipart),
			})
		}
	}
	return spec
}

// allowed is what browsers may do with a route; nil: nothing from other origins.
func allowed(r *catalog.Route) *envoy.CORS {
	if r.CORS == nil {
		return nil
	}
	c := &envoy.CORS{Origins: r.CORS.Origins, MaxAge: r.CORS.MaxAge}
	for i := range r.Dialect.Paths {
		if m := r.Dialect.Paths[i].Method; !slices.Contains(c.Methods, m) {
			c.Methods = append(c.Methods, m)
		}
	}
	slices.Sort(c.Methods)
	return c
}

// literal is a path pattern up to the segment that varies.
func literal(pattern string) string {
	before, _, _ := strings.Cut(pattern, "{")
	if before == "/" {
		return before
	}
	return strings.TrimSuffix(before, "/")
}

func modelCluster(m *catalog.Model) envoy.Cluster {
	c := cluster(m.Cluster, m.Upstreams)
	c.CA = m.CA
	if h := m.HealthCheck; h != nil {
		c.HealthCheck = &envoy.HealthCheck{Path: h.Path, Interval: h.Interval, Timeout: h.Timeout}
	}
	if cr := m.Credential; cr != nil {
		c.Credential = &envoy.Credential{Header: cr.Header, Prefix: cr.Prefix, Secret: cr.Secret(), Env: cr.Env()}
		if path := cr.File(); path != "" {
			c.Credential.File = absolute(path)
		}
	}
	return c
}

// absolute is a path that means the same from wherever Envoy is started.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path // without a working directory there is nothing better
}

func cluster(name string, upstreams []catalog.Upstream) envoy.Cluster {
	c := envoy.Cluster{Name: name, TLS: upstreams[0].Scheme == "https", Path: upstreams[0].Path}
	for _, u := range upstreams {
		c.Endpoints = append(c.Endpoints, envoy.Endpoint{Host: u.Host, Port: u.Port, Weight: u.Weight})
	}
	return c
}

// resources are Envoy's configuration for a catalog.
func (s *settings) resources(t *catalog.Tables, token string) (*envoy.Resources, error) {
	if err := s.credentialsMayTravel(t); err != nil {
		return nil, err
	}
	o := s.envoyOptions(token)
	o.Headers = append(dialect.WantedHeaders(), t.Settings.TagHeaders...)
	return envoy.Build(o, routing(t))
}

// credentialsMayTravel refuses to send an upstream's credential from this replica or
// another one to Envoy, with its configuration or in a Check's answer, over anything
// but loopback.
func (s *settings) credentialsMayTravel(t *catalog.Tables) error {
	if !slices.ContainsFunc(append(s.servers(), first(s.grpc.value, "localhost:0")), leavesMachine) {
		return nil
	}
	for _, m := range t.Models {
		if m.Credential != nil {
			return fmt.Errorf("model %q has a credential, which Tollgate sends to Envoy: that must not leave the machine in clear text; "+
				"let --grpc-addr and --replica-addrs be loopback addresses", m.ID)
		}
	}
	return nil
}

// leavesMachine reports whether what is sent to an address may pass by others.
func leavesMachine(server string) bool {
	host, _, err := net.SplitHostPort(server)
	addr, notIP := netip.ParseAddr(host)
	return err != nil || host != "localhost" && (notIP != nil || !addr.IsLoopback())
}

// credentialsStand looks whether an Envoy that reads the models' credentials by
// itself would find what is meant: it takes a file as it is, a line's end too.
func credentialsStand(t *catalog.Tables) error {
	for _, m := range t.Models {
		if m.Credential == nil || len(m.Upstreams) == 0 {
			continue
		}
		path := m.Credential.File()
		if path == "" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("model %q: credential: %w", m.ID, err)
		}
		if string(text) != m.Credential.Secret() {
			return fmt.Errorf("model %q: with --static Envoy reads %s by itself and takes it as it is: let the file hold the secret alone, without spaces or a line's end (printf %%s)", m.ID, path)
		}
	}
	return nil
}

// startProxy runs Envoy in front of the node.
func (n *node) startProxy(ctx context.Context) error {
	binary, err := envoy.Find(ctx, n.settings.envoy)
	if err != nil {
		return err
	}
	if binary.Warning != "" {
		n.log.Warn(binary.Warning)
	}
	config, err := envoy.Bootstrap(n.settings.envoyOptions(n.fleet.token))
	if err != nil {
		return err
	}
	// Whatever was open when this process started was carried by an Envoy that
	// died with the process before: nobody will settle it.
	if !n.carriedByOthers() {
		if err := n.reconcile(); err != nil {
			n.log.Warn("what was open before this start stays open until it is known what other replicas closed", "error", err)
		} else {
			n.abandon(n.ledger.Open(time.Time{}))
		}
	}
	supervisor, err := envoy.Supervise(ctx, envoy.SupervisorConfig{
		Binary: binary.Path, Dir: filepath.Join(n.settings.data, "envoy"), Bootstrap: config, Gateway: n.settings.gateway.value,
		OnExit: n.proxyDied, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.onStop(supervisor.Stop)
	return nil
}

// carriedByOthers reports whether other Envoys than ours may carry what this
// replica admitted.
func (n *node) carriedByOthers() bool { return len(n.settings.servers()) > 1 }

// settleGrace is how long after Envoy's death settlements that it sent before are
// still waited for.
const settleGrace = time.Second

// proxyDied closes what the dead Envoy carried.
func (n *node) proxyDied(cause error) {
	n.log.Error("Envoy died and is started again", "error", cause)
	if n.carriedByOthers() {
		return // what it carried is closed at its deadline
	}
	carried := n.ledger.Open(time.Time{})
	time.AfterFunc(settleGrace, func() { n.abandon(carried) })
}

func newEnvoy() *cobra.Command {
	return group("envoy", "What an Envoy of yours needs", newBootstrap())
}

func newBootstrap() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bootstrap", Short: "Print what an Envoy starts with", Args: takes(),
		Long: `Print the configuration that an Envoy of yours starts with, for the same environment as tollgate serve's: the
addresses come from the flags, the environment, or the running Tollgate's data directory. Such an Envoy gets models and
routes from Tollgate while it runs. With --static it starts with all of them, and is started again after a change; the
models' credentials it then reads itself, from the same files, or the variables of that name in its own environment.`,
	}
	s := newSettings(cmd)
	static := cmd.Flags().Bool("static", false, "the whole configuration, for an Envoy that asks nobody for changes")
	var output string
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "yaml or json: Envoy reads both")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"yaml", "json"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if output != "yaml" && output != "json" {
			return usage(cmd, "--output is yaml or json, not %q", output)
		}
		if err := s.resolve(cmd.Flags()); err != nil {
			return usage(cmd, "%v", err)
		}
		text, err := s.printBootstrap(cmd.Context(), *static)
		if err != nil {
			return err
		}
		if output == "json" {
			if text, err = yaml.YAMLToJSON(text); err != nil {
				return err
			}
		} else {
			text = append([]byte(howToStart), text...)
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	return cmd
}

// howToStart is the comment above a printed configuration. Without the file Envoy
// works, and logs four times a second that it isn't there.
const howToStart = `# Start Envoy in a directory of its own, with a file cut in it that says 0:  echo 0 >cut && envoy -c envoy.yaml
# To end it without losing what was used: drain it, echo 1 >cut.new && mv cut.new cut, and wait until
# cluster.tollgate.upstream_rq_active is 0 (curl --unix-socket admin.sock http://envoy/stats).
`

// printBootstrap is what an Envoy starts with that works with the Tollgate of
// these settings: the running one of the data directory, or one that is started
// later with the same addresses and catalog.
func (s *settings) printBootstrap(ctx context.Context, static bool) ([]byte, error) {
	running, err := readAddresses(s.data)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for a, of := range map[*address]string{&s.gateway: running.Gateway, &s.grpc: running.GRPC} {
		if !a.given {
			a.value = of
		}
	}
	s.gateway.value = first(s.gateway.value, defaultGateway)
	if s.grpc.value == "" && s.replicas == "" {
		return nil, fmt.Errorf("where Envoy finds Tollgate isn't known: set TOLLGATE_GRPC_ADDR for it and for tollgate serve (TOLLGATE_REPLICA_ADDRS for several of them), or start that first with --data %s", s.data)
	}
	token, err := s.fleetToken()
	if err != nil {
		return nil, err
	}
	options := s.envoyOptions(token)
	if !static {
		return envoy.Bootstrap(options)
	}
	c, err := s.currentCatalog(ctx, running.API != "")
	if err != nil {
		return nil, err
	}
	tables, err := compile(c)
	if err != nil {
		return nil, err
	}
	if err := credentialsStand(tables); err != nil {
		return nil, err
	}
	resources, err := s.resources(tables, token)
	if err != nil {
		return nil, err
	}
	return envoy.StaticBootstrap(options, resources)
}

// currentCatalog is the running Tollgate's, or the file's where none runs.
func (s *settings) currentCatalog(ctx context.Context, running bool) (*catalog.Catalog, error) {
	if running {
		addr, err := (&server{addr: s.api.value}).address(s.data)
		if err != nil {
			return nil, err
		}
		operator, err := operatorKey(s.data)
		if err != nil {
			return nil, err
		}
		client, err := manage.NewClient(addr, operator, nil)
		if err != nil {
			return nil, err
		}
		stored, err := client.Catalog(ctx)
		if err != nil {
			return nil, err
		}
		return catalog.Parse("the stored catalog", stored.Raw)
	}
	if s.catalog == "" {
		return nil, errors.New("no Tollgate runs on this data directory; name a catalog by --catalog or TOLLGATE_CATALOG")
	}
	text, err := os.ReadFile(s.catalog)
	if err != nil {
		return nil, err
	}
	return catalog.Parse(s.catalog, text)
}
