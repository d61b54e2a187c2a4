package main

import (
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

func newKey() *cobra.Command {
	s := &server{}
	var workspace string
	cmd := s.flags(group("key", "Make, list, change and revoke API keys",
		newKeyCreate(s, &workspace), newKeyList(s, &workspace), newKeyShow(s, &workspace),
		newKeyUpdate(s, &workspace), newKeyRevoke(s, &workspace)))
	cmd.PersistentFlags().StringVar(&workspace, "workspace", "", "whose keys; where there is one workspace it is the default")
	return cmd
}

func newKeyCreate(s *server, workspace *string) *cobra.Command {
	var fields keyFlags
	var kind, user string
	cmd := &cobra.Command{
		Use: "create", Short: "Make a key; it is shown this once", Args: takes(),
		Example: "  tollgate key create --name prod\n" +
			"  tollgate key create --name trial --expires-at 30d --requests-per-minute 60 --budget 10.00/month",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			req := manage.KeyRequest{}
			if req.KeyFields, err = fields.read(cmd); err != nil {
				return err
			}
			if kind != "" {
				req.Kind = (*key.Kind)(&kind)
			}
			req.User, req.Workspace = given(user), given(*workspace)
			made, err := c.CreateKey(cmd.Context(), req)
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(made.Raw)
			}
			if err := p.linef("%s", made.Value.Secret); err != nil {
				return err
			}
			p.advisef("Key %s of workspace %s. Keep it now: it is not shown again. To take it back: tollgate key revoke %s",
				made.Value.ID, made.Value.Workspace, made.Value.ID)
			return nil
		},
	}
	fields.add(cmd)
	cmd.Flags().StringVar(&kind, "kind", "", "personal or workspace; without it, --user makes it a personal key")
	cmd.Flags().StringVar(&user, "user", "", "whose personal key it is")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"personal", "workspace"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newKeyList(s *server, workspace *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the keys that are not revoked", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			query := url.Values{}
			if *workspace != "" {
				query.Set("workspace", *workspace)
			}
			all, err := readPages(cmd.Context(), query, c.ListKeys)
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(all.join())
			}
			rows := [][]string{{"ID", "NAME", "PREFIX", "KIND", "CREATED", "LAST USED", "EXPIRES"}}
			for _, k := range all.items {
				rows = append(rows, []string{k.ID, text(k.Name), k.Prefix, string(k.Kind),
					when(&k.CreatedAt, "-"), when(k.LastUsedAt, "never"), when(k.ExpiresAt, "never")})
			}
			return p.table(rows...)
		},
	}
}

func newKeyShow(s *server, workspace *string) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a key", Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			k, err := c.Key(cmd.Context(), *workspace, args[0])
			if err != nil {
				return err
			}
			return p.key(k)
		},
	}
}

func newKeyUpdate(s *server, workspace *string) *cobra.Command {
	var fields keyFlags
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a key; what isn't named stays, none removes", Args: takes("ID"),
		Example: "  tollgate key update ID --tokens-per-minute 20000 --expires-at none",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			change, err := fields.read(cmd)
			if err != nil {
				return err
			}
			k, err := c.UpdateKey(cmd.Context(), *workspace, args[0], change)
			if err != nil {
				return err
			}
			return p.key(k)
		},
	}
	fields.add(cmd)
	return cmd
}

func newKeyRevoke(s *server, workspace *string) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "Revoke a key, at once and for good", Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			if err := c.RevokeKey(cmd.Context(), *workspace, args[0]); err != nil {
				return err
			}
			if p.json {
				return nil // the API's answer is empty
			}
			return p.linef("Revoked %s.", args[0])
		},
	}
}

// key writes all of a key, a line each.
func (p *printer) key(a manage.Answer[manage.Key]) error {
	if p.json {
		return p.raw(a.Raw)
	}
	k := a.Value
	budget := "-"
	if k.Budget != nil {
		budget = k.Budget.Amount + "/" + k.Budget.Period
	}
	labels := make([]string, 0, len(k.Labels))
	for name, value := range k.Labels {
		labels = append(labels, name+"="+value)
	}
	return p.table(
		[]string{"id", k.ID},
		[]string{"name", text(k.Name)},
		[]string{"prefix", k.Prefix},
		[]string{"kind", string(k.Kind)},
		[]string{"workspace", k.Workspace},
		[]string{"user", text(k.User)},
		[]string{"actions", words(k.Actions, "-")},
		[]string{"models", words(k.Models, "all")},
		[]string{"requests per minute", number(k.Limits.RequestsPerMinute)},
		[]string{"tokens per minute", number(k.Limits.TokensPerMinute)},
		[]string{"concurrent requests", number(k.Limits.ConcurrentRequests)},
		[]string{"budget", budget},
		[]string{"environment", text(k.Environment)},
		[]string{"external id", text(k.ExternalID)},
		[]string{"labels", sorted(labels)},
		[]string{"created", when(&k.CreatedAt, "-")},
		[]string{"created by", text(k.CreatedBy)},
		[]string{"last used", when(k.LastUsedAt, "never")},
		[]string{"expires", when(k.ExpiresAt, "never")},
	)
}

// given is nil where a flag wasn't.
func given(s string) *string {
	if s = strings.TrimSpace(s); s == "" {
		return nil
	}
	return &s
}
