package main

import (
	"slices"

	"github.com/spf13/cobra"

	"tollgate/authz/manage"
)

func newConsumer() *cobra.Command {
	s := &server{}
	return s.flags(group("consumer", "Let programs outside read usage events from NATS",
		newConsumerCreate(s), newConsumerList(s), newConsumerDelete(s)))
}

func newConsumerCreate(s *server) *cobra.Command {
	var workspace string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a credential that reads usage events and nothing else; it is shown this once", Args: takes("NAME"),
		Long: `Makes a credential and a durable pull consumer for it. With the embedded NATS, Tollgate must have been
started with --nats-listen. With a NATS of yours the credential is an nkey seed, and the servers let it in once the
account that is printed is in their configuration.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			made, err := c.CreateConsumer(cmd.Context(), manage.ConsumerRequest{Name: args[0], Workspace: given(workspace)})
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(made.Raw)
			}
			return printCredential(p, &made.Value)
		},
	}
	cmd.Flags().StringVar(&workspace, "workspace", "", "only this workspace's events")
	return cmd
}

func printCredential(p *printer, v *manage.Credential) error {
	secret := [][]string{{"user", v.User}, {"password", v.Password}}
	if v.Seed != "" {
		secret = [][]string{{"seed", v.Seed}}
	}
	rows := slices.Concat([][]string{{"url", v.URL}}, secret,
		[][]string{{"stream", v.Stream}, {"durable", v.Durable}, {"subjects", words(v.Subjects, "-")}})
	if err := p.table(rows...); err != nil {
		return err
	}
	if v.Seed != "" {
		if err := p.linef("\n%s", v.ServerConfig); err != nil {
			return err
		}
		p.advisef("Keep the seed now: it is not shown again. Put the account above beside the account TOLLGATE in the configuration of every\nnats-server and reload each twice: at the first time it learns of the account, at the second of what it may use.\nThen bind a pull subscription to the durable and acknowledge each event.")
		return nil
	}
	p.advisef("Keep the password now: it is not shown again. Bind a pull subscription to the durable and acknowledge each event.")
	return nil
}

func newConsumerList(s *server) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the consumers", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			list, err := c.ListConsumers(cmd.Context())
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(list.Raw)
			}
			rows := [][]string{{"NAME", "WORKSPACE", "CREATED"}}
			for _, v := range list.Value {
				workspace := "all"
				if v.Workspace != nil {
					workspace = *v.Workspace
				}
				rows = append(rows, []string{v.Name, workspace, when(&v.CreatedAt, "-")})
			}
			return p.list("There are no consumers. To make one: tollgate consumer create NAME", rows)
		},
	}
}

func newConsumerDelete(s *server) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Take a consumer's credential away; what it had read is forgotten", Args: takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			if err := c.DeleteConsumer(cmd.Context(), args[0]); err != nil {
				return err
			}
			if p.json {
				return nil // the API's answer is empty
			}
			return p.linef("Deleted %s.", args[0])
		},
	}
}
