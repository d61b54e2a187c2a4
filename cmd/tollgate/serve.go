package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tollgate/authz/manage"
)

func newUp() *cobra.Command {
	cmd := &cobra.Command{
		Use: "up", Short: "Run everything: the services, an embedded NATS, and an Envoy in front", Args: takes(),
		Long: `Run everything in one process and its child: the services that Envoy calls, the management API, an
embedded NATS, and Envoy itself, which is restarted if it dies. It stays in the foreground until it is
interrupted.`,
	}
	s := newSettings(cmd)
	cmd.Flags().BoolVar(&s.demoKey, "demo-key", false, "make a key for trying things out, and print it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return run(cmd, s, true) }
	return cmd
}

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the services alone, for an Envoy of yours", Args: takes(),
		Long: `Run the services that Envoy calls and the management API, for an Envoy of yours: what it starts with is
printed by tollgate envoy bootstrap with the same environment. It stays in the foreground until it is
interrupted.`,
	}
	s := newSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return run(cmd, s, false) }
	return cmd
}

// shutdownTime bounds a shutdown: Envoy's drain, the last settlements, the last
// events.
const shutdownTime = 25 * time.Second

// run brings a replica up, with Envoy in front of it or not, and stays until it is
// interrupted or a part of it fails.
func run(cmd *cobra.Command, s *settings, withEnvoy bool) error {
	if err := s.resolve(cmd.Flags()); err != nil {
		return usage(cmd, "%v", err)
	}
	log, err := s.logger()
	if err != nil {
		return usage(cmd, "%v", err)
	}
	spared := newSparing(log.Handler())
	defer spared.flush()
	log = slog.New(spared)
	ctx := cmd.Context()
	listeners, beside := s.addresses(), ""
	if !withEnvoy {
		// Your Envoy has the gateway's address, now or soon.
		listeners, beside = listeners[1:], s.gateway.value
		s.gateway.value = first(s.gateway.value, defaultGateway)
	}
	if err := bind(listeners, beside); err != nil {
		return err
	}
	n, err := start(ctx, s, withEnvoy, log)
	if err != nil && ctx.Err() != nil {
		return nil // it was told to end, and does
	}
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		n.stop(ctx)
	}()
	if withEnvoy {
		if err := n.startProxy(ctx); err != nil {
			return err
		}
	}
	var demo string
	if s.demoKey {
		if demo, err = n.makeDemoKey(ctx); err != nil {
			return fmt.Errorf("the demo key: %w", err)
		}
	}
	if err := n.greet(cmd.OutOrStdout(), withEnvoy, demo); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-n.failed:
		return err
	}
}

// greet prints where everything is, and a line to try.
func (n *node) greet(w io.Writer, withEnvoy bool, demo string) error {
	s := n.settings
	gateway, _ := dialable(s.gateway.value)
	api, _ := dialable(s.api.value)
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "  %-10s %s\n", name, value) }
	b.WriteString("Tollgate is up.\n\n")
	if withEnvoy {
		line("gateway", "http://"+gateway)
	} else {
		line("gateway", "http://"+gateway+"  (once your Envoy runs: tollgate envoy bootstrap)")
	}
	line("api", "http://"+api)
	line("grpc", s.grpc.value)
	line("metrics", "http://"+s.metrics.value+"/metrics")
	if addr := n.addr(); addr != "" {
		line("nats", "nats://"+addr)
	}
	line("data", s.data)
	if demo != "" {
		line("demo key", demo)
	}
	switch {
	case demo != "":
	case len(n.tables().Workspaces) == 0:
		b.WriteString("\nThere is nothing to call yet. What there is, a catalog says: " + s.command("apply -f CATALOG") + "\n")
	default:
		b.WriteString("\nMake a key: " + s.command("key create --name first") + "\n")
	}
	if line := firstRequest(n.tables(), demoWorkspace(n.tables()), gateway, first(demo, "KEY")); line != "" {
		b.WriteString("\nTry it:\n\n  " + line + "\n")
	}
	if withEnvoy {
		b.WriteString("\nCtrl-C stops everything.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// command is a command line that manages this Tollgate from the same directory.
func (s *settings) command(line string) string {
	if s.data != defaultDataDir {
		return "tollgate " + line + " --data " + s.data
	}
	return "tollgate " + line
}

// demoKeyLife is how long a demo key lives.
const demoKeyLife = 7 * 24 * time.Hour

// makeDemoKey makes a key in that workspace, as anybody would: by the API.
func (n *node) makeDemoKey(ctx context.Context) (string, error) {
	workspace := demoWorkspace(n.tables())
	if workspace == "" {
		return "", errors.New("the catalog has no workspace")
	}
	operator, err := n.operatorKey()
	if err != nil {
		return "", err
	}
	addr, _ := dialable(n.settings.api.value)
	client, err := manage.NewClient(addr, operator, nil)
	if err != nil {
		return "", err
	}
	made, err := client.CreateKey(ctx, manage.KeyRequest{
		Workspace: &workspace,
		KeyFields: manage.KeyFields{
			Name:        manage.To("demo"),
			Environment: manage.To("demo"),
			ExpiresAt:   manage.To(manage.Time(time.Now().Add(demoKeyLife))),
		},
	})
	return made.Value.Secret, err
}
