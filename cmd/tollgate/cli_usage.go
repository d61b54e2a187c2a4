package main

import (
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"tollgate/authz/manage"
)

func newUsage() *cobra.Command {
	s := &server{}
	var groupBy, since, from, to, key, user, model, workspace string
	cmd := &cobra.Command{
		Use: "usage", Short: "Sum up what was used", Args: takes(),
		Long: "Sums up the requests, tokens and costs of all usage events. Of the tokens in, CACHE READ and CACHE WRITTEN are a part;\n" +
			"of those out, REASONING is. LIST COST is by the models' rates, COST what is billed; both in USD, exact.",
		Example: "  tollgate usage --group-by model --since 7d\n" +
			"  tollgate usage --group-by day,workspace --from 2030-01-01 --to 2030-02-01",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from != "" && cmd.Flags().Changed("since") {
				return usage(cmd, "--since and --from both say where to begin; name one")
			}
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			query := url.Values{}
			for name, value := range map[string]string{
				"groupBy": groupBy, "from": first(from, since), "to": to, "key": key, "user": user, "model": model, "workspace": workspace,
			} {
				if value != "" {
					query.Set(name, value)
				}
			}
			sums, err := c.Usage(cmd.Context(), query)
			if err != nil {
				return err
			}
			switch {
			case sums.Pending == nil:
				p.advisef("Newer events may be stored: the stream of events can't be read at the moment.")
			case *sums.Pending > 0:
				p.advisef("%d stored events are not summed up yet.", *sums.Pending)
			}
			if p.json {
				return p.raw(sums.Raw)
			}
			return p.usage(sums.Value)
		},
	}
	f := cmd.Flags()
	f.StringVar(&groupBy, "group-by", "model", "what rows are told apart by, separated by commas: workspace, key, user, model and one of day, hour, minute; '' for one row")
	f.StringVar(&since, "since", "24h", "how long ago it begins (90m, 24h, 7d), or a day (2030-01-31, UTC) or time; '' for the beginning")
	f.StringVar(&from, "from", "", "instead of --since: a day (2030-01-31, UTC) or a time (2030-01-31T12:00:00Z)")
	f.StringVar(&to, "to", "", "the first moment that doesn't count; without it, now")
	f.StringVar(&key, "key", "", "only the key with this id")
	f.StringVar(&user, "user", "", "only this user's personal keys")
	f.StringVar(&model, "model", "", "only this model")
	f.StringVar(&workspace, "workspace", "", "only this workspace; with --key the default is the only one")
	return s.flags(cmd)
}

// usage prints a table with a column for what the rows were grouped by; the rows
// of an answer all have the same.
func (p *printer) usage(list []manage.UsageRow) error {
	table := make([][]string, len(list)+1)
	for i := range list {
		r := &list[i]
		add := func(head, cell string) {
			if i == 0 {
				table[0] = append(table[0], head)
			}
			table[i+1] = append(table[i+1], cell)
		}
		if r.Start != nil {
			add("START", when(r.Start, "-"))
		}
		for _, name := range []struct {
			head  string
			value *string
		}{{"WORKSPACE", r.Workspace}, {"KEY", r.Key}, {"USER", r.User}, {"MODEL", r.Model}} {
			if name.value != nil {
				add(name.head, text(name.value))
			}
		}
		for _, count := range []struct {
			head string
			n    int64
		}{
			{"REQUESTS", r.Requests},
			{"IN", r.InputTokens},
			{"CACHE READ", r.CacheReadInputTokens},
			{"CACHE WRITTEN", r.CacheCreationInputTokens},
			{"OUT", r.OutputTokens},
			{"REASONING", r.ReasoningOutputTokens},
		} {
			add(count.head, strconv.FormatInt(count.n, 10))
		}
		add("LIST COST", r.ListCost.String())
		add("COST", r.Cost.String())
		if r.Key != nil {
			add("LAST USED", when(r.LastUsedAt, "-"))
		}
	}
	if len(list) == 0 {
		p.advisef("Nothing was used in that time.")
		return nil
	}
	return p.table(table...)
}
