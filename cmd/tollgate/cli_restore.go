package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"tollgate/events"
	"tollgate/events/natsd"
)

// restoreSettings is what restore is told.
type restoreSettings struct {
	data   string
	nats   natsSettings
	merge  bool
	dry    bool
	output string
}

func newRestore() *cobra.Command {
	s := new(restoreSettings)
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Bring what a backup holds into an empty store", Args: takes("FILE"),
		Long: `Brings what tollgate backup saved into an empty store: the embedded one of a data directory whose Tollgate does
not run (--data), or a NATS of yours (--nats-url, as a user that may make changes). The whole file is verified before
anything is written. Replicas that run on the NATS notice, and read everything anew.

A store that has something is refused unless --merge is given. Then what is missing is added, what is there stays as
it is, and a key that is revoked, there or in the backup, is revoked in the end. An interrupted restore is
continued by --merge.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := wantsJSON(cmd, s.output)
			if err != nil {
				return err
			}
			if s.nats.external() && cmd.Flags().Changed("data") {
				return usage(cmd, "--data is the embedded store, and --nats-url (or TOLLGATE_NATS_URL) one of yours: name one of them")
			}
			if err := s.nats.check(); err != nil {
				return usage(cmd, "%v", err)
			}
			return s.run(cmd.Context(), newPrinter(cmd, asJSON), args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.data, "data", first(os.Getenv("TOLLGATE_DATA"), defaultDataDir), "data directory with the embedded store (TOLLGATE_DATA)")
	s.nats.flags(f)
	f.BoolVar(&s.merge, "merge", false, "add what is missing to a store that has something")
	f.BoolVar(&s.dry, "dry-run", false, "verify the file, and change nothing")
	outputFlag(cmd, &s.output)
	return cmd
}

func (s *restoreSettings) run(ctx context.Context, p *printer, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	header, counts, err := events.VerifyBackup(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	p.advisef("%s: deployment %s at %s: %d keys and catalogs, %d other documents, %d objects and counts, %d usage events, %d audit events",
		path, plain(header.Deployment), header.Time.Format(time.RFC3339), counts.Keys, counts.Config, counts.Objects, counts.Usage, counts.Audit)
	if s.dry {
		p.advisef("The file is whole. Nothing was changed: this was a dry run.")
		return nil
	}
	// A damaged file, or one that can't be read, made nothing so far.
	if _, err := file.Seek(0, 0); err != nil {
		return err
	}
	nc, closeStore, err := s.open(ctx)
	if err != nil {
		return err
	}
	told := newProgress(p)
	done, err := events.Restore(ctx, nc, file, events.RestoreConfig{
		Merge: s.merge, Replicas: s.nats.copies, Logger: restoreLog(),
		Progress: func(r events.Restored) {
			told.tellf("%d keys and documents, %d events", r.Added+r.Kept+r.Revoked+r.Refused, r.Events.Added+r.Events.There)
		},
	})
	if errors.Is(err, events.ErrNotEmpty) {
		err = fmt.Errorf("%w: --merge adds what is missing, and changes of the rest only what the backup has revoked", err)
	}
	if err = errors.Join(err, closeStore()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return p.restored(done)
}

func restoreLog() *slog.Logger {
	return logTo(os.Stderr, slog.LevelWarn)
}

// open opens what is restored into.
func (s *restoreSettings) open(ctx context.Context) (*nats.Conn, func() error, error) {
	if !s.nats.external() {
		return openEmbedded(filepath.Join(s.data, "nats"))
	}
	nc, err := s.nats.connectAdmin(ctx, "tollgate restore", slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	return nc, func() error { nc.Close(); return nil }, nil
}

// closeTime bounds how long an embedded store may take to close.
const closeTime = 30 * time.Second

// openEmbedded runs the NATS server of a directory that no Tollgate uses at the
// time.
func openEmbedded(dir string) (*nats.Conn, func() error, error) {
	server, err := natsd.Start(natsd.Config{Dir: dir, Logger: restoreLog()})
	if err != nil {
		return nil, nil, err
	}
	stop := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		return server.Close(ctx)
	}
	nc, err := server.Connect("tollgate")
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return nc, stop, nil
}

// restored tells what a restore did.
func (p *printer) restored(done events.Restored) error {
	if p.json {
		text, err := json.Marshal(done)
		if err != nil {
			return err
		}
		return p.raw(text)
	}
	if done.Refused > 0 {
		p.advisef("%d keys were NOT restored: each has a secret that is another key's by now; see the lines above.", done.Refused)
	}
	return p.linef("Restored %d keys and documents and %d events; %d and %d were there already. Keys that are revoked now as in the backup: %d.",
		done.Added, done.Events.Added, done.Kept, done.Events.There, done.Revoked)
}
