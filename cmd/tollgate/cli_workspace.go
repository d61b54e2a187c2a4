package main

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tollgate/authz/key"
	"tollgate/authz/manage"
)

func newWorkspace() *cobra.Command {
	s := &server{}
	return s.flags(group("workspace", "Make, list, change, suspend and delete workspaces, and grant them credit",
		newWorkspaceCreate(s), newWorkspaceList(s), newWorkspaceShow(s), newWorkspaceUpdate(s),
		newWorkspaceSuspend(s, "suspend ID", "Refuse everything that is done with the workspace's keys", true),
		newWorkspaceSuspend(s, "resume ID", "Take a suspension back", false),
		newWorkspaceCredit(s), newWorkspaceDelete(s)))
}

// workspaceFlags are the fields of a workspace as flags.
type workspaceFlags struct {
	plan, keyFormat, multiplier, externalID string
	actions, labels                         []string
}

func (w *workspaceFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.plan, "plan", "", "a plan of the catalog")
	f.StringSliceVar(&w.actions, "key-actions", nil, "what new keys may do unless they are made with something else: infer,wake,manage,metrics; none: infer")
	f.StringVar(&w.keyFormat, "key-format", "", "how new keys look, such as minds_{hex:48}; or none")
	f.StringVar(&w.multiplier, "multiplier", "", "of the list price, such as 0.40; none: the plan's")
	f.StringVar(&w.externalID, "external-id", "", "an id of yours, the subject of usage events; or none")
	f.StringSliceVar(&w.labels, "labels", nil, "name=value, with commas between them, copied into usage events; name= removes one")
	_ = cmd.RegisterFlagCompletionFunc("key-actions", cobra.FixedCompletions([]string{"infer", "wake", "manage", "metrics"}, cobra.ShellCompDirectiveNoFileComp))
}

// read makes a request of the flags that were given. What the API checks is left
// to the API.
func (w *workspaceFlags) read(cmd *cobra.Command) (f manage.WorkspaceFields, err error) {
	set := cmd.Flags().Changed
	if set("plan") {
		f.Plan = manage.To(w.plan)
	}
	if set("key-actions") {
		f.KeyDefaults = manage.Remove[manage.KeyDefaults]()
		if len(w.actions) > 0 && w.actions[0] != none {
			var d manage.KeyDefaults
			for _, a := range w.actions {
				d.Actions = append(d.Actions, key.Action(a))
			}
			f.KeyDefaults = manage.To(d)
		}
	}
	for _, t := range []struct {
		flag, value string
		to          *manage.Change[string]
	}{
		{"key-format", w.keyFormat, &f.KeyFormat},
		{"multiplier", w.multiplier, &f.Multiplier},
		{"external-id", w.externalID, &f.ExternalID},
	} {
		if set(t.flag) {
			*t.to = orRemove(t.value)
		}
	}
	if set("labels") {
		f.Labels, err = labels(cmd, w.labels)
	}
	return f, err
}

func newWorkspaceCreate(s *server) *cobra.Command {
	var fields workspaceFlags
	cmd := &cobra.Command{
		Use: "create ID", Short: "Make a workspace", Args: takes("ID"),
		Example: "  tollgate workspace create acme --plan lite --external-id cus_42",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			req := manage.WorkspaceRequest{ID: args[0]}
			if req.WorkspaceFields, err = fields.read(cmd); err != nil {
				return err
			}
			made, err := c.CreateWorkspace(cmd.Context(), req)
			if err != nil {
				return err
			}
			return p.workspace(made)
		},
	}
	fields.add(cmd)
	return cmd
}

func newWorkspaceList(s *server) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the workspaces", Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			all, err := readPages(cmd.Context(), url.Values{}, c.ListWorkspaces)
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(all.join())
			}
			rows := [][]string{{"ID", "PLAN", "STATE", "EXTERNAL ID", "LABELS", "MADE BY"}}
			for _, w := range all.items {
				rows = append(rows, []string{w.ID, w.Plan, stateOf(w.Suspended), text(w.ExternalID), pairs(w.Labels), madeBy(w.Managed)})
			}
			return p.list("There are no workspaces. To make one: tollgate workspace create ID --plan PLAN", rows)
		},
	}
}

func newWorkspaceShow(s *server) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a workspace", Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			w, err := c.Workspace(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.workspace(w)
		},
	}
}

func newWorkspaceUpdate(s *server) *cobra.Command {
	var fields workspaceFlags
	var resources map[string]int64
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a workspace; what isn't named stays, none removes", Args: takes("ID"),
		Long:    "Changes a workspace. What is set here stays over an apply, unless that prunes.",
		Example: "  tollgate workspace update acme --plan premium --external-id none",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
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
			if len(resources) > 0 {
				change.Resources = manage.To(resources)
			}
			w, err := c.UpdateWorkspace(cmd.Context(), args[0], change)
			if err != nil {
				return err
			}
			return p.workspace(w)
		},
	}
	fields.add(cmd)
	cmd.Flags().StringToInt64Var(&resources, "resource", nil, "minds=2: there are so many of what plans count, whatever was counted")
	return cmd
}

func newWorkspaceSuspend(s *server, use, short string, suspend bool) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			w, err := c.SuspendWorkspace(cmd.Context(), args[0], suspend)
			if err != nil {
				return err
			}
			return p.suspension(w.Reach, w.Raw, w.Value.ID, w.Value.Suspended)
		},
	}
}

func newWorkspaceDelete(s *server) *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Delete a workspace with its users; its keys open nothing any more, for good", Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			reach, err := c.DeleteWorkspace(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return p.deleted(reach, args[0])
		},
	}
}

// workspace writes all of a workspace, a line each.
func (p *printer) workspace(a manage.Answer[manage.Workspace]) error {
	p.reach(a.Reach)
	if p.json {
		return p.raw(a.Raw)
	}
	w := a.Value
	return p.table(
		[]string{"id", w.ID},
		[]string{"plan", w.Plan},
		[]string{"state", stateOf(w.Suspended)},
		[]string{"new keys may", words(w.KeyDefaults.Actions, "-")},
		[]string{"key format", w.KeyFormat},
		[]string{"multiplier", orPlan(w.Multiplier)},
		[]string{"budget", budgetLine(w.Budget)},
		[]string{"credit", credit(w.Credit)},
		[]string{"external id", text(w.ExternalID)},
		[]string{"labels", pairs(w.Labels)},
		[]string{"resources", resourceLine(w.Resources)},
		[]string{"made by", madeBy(w.Managed)},
	)
}

func orPlan(multiplier *string) string {
	if multiplier == nil {
		return "the plan's"
	}
	return *multiplier
}

func stateOf(suspended bool) string {
	if suspended {
		return "suspended"
	}
	return "active"
}

// madeBy says what may change a workspace or a user: a command made it, or an
// apply, after which commands may have set fields.
func madeBy(managed []string) string {
	switch {
	case len(managed) == 0:
		return "apply"
	case managed[0] == "*":
		return "command"
	}
	return "apply; by command: " + words(managed, "")
}

// pairs are labels in the order of their names, or a dash.
func pairs(labels map[string]string) string {
	if len(labels) == 0 {
		return "-"
	}
	list := make([]string, 0, len(labels))
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, name+"="+labels[name])
	}
	return strings.Join(list, ",")
}

// suspension says what a workspace or a user is after it was suspended or resumed.
func (p *printer) suspension(r manage.Reach, raw []byte, id string, suspended bool) error {
	defer p.reach(r)
	if p.json {
		return p.raw(raw)
	}
	return p.linef("%s is %s.", plain(id), stateOf(suspended))
}

// deleted says that a workspace or a user is gone.
func (p *printer) deleted(r manage.Reach, id string) error {
	defer p.reach(r)
	if p.json {
		return nil // the API's answer is empty
	}
	return p.linef("Deleted %s.", id)
}
