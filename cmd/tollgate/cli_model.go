package main

import (
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func newModel() *cobra.Command {
	s := &server{}
	return s.flags(group("model", "List, deploy and undeploy models",
		newModelList(s),
		newModelDeploy(s, "deploy MODEL", "Let requests through to a model", true),
		newModelDeploy(s, "undeploy MODEL", "Let no more requests through to a model", false)))
}

func newModelList(s *server) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the models", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			all, err := readPages(cmd.Context(), url.Values{}, c.ListModels)
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(all.join())
			}
			rows := [][]string{{"MODEL", "DEPLOYED", "WORKSPACES", "UPSTREAMS"}}
			for _, m := range all.items {
				row := []string{m.ID, "no", "-", "-"}
				if m.Deployed {
					row[1] = "yes"
				}
				if m.OperatorModel != nil {
					row[2] = words(m.Workspaces, "all")
					if len(m.Upstreams) > 0 {
						row[3] = strings.Join(m.Upstreams, ",")
					}
				}
				rows = append(rows, row)
			}
			return p.list("There are no models. They come with a catalog: tollgate apply -f CATALOG", rows)
		},
	}
}

func newModelDeploy(s *server, use, short string, deployed bool) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: takes("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			m, err := c.Deploy(cmd.Context(), args[0], deployed)
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(m.Raw)
			}
			state := "not deployed"
			if m.Value.Deployed {
				state = "deployed"
			}
			return p.linef("%s is %s.", plain(m.Value.ID), state)
		},
	}
}
