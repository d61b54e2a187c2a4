package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

// keyCommand is what all commands on keys share.
type keyCommand struct {
	server
	workspace string
}

func newKey() *cobra.Command {
	k := &keyCommand{}
	cmd := k.flags(group("key", "Make, list, change, rotate, revoke and import API keys",
		newKeyCreate(k), newKeyList(k), newKeyShow(k), newKeyUpdate(k), newKeyRotate(k), newKeyRevoke(k), newKeyImport(k)))
	cmd.PersistentFlags().StringVar(&k.workspace, "workspace", "", "whose keys; where there is one workspace it is the default")
	return cmd
}

// list reads all keys.
func (k *keyCommand) list(cmd *cobra.Command, c *manage.Client) (*pages[manage.Key], error) {
	query := url.Values{}
	if k.workspace != "" {
		query.Set("workspace", k.workspace)
	}
	return readPages(cmd.Context(), query, c.ListKeys)
}

// completeIDs offers the ids of keys, with their names beside them.
func (k *keyCommand) completeIDs(cmd *cobra.Command, args []string, typed string) (ids []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, _, err := k.client(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	// From where such ids begin on, one page: there may be very many.
	query := url.Values{"limit": {"1000"}, "cursor": {from(typed)}}
	if k.workspace != "" {
		query.Set("workspace", k.workspace)
	}
	page, err := c.ListKeys(cmd.Context(), query)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	for _, one := range page.Value {
		if strings.HasPrefix(one.ID, typed) {
			ids = append(ids, cobra.CompletionWithDesc(one.ID, plain(one.Prefix+" "+text(one.Name))))
		}
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// from is the first id that can begin with what was typed. No key has it but where all
// of an id is typed; what can't begin one is left to the server.
func from(typed string) string {
	const least = "00000000-0000-0000-0000-000000000000"
	return typed + least[min(len(typed), len(least)):]
}

// owner are the flags that say whose a new key is.
type owner struct{ kind, user string }

func (o *owner) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.kind, "kind", "", "personal or workspace; without it, --user makes it a personal key")
	cmd.Flags().StringVar(&o.user, "user", "", "whose personal key it is")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"personal", "workspace"}, cobra.ShellCompDirectiveNoFileComp))
}

// request makes a request of the flags of a new key.
func (k *keyCommand) request(cmd *cobra.Command, o *owner, fields *keyFlags) (req manage.KeyRequest, err error) {
	if req.KeyFields, err = fields.read(cmd); err != nil {
		return req, err
	}
	if o.kind != "" {
		req.Kind = (*key.Kind)(&o.kind)
	}
	req.User, req.Workspace = given(o.user), given(k.workspace)
	return req, nil
}

func newKeyCreate(k *keyCommand) *cobra.Command {
	var fields keyFlags
	var of owner
	var once string
	cmd := &cobra.Command{
		Use: "create", Short: "Make a key; it is shown this once", Args: takes(),
		Example: "  tollgate key create --name prod\n" +
			"  tollgate key create --name trial --expires-at 30d --requests-per-minute 60 --budget 10.00/month",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := k.client(cmd)
			if err != nil {
				return err
			}
			req, err := k.request(cmd, &of, &fields)
			if err != nil {
				return err
			}
			req.IdempotencyKey = once
			made, err := c.CreateKey(cmd.Context(), req)
			if err != nil {
				return withID(err)
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
	of.add(cmd)
	cmd.Flags().StringVar(&once, "idempotency-key", "", "a word for this creation; a second one with it makes nothing")
	return cmd
}

// withID is a refusal that also tells what is there already.
func withID(err error) error {
	if e, ok := errors.AsType[*manage.Error](err); ok && e.ID != "" {
		told := *e
		told.Message += ": " + e.ID
		return &told
	}
	return err
}

func newKeyList(k *keyCommand) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the keys that are not revoked", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := k.client(cmd)
			if err != nil {
				return err
			}
			all, err := k.list(cmd, c)
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(all.join())
			}
			rows := [][]string{{"ID", "NAME", "PREFIX", "KIND", "USER", "ACTIONS", "MODELS", "ENVIRONMENT", "CREATED", "LAST USED", "REQUESTS", "EXPIRES"}}
			for _, one := range all.items {
				rows = append(rows, []string{
					one.ID, text(one.Name), text(&one.Prefix), string(one.Kind), text(one.User), words(one.Actions, "-"), words(one.Models, "all"),
					text(one.Environment), when(&one.CreatedAt, "-"), when(one.LastUsedAt, "never"), number(one.Requests), when(one.ExpiresAt, "never"),
				})
			}
			return p.list("There are no keys. To make one: tollgate key create", rows)
		},
	}
}

func newKeyShow(k *keyCommand) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a key", Args: takes("ID"), ValidArgsFunction: k.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := k.client(cmd)
			if err != nil {
				return err
			}
			one, err := c.Key(cmd.Context(), k.workspace, args[0])
			if err != nil {
				return err
			}
			return p.key(one)
		},
	}
}

func newKeyUpdate(k *keyCommand) *cobra.Command {
	var fields keyFlags
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a key; what isn't named stays, none removes", Args: takes("ID"),
		ValidArgsFunction: k.completeIDs,
		Example:           "  tollgate key update ID --tokens-per-minute 20000 --expires-at none",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := k.client(cmd)
			if err != nil {
				return err
			}
			if err := changes(cmd); err != nil {
				return err
			}
			change, err := fields.read(cmd)
			if err != nil {
				return err
			}
			one, err := c.UpdateKey(cmd.Context(), k.workspace, args[0], change, "")
			if err != nil {
				return err
			}
			p.reach(one.Reach)
			return p.key(one)
		},
	}
	fields.add(cmd)
	return cmd
}

func newKeyRotate(k *keyCommand) *cobra.Command {
	var grace string
	cmd := &cobra.Command{
		Use: "rotate ID", Short: "Give a key another secret; it is shown this once", Args: takes("ID"),
		Long: "Give a key another secret; it is shown this once. The one before it lives on for the grace period,\n" +
			"by default not at all; tollgate key show says when either was used last.",
		Example:           "  tollgate key rotate ID --grace-period 24h",
		ValidArgsFunction: k.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := k.client(cmd)
			if err != nil {
				return err
			}
			d, err := manage.ParseDuration(grace)
			if err != nil || d < 0 {
				return usage(cmd, "--grace-period takes a duration such as 2s, 24h or 7d, not %q", grace)
			}
			made, err := c.RotateKey(cmd.Context(), k.workspace, args[0], d)
			if err != nil {
				return err
			}
			p.reach(made.Reach)
			if p.json {
				return p.raw(made.Raw)
			}
			if err := p.linef("%s", made.Value.Secret); err != nil {
				return err
			}
			p.advisef("Keep it now: it is not shown again.")
			if s := made.Value.Secrets; len(s) > 1 && s[1].RevokedAt == nil {
				p.advisef("The one before, %s…, is refused from %s. To end it now: tollgate key revoke %s --secret %d",
					plain(s[1].Prefix), when(s[1].ExpiresAt, "never"), made.Value.ID, s[1].Number)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&grace, "grace-period", "0s", "for how long the secret before lives on, such as 2s, 24h or 7d; 90d at most")
	return cmd
}

func newKeyRevoke(k *keyCommand) *cobra.Command {
	var secret int
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "Revoke a key, or one secret of it, at once and for good", Args: takes("ID"),
		ValidArgsFunction: k.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := k.client(cmd)
			if err != nil {
				return err
			}
			what := args[0]
			var reach manage.Reach
			if cmd.Flags().Changed("secret") {
				what = fmt.Sprintf("secret %d of %s", secret, what)
				reach, err = c.RevokeSecret(cmd.Context(), k.workspace, args[0], secret)
			} else {
				reach, err = c.RevokeKey(cmd.Context(), k.workspace, args[0])
			}
			if err != nil {
				return err
			}
			defer p.reach(reach)
			if p.json {
				return nil // the API's answer is empty
			}
			return p.linef("Revoked %s.", what)
		},
	}
	cmd.Flags().IntVar(&secret, "secret", 0, "only this one, by the number that key show tells; the key lives on with the other")
	return cmd
}

// reach says where a change is in force.
func (p *printer) reach(r manage.Reach) {
	switch {
	case r.Revision == 0:
	case len(r.Away) > 0:
		p.advisef("In force on %s; not confirmed by %s, certain at %s.", countReplicas(r.Replicas), strings.Join(r.Away, ", "), r.CertainAt.Format("2006-01-02 15:04:05.000Z"))
	case !p.json:
		p.advisef("In force on %s.", countReplicas(r.Replicas))
	}
}

func countReplicas(n int) string {
	if n == 1 {
		return "1 replica"
	}
	return fmt.Sprintf("%d replicas", n)
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
	rows := [][]string{
		{"id", k.ID},
		{"name", text(k.Name)},
		{"prefix", k.Prefix},
		{"kind", string(k.Kind)},
		{"workspace", k.Workspace},
		{"user", text(k.User)},
		{"actions", words(k.Actions, "-")},
		{"models", words(k.Models, "all")},
		{"requests per minute", number(k.Limits.RequestsPerMinute)},
		{"tokens per minute", number(k.Limits.TokensPerMinute)},
		{"concurrent requests", number(k.Limits.ConcurrentRequests)},
		{"budget", budget},
		{"environment", text(k.Environment)},
		{"external id", text(k.ExternalID)},
		{"labels", pairs(k.Labels)},
		{"created", when(&k.CreatedAt, "-")},
		{"created by", text(k.CreatedBy)},
		{"last used", when(k.LastUsedAt, "never")},
		{"expires", when(k.ExpiresAt, "never")},
		{"requests", number(k.Requests)},
	}
	for _, s := range k.Secrets {
		state := "valid as long as the key"
		switch {
		case s.RevokedAt != nil:
			state = "revoked " + when(s.RevokedAt, "")
		case s.ExpiresAt != nil:
			state = "valid until " + when(s.ExpiresAt, "")
		}
		rows = append(rows, []string{
			fmt.Sprintf("secret %d", s.Number),
			fmt.Sprintf("%s, made %s, last used %s, %s", text(&s.Prefix), when(&s.CreatedAt, ""), when(s.LastUsedAt, "never"), state),
		})
	}
	return p.table(rows...)
}

// given is nil where a flag wasn't.
func given(s string) *string {
	if s = strings.TrimSpace(s); s == "" {
		return nil
	}
	return &s
}
