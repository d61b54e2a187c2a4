package authz

import (
	"cmp"
	"slices"
	"time"

	"tollgate/authz/dialect"
	"tollgate/authz/money"
)

// told is the value of a member that the answer was watched for; "" where it was
// not seen.
func (o *Observation) told(member string) string {
	for i := range o.Told {
		if o.Told[i].Name == member {
			return o.Told[i].Value
		}
	}
	return ""
}

// refused says that the answer calls itself an error, whatever its status.
func (o *Observation) refused(p *dialect.Path) bool {
	if p.Success == nil {
		return false
	}
	said := o.told(p.Success.Member)
	return said != "" && said != p.Success.Value
}

// read takes in what the answer told beside tokens, as its path says, and what the
// usage costs. Outcome, Status, Tokens and Refused are known.
func (u *Usage) read(p *dialect.Path, o *Observation) {
	if p == nil {
		u.price(nil, nil, u.failed(o))
		return
	}
	if p.Creates != nil && u.Succeeded() {
		u.Object = cmp.Or(o.told(p.Creates.Member), o.told(p.Creates.Else))
	}
	var sure, guessed []Quantity
	switch {
	case u.Outcome == NotSent:
	case u.failed(o):
		sure = stated(p, o)
	default:
		sure, guessed = u.Admission.quantities(p, o)
		if p.Free && u.Outcome == Completed && o.Complete && o.tellsUnits(p) {
			u.Measurement = Reported // without tokens there was nothing to estimate
		}
	}
	u.Units = slices.Concat(sure, guessed)
	u.price(sure, guessed, u.failed(o))
}

// failed says that there was no answer but an error, or one that its upstream broke
// off: what is estimated of it is not charged.
func (u *Usage) failed(o *Observation) bool {
	return u.Status >= 400 || u.Outcome == UpstreamError && (u.Refused || !o.outOfTime())
}

// quantities are the units of a request that went to its upstream, whose answer is
// not an error. o is nil where there is no answer yet. What only an answer can
// tell, and doesn't, is guessed where the request says it as well.
func (a *Admission) quantities(p *dialect.Path, o *Observation) (sure, guessed []Quantity) {
	if a.perRequest(p) {
		sure = append(sure, Quantity{"request", 1000})
	}
	for i := range p.Units {
		switch unit := &p.Units[i]; unit.From {
		case dialect.EachRequest:
			sure = append(sure, Quantity{unit.Name, 1000})
		case dialect.EachChoice:
			sure = append(sure, Quantity{unit.Name, 1000 * max(a.Choices, 1)})
		case dialect.InRequest:
			if a.PromptBytes > 0 {
				sure = append(sure, Quantity{unit.Name, 1000 * a.PromptBytes})
			}
		case dialect.OfDuration:
			if o != nil && o.Duration > 0 {
				sure = append(sure, Quantity{unit.Name, int64((o.Duration + time.Millisecond - 1) / time.Millisecond)})
			}
		case dialect.InAnswer:
			if o != nil {
				if q, ok := o.quantity(unit); ok {
					sure = append(sure, q)
					continue
				}
			}
			// A hang-up before the number comes doesn't make the request free.
			switch {
			case unit.Name == "character" && a.PromptBytes > 0:
				guessed = append(guessed, Quantity{unit.Name, 1000 * a.PromptBytes})
			case unit.Name == "request": // at least one
				guessed = append(guessed, Quantity{unit.Name, 1000})
			}
		}
	}
	return sure, guessed
}

// perRequest says that the model has a price for each request, and the path does not
// say by itself what a request is.
func (a *Admission) perRequest(p *dialect.Path) bool {
	return !p.Free && !slices.ContainsFunc(p.Units, func(u dialect.Unit) bool { return u.Name == "request" }) &&
		slices.ContainsFunc(a.Rates, func(r Rate) bool { return r.Unit == "request" })
}

// stated are the units that the answer itself tells.
func stated(p *dialect.Path, o *Observation) (units []Quantity) {
	for i := range p.Units {
		if unit := &p.Units[i]; unit.From == dialect.InAnswer {
			if q, ok := o.quantity(unit); ok {
				units = append(units, q)
			}
		}
	}
	return units
}

// tellsUnits says that the answer states all units that only it can tell.
func (o *Observation) tellsUnits(p *dialect.Path) bool {
	return !slices.ContainsFunc(p.Units, func(u dialect.Unit) bool {
		if u.From != dialect.InAnswer {
			return false
		}
		_, told := o.quantity(&u)
		return !told
	})
}

// maxQuantity bounds what is believed of a number of units: above it lies no
// answer, and sums stay far from overflow.
const maxQuantity = 1 << 50 // thousandths

// quantity is how many units an answer tells, to the nearest thousandth.
func (o *Observation) quantity(unit *dialect.Unit) (Quantity, bool) {
	n, err := money.Parse(o.told(unit.Member))
	if err != nil || n.Sign() < 0 {
		return Quantity{}, false
	}
	// n / Per in thousandths, where Per is a power of ten.
	decimals := 3
	for per := unit.Per; per > 1; per /= 10 {
		decimals--
	}
	milli, ok := n.Scaled(decimals)
	if !ok || milli > maxQuantity {
		return Quantity{}, false
	}
	return Quantity{unit.Name, milli}, true
}
