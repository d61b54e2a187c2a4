package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"tollgate/events"
)

func newNATS() *cobra.Command {
	return group("nats", "Prepare a NATS of yours", newNATSSetup())
}

// natsSetup is what nats setup is told.
type natsSetup struct {
	nats      natsSettings
	users     events.Users
	filesOnly bool
	output    string
}

func newNATSSetup() *cobra.Command {
	s := new(natsSetup)
	cmd := &cobra.Command{
		Use: "setup", Short: "Make Tollgate's streams in a NATS of yours, and its users with just the permissions they need", Args: takes(),
		Long: `Makes the streams that are missing, and writes into --dir one user for replicas and one for changes:
replica.nk, admin.nk and, to be included in the servers' configuration, tollgate-users.conf; or, with
--account-seed, replica.creds and admin.creds. It may be repeated: secrets that are there are kept.

The servers must know the users before these can make the streams, so the first time it is:
  tollgate nats setup --files-only --dir DIR
  (include DIR/tollgate-users.conf in nats-server.conf, and: nats-server --signal reload)
  tollgate nats setup --dir DIR --nats-url URL --nats-admin-nkey DIR/admin.nk`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := wantsJSON(cmd, s.output)
			if err != nil {
				return err
			}
			switch {
			case !s.filesOnly && !s.nats.external():
				return usage(cmd, "--nats-url is missing; --files-only needs none")
			case s.users.Dir == "" && s.users.AccountSeedFile != "":
				return usage(cmd, "--account-seed is for the users' files: say by --dir where to write them")
			case s.users.Dir == "" && s.filesOnly:
				return usage(cmd, "--dir DIR is missing")
			}
			if s.filesOnly {
				s.nats = natsSettings{} // what the environment says of a connection is not wanted
			}
			if err := s.nats.check(); err != nil {
				return usage(cmd, "%v", err)
			}
			done, err := s.run(cmd.Context())
			if err != nil && len(done) == 0 {
				return err
			}
			return errors.Join(printDone(newPrinter(cmd, asJSON), done), err)
		},
	}
	f := cmd.Flags()
	s.nats.flags(f)
	f.StringVar(&s.users.Dir, "dir", "", "directory for the users' files; empty: they are not written")
	f.StringVar(&s.users.AccountSeedFile, "account-seed", "", "file with the seed of the account, or of one of its signing keys, where users are let in by JWT")
	f.StringVar(&s.users.Account, "account", "", "public key of the account, where --account-seed is one of its signing keys")
	f.BoolVar(&s.filesOnly, "files-only", false, "write the users' files without connecting")
	f.BoolVar(&s.users.Dry, "dry-run", false, "change nothing, and say what would be done")
	outputFlag(cmd, &s.output)
	return cmd
}

// run does it, and returns what was done also where that was not all.
func (s *natsSetup) run(ctx context.Context) (done []events.Done, err error) {
	if s.users.Dir != "" {
		if done, err = s.users.Write(); err != nil {
			return done, err
		}
	}
	if s.filesOnly {
		return done, nil
	}
	// What the connection reports beside its error, that error says better.
	nc, err := s.nats.connectAdmin(ctx, "tollgate nats setup", slog.New(slog.DiscardHandler))
	if err != nil {
		return done, err
	}
	defer nc.Close()
	streams, err := events.SetUp(ctx, nc, s.nats.copies, s.users.Dry)
	return append(done, streams...), err
}

func printDone(p *printer, done []events.Done) error {
	if p.json {
		if done == nil {
			done = []events.Done{}
		}
		text, err := json.Marshal(done)
		if err != nil {
			return err
		}
		return p.raw(text)
	}
	rows := [][]string{{"WHAT", "STATE", "DETAIL"}}
	for _, d := range done {
		rows = append(rows, []string{d.What, d.State, d.Detail})
	}
	return p.table(rows...)
}
