package authz

import (
	"fmt"
	"time"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
	"tollgate/authz/money"
)

// BudgetKind is what a Budget comes from.
type BudgetKind uint8

// The kinds, in the order in which they are looked at.
const (
	KeyBudget  BudgetKind = iota // the key's own
	PlanBudget                   // of the workspace, by its plan
	Credit                       // of the workspace, prepaid
	budgetKinds
)

// String is the kind's name for people: "key", "workspace", "credit".
func (k BudgetKind) String() string {
	return [...]string{KeyBudget: "key", PlanBudget: "workspace", Credit: "credit"}[k]
}

// Budget is one bound on what an account may spend.
type Budget struct {
	Kind BudgetKind
	// Workspace and Key are the account: Key "" is all of the workspace.
	Workspace, Key string
	Period         catalog.Period // of Credit Total
	Amount         money.Amount   // USD
	// Before is what was spent in the period and does not count: of Credit, what
	// was spent before there was any.
	Before money.Amount
}

// BudgetStanding is where a budget stands.
type BudgetStanding struct {
	Budget
	// Spent is what requests cost that have ended, Reserved the estimates of those
	// that are open on this replica.
	Spent, Reserved money.Amount
	// Resets is when the next period begins; zero: never.
	Resets time.Time
}

// Remaining is what is left for requests that begin now; never below 0.
func (s *BudgetStanding) Remaining() money.Amount {
	left := s.Amount.Sub(s.Spent).Sub(s.Reserved)
	if left.Sign() < 0 {
		return money.Amount{}
	}
	return left
}

// appendBudgets appends the budgets that a key and a workspace have; each may be
// nil. The error is about a key's budget that can't be read.
func appendBudgets(all []Budget, w *catalog.Workspace, r *key.Record) ([]Budget, error) {
	if r != nil && r.Budget != nil && r.ID != "" {
		amount, err := money.Parse(r.Budget.Amount)
		if err != nil {
			return all, fmt.Errorf("the budget of key %s: %w", r.ID, err)
		}
		all = append(all, Budget{
			Kind: KeyBudget, Workspace: r.Workspace, Key: r.ID, Period: catalog.Period(r.Budget.Period), Amount: amount,
		})
	}
	if w == nil {
		return all, nil
	}
	if b := w.Plan.Budget; b != nil {
		all = append(all, Budget{Kind: PlanBudget, Workspace: w.ID, Period: b.Period, Amount: b.Amount})
	}
	if c := w.Credit; c != nil {
		all = append(all, Budget{Kind: Credit, Workspace: w.ID, Period: catalog.Total, Amount: c.Granted, Before: c.Before})
	}
	return all, nil
}

// priced reports whether an admission may cost anything. Whether it does may not
// be known before it ends.
func (a *Admission) priced() bool {
	if a.Multiplier.IsZero() {
		return false
	}
	for i := range a.Rates {
		if a.Rates[i].Price.Sign() > 0 {
			return true
		}
	}
	return false
}
