package manage

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
	"tollgate/authz/money"
)

// CreditRequest is the body of a grant of prepaid credit.
type CreditRequest struct {
	Amount string  `json:"amount" doc:"USD, a decimal such as \"25.00\"; a negative one corrects"`
	Note   *string `json:"note,omitzero" doc:"What it is for, 1 to 256 bytes; it stands in the audit trail"`

	// IdempotencyKey is the header of that name.
	IdempotencyKey string `json:"-"`
}

// Grant is the answer to a CreditRequest.
type Grant struct {
	ID        string  `json:"id" doc:"Of the grant, by which the audit trail has it"`
	Workspace string  `json:"workspace"`
	Amount    string  `json:"amount"`
	Note      *string `json:"note"`
	Credit    Credit  `json:"credit" doc:"The workspace's, with the grant"`
}

// creditNote is what the audit trail says of a grant.
type creditNote struct {
	Granted *string `json:"granted"` // all in all; nil: the workspace was not prepaid
	Grant   string  `json:"grant,omitzero"`
	Amount  string  `json:"amount,omitzero"`
	Note    string  `json:"note,omitzero"`
}

func (a *api) creditRoutes() {
	handle(a, route{
		method: http.MethodPost, path: workspacesPath + "/{id}/credits", who: operatorOnly, status: http.StatusCreated, once: true, matches: true,
		summary: "Grants prepaid credit to a workspace, or corrects what was granted. From its first grant on a workspace spends no more than it was granted",
		example: map[string]string{"amount": "25.00", "note": "invoice 2026-117"},
	}, a.grantCredit)
}

func (a *api) grantCredit(ctx context.Context, c *call, req CreditRequest) (Grant, error) {
	amount, err := req.read()
	if err != nil {
		return Grant{}, err
	}
	workspace := c.r.PathValue("id")
	if a.Tables().Workspaces[workspace] == nil {
		return Grant{}, errNoWorkspace
	}
	g := Grant{Workspace: workspace, Amount: amount.String(), Note: req.Note}
	var replay bool
	if g.ID, replay, err = a.once(ctx, c, "credit of "+workspace, newID(a.Now())); err != nil {
		return Grant{}, err
	}
	named := replay || c.r.Header.Get(idempotencyKey) != ""
	err = a.changeCatalog(ctx, c, func(doc *catalog.Catalog) error {
		i := findWorkspace(doc, workspace)
		if i < 0 {
			return errNoWorkspace
		}
		was := doc.Workspaces[i].Credit
		next, err := a.granted(was, workspace, g.ID, amount, named)
		if err != nil {
			return err
		}
		before := creditNote{}
		if was != nil {
			before.Granted = &was.Granted
		}
		c.was("workspace", workspace, workspace, before)
		c.is("workspace", workspace, workspace, creditNote{&next.Granted, g.ID, g.Amount, given(req.Note)})
		doc.Workspaces[i].Credit = next
		return a.checked(doc, "workspaces", i)
	})
	if err != nil {
		return Grant{}, err
	}
	a.Logger.Info("credit granted", "workspace", workspace, "amount", g.Amount, "grant", g.ID, "by", c.who.name())
	w := a.Tables().Workspaces[workspace]
	if w == nil || w.Credit == nil { // somebody removed it meanwhile
		return Grant{}, errNoWorkspace
	}
	g.Credit = *a.fillIn(viewWorkspace(w), w).Credit
	return g, nil
}

// read checks a request and returns its amount.
func (r *CreditRequest) read() (money.Amount, error) {
	if r.Amount == "" {
		return money.Amount{}, invalid("amount", `is missing; USD as a string, such as "25.00"`)
	}
	amount, err := money.Parse(r.Amount)
	if err != nil {
		return money.Amount{}, invalid("amount", `want a decimal in USD, such as "25.00", or "-5.00" to take something back`)
	}
	if err = catalog.CheckAmount(strings.TrimPrefix(r.Amount, "-")); err != nil {
		return money.Amount{}, invalid("amount", "%v", err)
	}
	if amount.IsZero() {
		return money.Amount{}, invalid("amount", "must not be 0; a negative amount takes something back")
	}
	if note := r.Note; note != nil {
		if len(*note) == 0 || len(*note) > maxText || strings.ContainsFunc(*note, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return money.Amount{}, invalid("note", "must have 1 to %d bytes and no control characters", maxText)
		}
	}
	return amount, nil
}

// granted is a workspace's credit after a grant. named says that the grant's id may
// be one of before, so that it must not be made if it was.
func (a *api) granted(was *catalog.CreditSpec, workspace, id string, amount money.Amount, named bool) (*catalog.CreditSpec, error) {
	next := catalog.CreditSpec{Granted: "0"}
	if was == nil {
		spent, ok := a.Budgets.SpentEver(workspace)
		if !ok {
			return nil, fmt.Errorf("%w: what workspace %s has spent before is not known yet", key.ErrUnavailable, workspace)
		}
		if spent.Sign() > 0 {
			next.Before = spent.String()
		}
	} else {
		next = *was
		if err := madeBefore(was, id, named); err != nil {
			return nil, err
		}
	}
	sum, err := money.Parse(next.Granted)
	if err != nil {
		return nil, err
	}
	if sum = sum.Add(amount); sum.Sign() < 0 {
		return nil, invalid("amount", "takes back more than the %s USD that workspace %s was granted", next.Granted, workspace)
	}
	next.Granted = sum.String()
	// Ids sort by the time of their making, so the newest are the last.
	next.Grants = append(slices.Clone(next.Grants), id)
	slices.Sort(next.Grants)
	if n := len(next.Grants); n > catalog.MaxGrants {
		next.Grants = next.Grants[n-catalog.MaxGrants:]
	}
	return &next, nil
}

// madeBefore refuses a grant that was made, or of which that can't be told any more:
// to grant it twice is worse than to ask a person.
func madeBefore(was *catalog.CreditSpec, id string, named bool) error {
	var e *Error
	switch {
	case slices.Contains(was.Grants, id):
		e = refuse(http.StatusConflict, "This request came before and made the grant whose id is told here")
	case named && len(was.Grants) == catalog.MaxGrants && id < was.Grants[0]:
		e = refuse(http.StatusConflict, "This request came before, and newer grants were made since: look into the audit trail whether the grant whose id is told here was made; if not, send it with another Idempotency-Key")
	default:
		return nil
	}
	e.ID = id
	return e
}

// withCredit are the workspaces of a text with the credit that the stored ones have,
// whatever the text says of it: it was granted by command.
func withCredit(stored, written []catalog.WorkspaceSpec) []catalog.WorkspaceSpec {
	was := make(map[string]*catalog.CreditSpec, len(stored))
	for i := range stored {
		was[stored[i].ID] = stored[i].Credit
	}
	out := slices.Clone(written)
	for i := range out {
		out[i].Credit = was[out[i].ID]
	}
	return out
}
