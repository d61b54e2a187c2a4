package limit

import (
	"time"

	"tollgate/authz/money"
)

// Spend is what requests cost, or may come to cost, that the totals of usage do
// not have yet: by the day (of UTC) in which they began, so that it can be added to
// what the totals say of any period. The zero Spend is nothing. It is not safe for
// concurrent use.
type Spend struct {
	// days has no order. It is short: a request is open for a day at most, and its
	// event on the way for as long as the stream is away.
	days []daySpend
}

type daySpend struct {
	day      int64 // since 1970
	requests int   // that are in cost; the entry goes with the last of them
	cost     money.Amount
}

func dayOf(t time.Time) int64 { return floorDiv(t.Unix(), 24*60*60) }

func floorDiv(a, b int64) int64 {
	if a < 0 {
		return -((b - 1 - a) / b)
	}
	return a / b
}

// Add takes in a request that began at the time at.
func (s *Spend) Add(at time.Time, cost money.Amount) {
	day := dayOf(at)
	for i := range s.days {
		if d := &s.days[i]; d.day == day {
			d.requests++
			d.cost = d.cost.Add(cost)
			return
		}
	}
	s.days = append(s.days, daySpend{day, 1, cost})
}

// Remove takes out a request that Add took in, with the same time and cost. One
// that is not there changes nothing.
func (s *Spend) Remove(at time.Time, cost money.Amount) {
	day := dayOf(at)
	for i := range s.days {
		d := &s.days[i]
		if d.day != day {
			continue
		}
		d.requests--
		d.cost = d.cost.Sub(cost)
		if d.requests == 0 {
			last := len(s.days) - 1
			s.days[i] = s.days[last]
			s.days = s.days[:last]
		}
		return
	}
}

// Since is the cost of the requests that began on the day of from or later; all of
// it where from is zero.
func (s *Spend) Since(from time.Time) (sum money.Amount) {
	day := dayOf(from)
	for i := range s.days {
		if from.IsZero() || s.days[i].day >= day {
			sum = sum.Add(s.days[i].cost)
		}
	}
	return sum
}

// Empty reports whether no request is in it.
func (s *Spend) Empty() bool { return len(s.days) == 0 }

// Affords reports whether a request that may cost estimate can begin where used is
// spent or reserved of amount. One whose cost can't be told before, so that the
// estimate is 0, can begin for as long as anything is left.
func Affords(amount, used, estimate money.Amount) bool {
	if estimate.Sign() <= 0 {
		return used.Cmp(amount) < 0
	}
	return used.Add(estimate).Cmp(amount) <= 0
}
