package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tollgate/authz/manage"
	"tollgate/events"
)

func newBackup() *cobra.Command {
	s := &server{output: "table"}
	var file string
	var withEvents, freeze, unfreeze bool
	cmd := &cobra.Command{
		Use: "backup", Short: "Save what a running Tollgate has stored into a file", Args: takes(),
		Long: `Saves all keys and documents of a running Tollgate into a file, and with --events its usage and audit events.
The file is whole or not there. It holds the keys that seal admission tokens and whatever else is secret, so only
its owner may read it; who can change it can put keys into what it is restored to. The operator's key, the journal of
what is under way, and secrets that the catalog only names are not in it: save the data directory's file
` + operatorKeyFile + ` and your environment beside it.

With --freeze this Tollgate, from then on, refuses whatever would change something, by 503, while requests pass as
before: until --unfreeze, or a restart. It is for moving to another store, see docs/move-to-a-cluster.md.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case unfreeze && (file != "" || withEvents || freeze):
				return usage(cmd, "--unfreeze goes alone")
			case !unfreeze && file == "":
				return usage(cmd, "-o FILE is missing")
			}
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			if unfreeze {
				if err := c.Unfreeze(cmd.Context()); err != nil {
					return err
				}
				return p.linef("Changes are taken again.")
			}
			if freeze {
				if err := c.Freeze(cmd.Context()); err != nil {
					return err
				}
				p.advisef("Frozen: no change is taken until tollgate backup --unfreeze, or a restart.")
			}
			header, counts, err := saveBackup(cmd.Context(), c, p, file, withEvents)
			if err != nil {
				return err
			}
			return p.backup(file, header, counts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.addr, "api-addr", "", "where the management API is (TOLLGATE_API_ADDR)")
	f.StringVar(&s.data, "data", "", "data directory of the running Tollgate (TOLLGATE_DATA, else "+defaultDataDir+")")
	f.StringVarP(&file, "output", "o", "", "the file; one of that name is replaced")
	f.BoolVar(&withEvents, "events", false, "usage and audit events too")
	f.BoolVar(&freeze, "freeze", false, "take no changes from then on, until --unfreeze or a restart")
	f.BoolVar(&unfreeze, "unfreeze", false, "take changes again")
	return cmd
}

// saveBackup writes a backup into a file, which appears only once it is whole.
func saveBackup(ctx context.Context, c *manage.Client, p *printer, path string, withEvents bool) (header events.BackupHeader, counts events.BackupCounts, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)) // mode 0600
	if err != nil {
		return header, counts, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already where all went well
	told := newProgress(p)
	err = c.Backup(ctx, io.MultiWriter(f, told), withEvents)
	if err = errors.Join(err, f.Sync()); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		if header, counts, err = events.VerifyBackup(f); errors.Is(err, events.ErrBackup) {
			err = fmt.Errorf("%w; Tollgate's log may say why", err)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return header, counts, err
	}
	return header, counts, os.Rename(f.Name(), path)
}

// backup tells what a backup has.
func (p *printer) backup(file string, header events.BackupHeader, counts events.BackupCounts) error {
	if counts.Skipped > 0 {
		p.advisef("%d entries can't be read by this Tollgate and are NOT in it; its log names them.", counts.Skipped)
	}
	p.advisef("%s holds secrets of the deployment; only you may read it (mode 0600). Keep it so.", file)
	return p.linef("%s: %d keys and catalogs, %d other documents, %d objects and counts, %d usage events, %d audit events of deployment %s at %s, up to revision %d",
		file, counts.Keys, counts.Config, counts.Objects, counts.Usage, counts.Audit, plain(header.Deployment), header.Time.Format(time.RFC3339), header.Revision)
}

// progress tells people, about every second, how far something is that takes
// longer than that.
type progress struct {
	p     *printer
	bytes int64
	last  time.Time
}

const progressEvery = time.Second

func newProgress(p *printer) *progress { return &progress{p: p, last: time.Now()} }

// Write counts what passes.
func (g *progress) Write(b []byte) (int, error) {
	g.bytes += int64(len(b))
	g.tellf("%.1f MB", float64(g.bytes)/1e6)
	return len(b), nil
}

func (g *progress) tellf(format string, args ...any) {
	if now := time.Now(); now.Sub(g.last) >= progressEvery {
		g.last = now
		g.p.advisef("… "+format, args...)
	}
}
