package catalog

import (
	"time"

	"tollgate/authz/money"
)

// Budget is what a workspace may spend in a period, in USD.
type Budget struct {
	Period Period
	Amount money.Amount
}

// Credit is what a prepaid workspace was granted, in USD, all grants together.
type Credit struct {
	Granted money.Amount
	// Before is what the workspace had spent, ever, when it got its first grant:
	// that was not prepaid.
	Before money.Amount
}

// Begin is when the period that now is in began, in UTC; zero for Total.
func (p Period) Begin(now time.Time) time.Time {
	now = now.UTC()
	switch p {
	case Day:
		return time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	case Month:
		return time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	}
	return time.Time{}
}

// End is when the next period begins, in UTC; zero for Total, which has none.
func (p Period) End(now time.Time) time.Time {
	switch begin := p.Begin(now); p {
	case Day:
		return begin.AddDate(0, 0, 1)
	case Month:
		return begin.AddDate(0, 1, 0)
	}
	return time.Time{}
}
