package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"tollgate/events"
)

func newEventsCopy(s *server) *cobra.Command {
	var from string
	var target natsSettings
	cmd := &cobra.Command{
		Use: "copy", Short: "Bring the events of an embedded store, that is no longer used, into a NATS of yours", Args: takes(),
		Long: `Brings the usage and audit events that only the embedded store of a data directory has into the streams of a NATS
of yours: the last step of moving there, see docs/move-to-a-cluster.md. Events that are there stay as they are, so it
may be repeated. They keep their ids and times; the streams keep them from the copy on for as long as they
keep new ones. No Tollgate may run on the embedded store meanwhile; on the NATS it may.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := wantsJSON(cmd, s.output)
			if err != nil {
				return err
			}
			switch {
			case from == "":
				return usage(cmd, "--from-data DIR is missing")
			case !target.external():
				return usage(cmd, "--nats-url is missing")
			}
			if err := target.check(); err != nil {
				return usage(cmd, "%v", err)
			}
			dir, err := embeddedStore(from)
			if err != nil {
				return err
			}
			to, err := target.connectAdmin(cmd.Context(), "tollgate events copy", slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			defer to.Close()
			old, closeStore, err := openEmbedded(dir)
			if err != nil {
				return err
			}
			done, err := events.CopyEvents(cmd.Context(), old, to)
			if err = errors.Join(err, closeStore()); err != nil {
				return fmt.Errorf("%w (%d events were copied; what is missing is added when this is repeated)", err, done.Added)
			}
			p := newPrinter(cmd, asJSON)
			if p.json {
				text, err := json.Marshal(done)
				if err != nil {
					return err
				}
				return p.raw(text)
			}
			return p.linef("Copied %d events; %d were there already.", done.Added, done.There)
		},
	}
	target.flags(cmd.Flags())
	cmd.Flags().StringVar(&from, "from-data", "", "data directory whose embedded store has the events, or its subdirectory nats")
	return cmd
}

// embeddedStore is where below a data directory the embedded store is. A directory
// without one is refused: a server that is started on it would make an empty one.
func embeddedStore(data string) (string, error) {
	for _, dir := range []string{filepath.Join(data, "nats"), data} {
		switch _, err := os.Stat(filepath.Join(dir, "jetstream")); {
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	return "", fmt.Errorf("there is no embedded store in %s: name the data directory that the Tollgate had", data)
}
