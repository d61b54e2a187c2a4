package main

import (
	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

func newCatalog() *cobra.Command {
	s := &server{}
	cmd := &cobra.Command{
		Use: "catalog", Short: "Print the catalog in force", Args: takes(),
		Long: "Prints the catalog in force as YAML, with what commands have made and set: its plans, models, routes, workspaces and users.\n" +
			"Credentials are not in it, only where they are read from. With -o json what the API answers.",
		Example: "  tollgate catalog",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			doc, err := c.Catalog(cmd.Context())
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(doc.Raw)
			}
			text, err := yaml.JSONToYAML(doc.Raw)
			if err != nil {
				return err
			}
			return p.raw(text)
		},
	}
	return s.flags(cmd)
}
