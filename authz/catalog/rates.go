package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tollgate/authz/money"
)

// RatesSpec are what a model costs, in the order of the time from which each of
// them holds. In the text they may be written as a single RateCardSpec.
type RatesSpec []RateCardSpec

// RateCardSpec has list prices by unit (see Units), decimals; and under rateFrom
// the time from which they hold, RFC 3339. Only the first of several may be
// without it: it has held ever since. Before the first nothing is charged.
type RateCardSpec map[string]string

// rateFrom stands beside the units.
const rateFrom = "from"

// maxRateCards bounds how often a model's rates may change.
const maxRateCards = 100

// MarshalJSON writes a single card that has held ever since as itself, which is
// all that the release before this one reads.
func (s RatesSpec) MarshalJSON() ([]byte, error) {
	if s.single() {
		return json.Marshal(s[0])
	}
	return json.Marshal([]RateCardSpec(s))
}

func (s RatesSpec) single() bool { return len(s) == 1 && s[0][rateFrom] == "" }

// Rate is the list price of one unit of Units, in USD: of tokens for a million of
// them, of anything else for one.
type Rate struct {
	Unit  string
	Price money.Amount
}

// RateCard is what a model costs from a moment on.
type RateCard struct {
	From  time.Time // zero: ever since
	Rates []Rate    // in the order of Units
}

// RatesAt returns the rates in force at a moment; nil where there are none yet:
// then nothing is charged.
func (m *Model) RatesAt(now time.Time) *RateCard {
	for i := len(m.Rates) - 1; i >= 0; i-- {
		if !now.Before(m.Rates[i].From) {
			return &m.Rates[i]
		}
	}
	return nil
}

// rates checks what a model costs.
func (s *source) rates(path string, cards RatesSpec) {
	s.atMost(path, len(cards), maxRateCards)
	var last time.Time
	for i, card := range cards {
		item := fmt.Sprintf("%s[%d]", path, i)
		if len(cards) == 1 && !s.written(item) {
			item = path // written as itself
		}
		from, written := card[rateFrom]
		switch at, err := parseFrom(from); {
		case !written && i > 0:
			s.invalidf(item, "from is missing: say from when on these rates hold; only the first may be without it")
		case !written:
		case err != nil:
			s.invalidf(join(item, rateFrom), "%v", err)
		case !at.After(last):
			s.invalidf(join(item, rateFrom), "is not after the rates before it: write them in the order of their times")
		default:
			last = at
		}
		for _, unit := range slices.Sorted(maps.Keys(card)) {
			if unit != rateFrom {
				s.rate(member(item, unit), unit, card[unit])
			}
		}
	}
}

func (s *source) rate(path, unit, price string) {
	if units := Units(); !slices.Contains(units, unit) {
		advice := "it may be " + strings.Join(units, ", ")
		if name := closest(unit, units); name != "" {
			advice = fmt.Sprintf("did you mean %q?", name)
		}
		s.invalidf(path, "there is no unit %s; %s", quote(unit), advice)
	}
	s.required(path, price, checkDecimal)
}

// parseFrom reads the time from which rates hold. The bounds leave room for its
// forms elsewhere.
func parseFrom(text string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.Nanosecond() != 0 || at.Year() < 2000 || at.Year() > 2999 {
		return time.Time{}, errors.New("want a time in whole seconds such as 2026-01-01T00:00:00Z")
	}
	return at.UTC(), nil
}

func compileRates(spec RatesSpec) ([]RateCard, error) {
	cards := make([]RateCard, len(spec))
	units := Units()
	for i, card := range spec {
		var err error
		if text, ok := card[rateFrom]; ok {
			if cards[i].From, err = parseFrom(text); err != nil {
				return nil, err
			}
		}
		for _, unit := range units {
			text, ok := card[unit]
			if !ok {
				continue
			}
			price, err := money.Parse(text)
			if err != nil {
				return nil, err
			}
			cards[i].Rates = append(cards[i].Rates, Rate{Unit: unit, Price: price})
		}
	}
	return cards, nil
}
