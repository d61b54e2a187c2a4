package main

import (
	"bytes"
	"errors"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tollgate/authz/manage"
)

func newApply() *cobra.Command {
	s := &server{}
	var file string
	var dryRun, prune bool
	cmd := &cobra.Command{
		Use: "apply -f CATALOG", Short: "Put a catalog in force, and show what that changes", Args: takes(),
		Long: "Puts a catalog (YAML or JSON) over the one in force, without a restart, and shows what that changes.\n" +
			"What the file doesn't have stays, unless --prune.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage(cmd, "-f CATALOG is missing")
			}
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			written, err := readFile(cmd, file)
			if err != nil {
				return err
			}
			query := url.Values{"name": {file}}
			if dryRun {
				query.Set("dryRun", "true")
			}
			if prune {
				query.Set("prune", "true")
			}
			applied, err := c.Apply(cmd.Context(), written, query)
			if err != nil {
				return ofFile(file, err)
			}
			if p.json {
				return p.raw(applied.Raw)
			}
			return p.applied(applied.Value)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the catalog; - reads standard input")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove what the file doesn't have")
	return s.flags(cmd)
}

// ofFile says of a file what the API says of its request's body.
func ofFile(name string, err error) error {
	e, ok := errors.AsType[*manage.Error](err)
	if !ok {
		return err
	}
	what, ok := strings.CutPrefix(e.Message, "The body ")
	if !ok {
		return err
	}
	told := *e
	told.Message = name + " " + what
	return &told
}

// readFile reads a file, or standard input for "-".
func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	if name != "-" {
		return os.ReadFile(name)
	}
	var b bytes.Buffer
	_, err := b.ReadFrom(cmd.InOrStdin())
	return b.Bytes(), err
}

func (p *printer) applied(a manage.Applied) error {
	for _, note := range a.Notes {
		p.advisef("Note: %s", plain(note))
	}
	signs := map[string]string{"add": "+", "change": "~", "remove": "-"}
	for _, c := range a.Changes {
		line := signs[c.Action] + " " + c.Kind
		if c.ID != "" {
			line += " " + c.ID
		}
		if len(c.Fields) > 0 {
			line += ": " + strings.Join(c.Fields, ", ")
		}
		if err := p.linef("%s", plain(line)); err != nil {
			return err
		}
	}
	switch {
	case len(a.Changes) == 0:
		return p.linef("Nothing to change.")
	case a.DryRun:
		p.advisef("Nothing was changed. To do it, leave --dry-run out.")
	}
	return nil
}
