package main

import (
	"net/url"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"
)

func newAudit() *cobra.Command {
	s := &server{}
	var workspace, since, until string
	cmd := &cobra.Command{
		Use: "audit", Short: "Print who did what with the management API, and who tried to", Args: takes(),
		Long:    "Prints the audit trail, oldest first. With -o json one CloudEvent a line, with what was changed before and after.",
		Example: "  tollgate audit --since 7d --workspace demo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			query := url.Values{"limit": {"1000"}, "from": {since}}
			if until != "" {
				query.Set("to", until)
			}
			if workspace != "" {
				query.Set("workspace", workspace)
			}
			var table columns
			for query != nil {
				page, err := c.Audit(cmd.Context(), query)
				if err != nil {
					return err
				}
				if err := p.audit(&table, page.Value); err != nil {
					return err
				}
				query = page.Next
			}
			if table == nil && !p.json {
				p.advisef("Nothing was done in that time.")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&workspace, "workspace", "", "only what was done in this workspace")
	f.StringVar(&since, "since", "24h", "a time (2030-01-31T12:00:00Z), a day (2030-01-31, UTC), or how long ago (90m, 24h, 7d)")
	f.StringVar(&until, "until", "", "the same; without it, now")
	return s.flags(cmd)
}

// auditEvent is what of an entry the table shows.
type auditEvent struct {
	Time string `json:"time"`
	Data struct {
		Actor struct {
			Kind, User, Key, Workspace string
		} `json:"actor"`
		Action string `json:"action"`
		Target struct {
			ID, Workspace string
		} `json:"target"`
		Status     int    `json:"status"`
		Remote     string `json:"remote"`
		Suppressed int64  `json:"suppressed"`
	} `json:"data"`
}

// who names the actor as keys' createdBy does.
func (e *auditEvent) who() string {
	switch a := &e.Data.Actor; a.Kind {
	case "user":
		return "user:" + a.User
	case "key":
		return "key:" + a.Key
	default:
		return a.Kind
	}
}

// audit writes a page of the trail; the first one with entries has the head.
func (p *printer) audit(table *columns, list []jsontext.Value) error {
	if p.json {
		return p.lines(list)
	}
	var rows [][]string
	if *table == nil && len(list) > 0 {
		rows = append(rows, []string{"TIME", "WHO", "ACTION", "WORKSPACE", "ON", "STATUS", "FROM"})
	}
	for _, v := range list {
		var e auditEvent
		if err := json.Unmarshal(v, &e, json.MatchCaseInsensitiveNames(true)); err != nil {
			return err
		}
		status := strconv.Itoa(e.Data.Status)
		if n := e.Data.Suppressed; n > 0 {
			status += " (and " + strconv.FormatInt(n, 10) + " like it)"
		}
		rows = append(rows, []string{whenText(e.Time), e.who(), e.Data.Action, first(e.Data.Target.Workspace, "-"), first(e.Data.Target.ID, "-"), status, e.Data.Remote})
	}
	return table.write(p, rows...)
}
