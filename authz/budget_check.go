package authz

import (
	"fmt"

	"tollgate/authz/catalog"
	"tollgate/authz/money"
	"tollgate/authz/reason"
)

// spend reserves what the request may cost, of every budget that it has, or says
// why it can't. What can cost nothing meets no budget. An explanation reserves
// nothing.
func (c *check) spend(a *Admission) bool {
	if !a.priced() {
		return true
	}
	var scratch [budgetKinds]Budget
	budgets, err := appendBudgets(scratch[:0], c.workspace, c.record)
	if err != nil || len(budgets) > 0 && !c.Budgets.Known() {
		return c.refuse(reason.Unavailable)
	}
	if c.Budgets == nil {
		return true
	}
	estimate := a.Estimate()
	met, ok := c.Budgets.admits(c.now, a, estimate, budgets, c.question != nil)
	if !ok {
		c.why.Detail = budgetSentence(&met, estimate)
		return c.refuse(reason.BudgetExceeded)
	}
	a.Held = estimate
	return true
}

// budgetStandings looks at each budget of the key and its workspace.
func (c *check) budgetStandings() []BudgetStanding {
	budgets, err := appendBudgets(nil, c.workspace, c.record)
	if err != nil {
		return nil
	}
	standings, _ := c.Budgets.standings(c.now, budgets)
	return standings
}

// budgetSentence tells a caller which budget it met, and what would help.
func budgetSentence(s *BudgetStanding, estimate money.Amount) string {
	var what, help string
	switch s.Kind {
	case KeyBudget:
		what, help = fmt.Sprintf("The key's budget of %s USD%s", s.Amount, periods[s.Period]), "Raise it"
	case PlanBudget:
		what, help = fmt.Sprintf("The workspace's budget of %s USD%s", s.Amount, periods[s.Period]), "Raise it"
	default:
		what, help = "The workspace's prepaid credit", "Add credit"
	}
	if !s.Resets.IsZero() {
		help += " or wait until " + s.Resets.Format("2006-01-02T15:04:05Z")
	}
	left := s.Remaining()
	if left.IsZero() || estimate.IsZero() {
		return what + " is used up. " + help + "."
	}
	return fmt.Sprintf("%s has %s USD left, and this request may cost %s. %s, or ask for less at once.", what, left, estimate, help)
}

var periods = map[catalog.Period]string{catalog.Day: " a day", catalog.Month: " a month", catalog.Total: " in all"}
