package manage

import (
	"time"

	"tollgate/authz"
	"tollgate/authz/catalog"
	"tollgate/authz/key"
	"tollgate/authz/money"
)

// Budgets tells where budgets and credit stand: authz.Budgets does. ok is false
// where that is not known. It must not block.
type Budgets interface {
	OfWorkspace(now time.Time, w *catalog.Workspace) (_ []authz.BudgetStanding, ok bool)
	OfKey(now time.Time, r *key.Record) (_ []authz.BudgetStanding, ok bool)
	// SpentEver is what requests of a workspace cost that have ended.
	SpentEver(workspace string) (_ money.Amount, ok bool)
}

// BudgetState is where a budget stands, in USD. What isn't known yet is null.
type BudgetState struct {
	Period    string  `json:"period" enum:"day,month,total" doc:"Of UTC"`
	Amount    string  `json:"amount"`
	Spent     *string `json:"spent" doc:"In the period, by requests that have ended"`
	Reserved  *string `json:"reserved" doc:"Estimated for requests that are open on the replica that answers"`
	Remaining *string `json:"remaining"`
	ResetsAt  *Time   `json:"resetsAt" doc:"When the next period begins; null: never"`
}

// Credit is where a workspace's prepaid credit stands, in USD. What isn't known yet
// is null.
type Credit struct {
	Granted   string  `json:"granted" doc:"All grants and corrections together"`
	Spent     *string `json:"spent" doc:"Since the first grant, by requests that have ended"`
	Reserved  *string `json:"reserved" doc:"Estimated for requests that are open on the replica that answers"`
	Remaining *string `json:"remaining"`
}

// BudgetOf is a budget of a request and whose it is. The period of credit is total.
type BudgetOf struct {
	Of string `json:"of" enum:"key,workspace,credit" doc:"Credit is the workspace's, too"`
	BudgetState
}

func viewBudget(s *authz.BudgetStanding) BudgetState {
	v := BudgetState{
		Period: string(s.Period), Amount: s.Amount.String(), Spent: new(s.Spent.String()), Reserved: new(s.Reserved.String()),
		Remaining: new(s.Remaining().String()),
	}
	if !s.Resets.IsZero() {
		v.ResetsAt = new(Time(s.Resets))
	}
	return v
}

func viewBudgets(all []authz.BudgetStanding) []BudgetOf {
	views := make([]BudgetOf, len(all))
	for i := range all {
		views[i] = BudgetOf{all[i].Kind.String(), viewBudget(&all[i])}
	}
	return views
}

// fillIn puts in what has been spent.
func (a *api) fillIn(v Workspace, w *catalog.Workspace) Workspace {
	if a.Budgets == nil {
		return v
	}
	all, _ := a.Budgets.OfWorkspace(a.Now(), w)
	for i := range all {
		switch b := viewBudget(&all[i]); all[i].Kind {
		case authz.Credit:
			v.Credit = &Credit{Granted: b.Amount, Spent: b.Spent, Reserved: b.Reserved, Remaining: b.Remaining}
		default:
			v.Budget = &b
		}
	}
	return v
}

// keyBudget is where a key's own budget stands; nil: it has none.
func (a *api) keyBudget(rec *key.Record) *BudgetState {
	if rec.Budget == nil {
		return nil
	}
	if a.Budgets != nil {
		if all, ok := a.Budgets.OfKey(a.Now(), rec); ok && len(all) > 0 {
			return new(viewBudget(&all[0]))
		}
	}
	return &BudgetState{Period: rec.Budget.Period, Amount: rec.Budget.Amount}
}

// staticBudget and staticCredit are what of them stands in the catalog.
func staticBudget(w *catalog.Workspace) *BudgetState {
	b := w.Plan.Budget
	if b == nil {
		return nil
	}
	return &BudgetState{Period: string(b.Period), Amount: b.Amount.String()}
}

func staticCredit(w *catalog.Workspace) *Credit {
	if w.Credit == nil {
		return nil
	}
	return &Credit{Granted: w.Credit.Granted.String()}
}
