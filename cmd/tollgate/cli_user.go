package main

import (
	"net/url"

	"github.com/spf13/cobra"

	"tollgate/authz/catalog"
	"tollgate/authz/manage"
)

// userCommand is what all commands on users share.
type userCommand struct {
	server
	workspace string
}

func newUser() *cobra.Command {
	u := &userCommand{}
	cmd := u.flags(group("user", "Make, list, change, suspend and delete the users of a workspace",
		newUserCreate(u), newUserList(u), newUserShow(u), newUserUpdate(u),
		newUserSuspend(u, "suspend ID", "Refuse everything that is done with the user's personal keys", true),
		newUserSuspend(u, "resume ID", "Take a suspension back", false),
		newUserDelete(u)))
	cmd.PersistentFlags().StringVar(&u.workspace, "workspace", "", "whose users; where there is one workspace it is the default")
	return cmd
}

// userFlags are the fields of a user as flags.
type userFlags struct {
	role, externalID string
	labels           []string
}

func (u *userFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&u.role, "role", "", "admin: manages the workspace's keys and users; member: keys of their own")
	f.StringVar(&u.externalID, "external-id", "", "an id of yours; or none")
	f.StringSliceVar(&u.labels, "labels", nil, "name=value, with commas between them, copied into usage events; name= removes one")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"admin", "member"}, cobra.ShellCompDirectiveNoFileComp))
}

func (u *userFlags) read(cmd *cobra.Command) (f manage.UserFields, err error) {
	set := cmd.Flags().Changed
	if set("role") {
		f.Role = manage.To(catalog.Role(u.role))
	}
	if set("external-id") {
		f.ExternalID = orRemove(u.externalID)
	}
	if set("labels") {
		f.Labels, err = labels(cmd, u.labels)
	}
	return f, err
}

func newUserCreate(u *userCommand) *cobra.Command {
	var fields userFlags
	cmd := &cobra.Command{
		Use: "create ID", Short: "Make a user", Args: takes("ID"),
		Example: "  tollgate user create ada@example.com --role admin",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := u.client(cmd)
			if err != nil {
				return err
			}
			req := manage.UserRequest{ID: args[0], Workspace: given(u.workspace)}
			if req.UserFields, err = fields.read(cmd); err != nil {
				return err
			}
			made, err := c.CreateUser(cmd.Context(), req)
			if err != nil {
				return err
			}
			return p.user(made)
		},
	}
	fields.add(cmd)
	return cmd
}

func newUserList(u *userCommand) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the users of a workspace", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := u.client(cmd)
			if err != nil {
				return err
			}
			query := url.Values{}
			if u.workspace != "" {
				query.Set("workspace", u.workspace)
			}
			all, err := readPages(cmd.Context(), query, c.ListUsers)
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(all.join())
			}
			rows := [][]string{{"ID", "WORKSPACE", "ROLE", "STATE", "EXTERNAL ID", "LABELS", "MADE BY"}}
			for _, v := range all.items {
				rows = append(rows, []string{v.ID, v.Workspace, string(v.Role), stateOf(v.Suspended), text(v.ExternalID), pairs(v.Labels), madeBy(v.Managed)})
			}
			return p.list("There are no users. To make one: tollgate user create ID", rows)
		},
	}
}

func newUserShow(u *userCommand) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a user", Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := u.client(cmd)
			if err != nil {
				return err
			}
			v, err := c.User(cmd.Context(), u.workspace, args[0])
			if err != nil {
				return err
			}
			return p.user(v)
		},
	}
}

func newUserUpdate(u *userCommand) *cobra.Command {
	var fields userFlags
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a user; what isn't named stays, none removes", Args: takes("ID"),
		Long:    "Changes a user. What is set here stays over an apply, unless that prunes.",
		Example: "  tollgate user update ada@example.com --role member",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := u.client(cmd)
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
			v, err := c.UpdateUser(cmd.Context(), u.workspace, args[0], change)
			if err != nil {
				return err
			}
			return p.user(v)
		},
	}
	fields.add(cmd)
	return cmd
}

func newUserSuspend(u *userCommand, use, short string, suspend bool) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := u.client(cmd)
			if err != nil {
				return err
			}
			v, err := c.SuspendUser(cmd.Context(), u.workspace, args[0], suspend)
			if err != nil {
				return err
			}
			return p.suspension(v.Reach, v.Raw, v.Value.ID, v.Value.Suspended)
		},
	}
}

func newUserDelete(u *userCommand) *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Delete a user; their personal keys open nothing any more, for good", Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := u.client(cmd)
			if err != nil {
				return err
			}
			reach, err := c.DeleteUser(cmd.Context(), u.workspace, args[0])
			if err != nil {
				return err
			}
			return p.deleted(reach, args[0])
		},
	}
}

// user writes all of a user, a line each.
func (p *printer) user(a manage.Answer[manage.User]) error {
	p.reach(a.Reach)
	if p.json {
		return p.raw(a.Raw)
	}
	v := a.Value
	return p.table(
		[]string{"id", v.ID},
		[]string{"workspace", v.Workspace},
		[]string{"role", string(v.Role)},
		[]string{"state", stateOf(v.Suspended)},
		[]string{"external id", text(v.ExternalID)},
		[]string{"labels", pairs(v.Labels)},
		[]string{"made by", madeBy(v.Managed)},
	)
}
