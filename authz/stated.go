package authz

import (
	"tollgate/authz/dialect"
	"tollgate/authz/money"
)

// state takes in the tokens that an answer told in members of its path's own, where
// it stated none in the common way. An answer that broke off may have told what went in
// and not yet what came out.
func (o *Observation) state(p *dialect.Path) {
	if o.Reported || p == nil || p.Stated == nil {
		return
	}
	input, hasInput := o.count(p.Stated.Input)
	output, hasOutput := o.count(p.Stated.Output)
	if hasInput || hasOutput {
		o.Tokens = Tokens{Input: input, Output: output}
		o.Reported = hasOutput || o.Complete || len(p.Stated.Output) == 0
		o.Partly = !o.Reported
	}
}

// count is the first of some members that the answer told as a number of tokens.
func (o *Observation) count(members []string) (int64, bool) {
	for _, m := range members {
		n, err := money.Parse(o.told(m))
		if err != nil || n.Sign() < 0 {
			continue
		}
		if tokens, ok := n.Scaled(0); ok && tokens <= maxQuantity {
			return tokens, true
		}
	}
	return 0, false
}
