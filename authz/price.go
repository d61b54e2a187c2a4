package authz

import (
	"tollgate/authz/dialect"
	"tollgate/authz/money"
)

// Currency is that of all amounts.
const Currency = "USD"

// Charge is what a request costs: by the list, and what its workspace is billed.
type Charge struct{ List, Cost money.Amount }

// perToken is what turns a rate, which is for a million tokens, into the price of
// one; perThousandth does so for other units, which are counted in thousandths.
var (
	perToken      = money.New(1, 6)
	perThousandth = money.New(1, 3)
)

// Units of tokens that answers may tell beside Tokens; they are part of these.
const (
	unitAudioInput  = "audioInput"
	unitAudioOutput = "audioOutput"
)

// charge is a list price with the admission's multiplier.
func (a *Admission) charge(list money.Amount) Charge { return Charge{list, list.Mul(a.Multiplier)} }

// rate is the price of a unit, or of the one that it is a kind of; 0 where neither
// has one.
func (a *Admission) rate(unit, kindOf string) money.Amount {
	var price money.Amount
	for i := range a.Rates {
		switch r := &a.Rates[i]; r.Unit {
		case unit:
			return r.Price
		case kindOf:
			price = r.Price
		}
	}
	return price
}

// listOfTokens is the list price of tokens. Each of them costs one rate: the
// cached part its own, the rest that of input, and likewise with reasoning and
// with what of both was sound, for which units has the numbers.
func (a *Admission) listOfTokens(t Tokens, units []Quantity) money.Amount {
	if len(a.Rates) == 0 {
		return money.Amount{}
	}
	var list money.Amount
	input, output := max(t.Input, 0), max(t.Output, 0)
	part := func(of *int64, n int64, unit, kindOf string) {
		n = min(max(n, 0), *of)
		*of -= n
		list = list.Add(a.rate(unit, kindOf).MulInt(n))
	}
	part(&input, t.CacheRead, "cacheReadInput", "input")
	part(&input, t.CacheCreation, "cacheCreationInput", "input")
	part(&output, t.Reasoning, "reasoningOutput", "output")
	for _, q := range units {
		switch q.Unit {
		case unitAudioInput:
			part(&input, q.Milli/1000, q.Unit, "input")
		case unitAudioOutput:
			part(&output, q.Milli/1000, q.Unit, "output")
		}
	}
	part(&input, input, "input", "")
	part(&output, output, "output", "")
	return list.Mul(perToken)
}

// listOfUnits is the list price of what isn't tokens.
func (a *Admission) listOfUnits(units []Quantity) money.Amount {
	var list money.Amount
	for _, q := range units {
		if q.Unit != unitAudioInput && q.Unit != unitAudioOutput {
			list = list.Add(a.rate(q.Unit, "").MulInt(q.Milli))
		}
	}
	return list.Mul(perThousandth)
}

// Estimate is the cost that the reservation stands for, multiplied: its tokens,
// and the units that are known before there is an answer.
func (a *Admission) Estimate() money.Amount { return a.charge(a.estimate()).Cost }

// estimate is the list price of Estimate.
func (a *Admission) estimate() money.Amount {
	if len(a.Rates) == 0 {
		return money.Amount{}
	}
	list := a.listOfTokens(Tokens{Input: a.InputEstimate, Output: a.OutputEstimate}, nil)
	if p := dialect.PathOf(a.Dialect, a.Path); p != nil {
		sure, guessed := a.quantities(p, nil)
		list = list.Add(a.listOfUnits(sure)).Add(a.listOfUnits(guessed))
	}
	return list
}

// price fills in what a usage costs. guessed are units that nobody stated, which
// Units has too. failed is Usage.failed.
func (u *Usage) price(sure, guessed []Quantity, failed bool) {
	a := u.Admission
	if u.Outcome == NotSent || len(a.Rates) == 0 {
		return
	}
	var known, guess money.Amount // list prices
	switch u.Measurement {
	case None:
		guess = a.estimate()
	case Estimated:
		known, guess = a.listOfUnits(sure), a.listOfTokens(u.Tokens, nil)
	case Reported:
		known = a.listOfUnits(sure).Add(a.listOfTokens(u.Tokens, sure))
	}
	guess = guess.Add(a.listOfUnits(guessed))
	u.EstimatedCost = a.charge(known.Add(guess)).Cost
	switch {
	case u.Measurement == None:
		if a.Billing.ChargeUnsettled {
			known = guess
		}
	case u.Outcome == UpstreamError && a.Billing.FreeErrors:
		known = money.Amount{}
	case u.Outcome == UpstreamError && failed:
	case !a.Billing.FreeEstimated:
		known = known.Add(guess)
	}
	u.ListCost, u.Cost = a.charge(known).List, a.charge(known).Cost
	if u.Measurement == Reported && guess.IsZero() {
		u.EstimatedCost = money.Amount{}
	}
}

// Charge is what the usage costs.
func (u *Usage) Charge() Charge { return Charge{u.ListCost, u.Cost} }

// Unsettled is the usage of an admission that nobody will settle any more.
func Unsettled(a *Admission) *Usage {
	u := &Usage{Admission: a, Outcome: Unknown, Measurement: None}
	u.price(nil, nil, false)
	return u
}

// Supersede notes that the request of an unsettled usage has another admission
// that was settled: then this one costs nothing.
func (u *Usage) Supersede() {
	u.Superseded = true
	u.ListCost, u.Cost = money.Amount{}, money.Amount{}
}
