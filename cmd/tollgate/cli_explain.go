package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tollgate/authz/manage"
)

func newExplain() *cobra.Command {
	s := &server{}
	var workspace, model, path, method, dialect string
	var maxTokens int64
	cmd := &cobra.Command{
		Use: "explain KEY_ID", Short: "Say whether a request with a key would pass now, and what remains of its limits", Args: takes("KEY_ID"),
		Long: "Says whether a request with a key would pass now, why not, what remains of its limits and when they reset.\n" +
			"It asks the code that decides about requests, and uses nothing up. What could not be asked ends it with an error; a refusal does not.\n" +
			"The request that it asks about has an empty prompt: a long one may meet a limit or budget that this one does not.",
		Example: "  tollgate explain KEY_ID --model meta-llama/Llama-3.1-8B-Instruct",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			req := manage.ExplainRequest{
				KeyID: &args[0], Workspace: given(workspace), Model: given(model), Path: given(path), Method: given(method), Dialect: given(dialect),
			}
			if cmd.Flags().Changed("max-tokens") {
				req.MaxTokens = &maxTokens
			}
			e, err := c.Explain(cmd.Context(), req)
			if err != nil {
				return err
			}
			if p.json {
				return p.raw(e.Raw)
			}
			return p.explained(&e.Value)
		},
	}
	f := cmd.Flags()
	f.StringVar(&workspace, "workspace", "", "whose key it is; where there is one workspace it is the default")
	f.StringVar(&model, "model", "", "the model that the request names")
	f.StringVar(&path, "path", "", "the request's path; without it, the first one that fits")
	f.StringVar(&method, "method", "", "the request's method; without it, the path's")
	f.StringVar(&dialect, "dialect", "", "without --path: which dialect is meant")
	f.Int64Var(&maxTokens, "max-tokens", 0, "the most tokens of the answer that the request asks for; without it, what the model's answers usually have")
	return s.flags(cmd)
}

func (p *printer) explained(e *manage.Explained) error {
	verdict := "allow"
	if !e.Allowed {
		verdict = "deny"
	}
	rows := [][]string{{"decision", verdict}}
	add := func(name string, value *string) {
		if value != nil {
			rows = append(rows, []string{name, *value})
		}
	}
	add("reason", e.Reason)
	add("because", e.Message)
	if e.Status != nil {
		rows = append(rows, []string{"status", strconv.FormatInt(*e.Status, 10)})
	}
	if e.RetryAt != nil {
		rows = append(rows, []string{"could pass at", when(e.RetryAt, "-")})
	}
	add("observed", e.Observed)
	if request := strings.TrimSpace(e.Method + " " + e.Path); request != "" {
		rows = append(rows, []string{"request", request})
	}
	for _, field := range []struct {
		name  string
		value *string
	}{
		{"dialect", e.Dialect},
		{"model", e.Model},
		{"key", e.KeyID},
		{"workspace", e.Workspace},
		{"user", e.User},
		{"plan", e.Plan},
	} {
		add(field.name, field.value)
	}
	if err := p.table(rows...); err != nil {
		return err
	}
	if err := p.limits(e.Limits); err != nil {
		return err
	}
	return p.budgets(e.Budgets)
}

// limits are the lines that an explanation has of limits.
func (p *printer) limits(all []manage.Standing) error {
	if len(all) == 0 {
		return nil
	}
	if err := p.linef(""); err != nil {
		return err
	}
	rows := [][]string{{"LIMIT OF", "WHAT", "LIMIT", "REMAINING", "RESETS"}}
	for _, s := range all {
		scope := s.Scope
		if s.Models != nil {
			scope += " " + *s.Models
		}
		for _, l := range []struct {
			what string
			left *manage.Left
		}{{"requests a minute", s.Requests}, {"tokens a minute", s.Tokens}, {"requests at a time", s.Concurrent}} {
			if l.left != nil {
				rows = append(rows, []string{scope, l.what, strconv.FormatInt(l.left.Limit, 10),
					strconv.FormatInt(l.left.Remaining, 10), when(l.left.ResetsAt, "-")})
			}
		}
	}
	return p.table(rows...)
}
