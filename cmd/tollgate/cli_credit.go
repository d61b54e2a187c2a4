package main

import (
	"github.com/spf13/cobra"

	"tollgate/authz/manage"
)

func newWorkspaceCredit(s *server) *cobra.Command {
	var amount, note, once string
	cmd := &cobra.Command{
		Use: "credit ID", Short: "Grant prepaid credit to a workspace, or correct what was granted", Args: takes("ID"),
		Long: "Grants prepaid credit to a workspace. From its first grant on, a workspace spends no more than it was granted.\n" +
			"A negative amount takes something back.",
		Example: "  tollgate workspace credit acme --amount 25.00 --note 'invoice 2026-117'\n" +
			"  tollgate workspace credit acme --amount=-5.00 --note 'granted twice'",
		RunE: func(cmd *cobra.Command, args []string) error {
			if amount == "" {
				return usage(cmd, "--amount is missing: USD, such as 25.00")
			}
			c, p, err := s.client(cmd)
			if err != nil {
				return err
			}
			g, err := c.GrantCredit(cmd.Context(), args[0], manage.CreditRequest{Amount: amount, Note: given(note), IdempotencyKey: once})
			if err != nil {
				return withID(err)
			}
			p.reach(g.Reach)
			if p.json {
				return p.raw(g.Raw)
			}
			return p.table(
				[]string{"workspace", g.Value.Workspace},
				[]string{"amount", g.Value.Amount},
				[]string{"credit", credit(&g.Value.Credit)},
				[]string{"grant", g.Value.ID},
			)
		},
	}
	f := cmd.Flags()
	f.StringVar(&amount, "amount", "", "USD, such as 25.00; negative to take something back")
	f.StringVar(&note, "note", "", "what it is for; it stands in the audit trail")
	f.StringVar(&once, "idempotency-key", "", "a word for this grant; a second one with it grants nothing")
	return cmd
}

// credit says where prepaid credit stands.
func credit(c *manage.Credit) string {
	if c == nil {
		return "-"
	}
	return c.Granted + " granted" + spent(c.Spent, c.Reserved, c.Remaining)
}

// budgetLine says where a budget stands.
func budgetLine(b *manage.BudgetState) string {
	if b == nil {
		return "-"
	}
	line := b.Amount + "/" + b.Period + spent(b.Spent, b.Reserved, b.Remaining)
	if b.ResetsAt != nil {
		line += ", resets " + when(b.ResetsAt, "")
	}
	return line
}

// spent says what is spent, reserved and left.
func spent(spent, reserved, remaining *string) string {
	if spent == nil {
		return ""
	}
	line := ", " + *spent + " spent"
	if *reserved != "0" {
		line += ", " + *reserved + " reserved"
	}
	return line + ", " + *remaining + " left"
}

// budgets are the lines that an explanation has of budgets.
func (p *printer) budgets(all []manage.BudgetOf) error {
	if len(all) == 0 {
		return nil
	}
	rows := [][]string{{"BUDGET OF", "USD", "SPENT", "RESERVED", "REMAINING", "RESETS"}}
	for i := range all {
		b := &all[i].BudgetState
		of := all[i].Of
		amount := b.Amount + "/" + b.Period
		if of == "credit" {
			of, amount = "workspace", b.Amount+" credit"
		}
		rows = append(rows, []string{of, amount, text(b.Spent), text(b.Reserved), text(b.Remaining), when(b.ResetsAt, "-")})
	}
	if err := p.linef(""); err != nil {
		return err
	}
	return p.table(rows...)
}
