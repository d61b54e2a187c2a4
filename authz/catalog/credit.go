package catalog

import (
	"errors"
	"fmt"
	"strings"

	"tollgate/authz/money"
)

// CreditSpec is what a prepaid workspace was granted, as it is stored. Grants are
// made by the management API only: what a text says of them counts for nothing, and
// no apply, pruning or not, takes them away.
type CreditSpec struct {
	// Granted is the sum of all grants, in USD, a decimal. Corrections may be
	// negative, the sum is not.
	Granted string `json:"granted"`
	// Before is what the workspace had spent when the first was made, a decimal;
	// "": 0.
	Before string `json:"before,omitzero"`
	// Grants are the ids of the newest ones, so that none is made twice.
	Grants []string `json:"grants,omitzero"`
}

// MaxGrants is how many ids of grants are kept.
const MaxGrants = 4

// CheckAmount says what is wrong with an amount of USD that a person wrote: not a
// decimal, negative, or of more than 18 digits.
func CheckAmount(text string) error { return checkDecimal(text) }

func (s *source) credit(path string, c *CreditSpec) {
	if c == nil {
		return
	}
	s.required(path+".granted", c.Granted, checkSum)
	s.optional(path+".before", c.Before, checkSum)
	s.atMost(path+".grants", len(c.Grants), MaxGrants)
	for i, id := range c.Grants {
		s.required(fmt.Sprintf("%s.grants[%d]", path, i), id, func(id string) error {
			if !generationPattern.MatchString(id) {
				return errors.New("the id of a grant is 1 to 64 letters, digits and -; Tollgate writes it by itself")
			}
			return nil
		})
	}
}

// checkSum checks an amount that was added up, and so may have more digits than
// one that a person wrote.
func checkSum(text string) error {
	if a, err := money.Parse(text); err != nil || a.Sign() < 0 || strings.HasPrefix(text, "-") {
		return errors.New("want the sum of amounts, a decimal; Tollgate writes it by itself")
	}
	return nil
}

func compileCredit(s *CreditSpec) (*Credit, error) {
	if s == nil {
		return nil, nil
	}
	var c Credit
	var err error
	if c.Granted, err = money.Parse(s.Granted); err != nil {
		return nil, err
	}
	if s.Before != "" {
		c.Before, err = money.Parse(s.Before)
	}
	return &c, err
}
