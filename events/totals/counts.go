package totals

import (
	"encoding/binary"

	"tollgate/authz/money"
)

// Counts are what events add up to. A known zero and nothing look the same.
type Counts struct {
	// Requests are usage events, of every outcome; an adjustment is none.
	Requests int64
	// InputTokens include CacheReadInputTokens and CacheCreationInputTokens,
	// OutputTokens include ReasoningOutputTokens.
	InputTokens, OutputTokens                      int64
	CacheReadInputTokens, CacheCreationInputTokens int64
	ReasoningOutputTokens                          int64

	// Of the above, what is estimated from what passed.
	EstimatedRequests, EstimatedInputTokens, EstimatedOutputTokens int64
	// UnmeasuredRequests are those whose tokens nobody knows, superseded ones
	// included.
	UnmeasuredRequests int64

	// ListCost is what it costs by the rates, Cost what is billed; USD, exact.
	ListCost, Cost money.Amount
}

// columns are the counts in their written order, which is that of the bits of a
// written form's mask: the usual ones first. New ones go to the end, behind the
// amounts.
func (c *Counts) columns() [10]*int64 {
	return [...]*int64{
		&c.Requests, &c.InputTokens, &c.OutputTokens,
		&c.CacheReadInputTokens, &c.CacheCreationInputTokens, &c.ReasoningOutputTokens,
		&c.EstimatedRequests, &c.EstimatedInputTokens, &c.EstimatedOutputTokens,
		&c.UnmeasuredRequests,
	}
}

// amounts are columns too, behind those, in the packed form of money.
func (c *Counts) amounts() [2]*money.Amount { return [...]*money.Amount{&c.Cost, &c.ListCost} }

func (c *Counts) equal(d *Counts) bool {
	a, b := *c, *d
	same := a.Cost.Cmp(b.Cost) == 0 && a.ListCost.Cmp(b.ListCost) == 0
	a.Cost, a.ListCost, b.Cost, b.ListCost = money.Amount{}, money.Amount{}, money.Amount{}, money.Amount{}
	return same && a == b
}

func (c *Counts) add(d *Counts) {
	c.Requests += d.Requests
	c.InputTokens += d.InputTokens
	c.OutputTokens += d.OutputTokens
	c.CacheReadInputTokens += d.CacheReadInputTokens
	c.CacheCreationInputTokens += d.CacheCreationInputTokens
	c.ReasoningOutputTokens += d.ReasoningOutputTokens
	c.EstimatedRequests += d.EstimatedRequests
	c.EstimatedInputTokens += d.EstimatedInputTokens
	c.EstimatedOutputTokens += d.EstimatedOutputTokens
	c.UnmeasuredRequests += d.UnmeasuredRequests
	c.ListCost = c.ListCost.Add(d.ListCost)
	c.Cost = c.Cost.Add(d.Cost)
}

// append writes the columns that aren't zero, behind a mask of which they are.
func (c *Counts) append(b []byte) []byte {
	columns, amounts := c.columns(), c.amounts()
	var mask uint64
	for i, v := range columns {
		if *v != 0 {
			mask |= 1 << i
		}
	}
	for i, v := range amounts {
		if !v.IsZero() {
			mask |= 1 << (len(columns) + i)
		}
	}
	b = binary.AppendUvarint(b, mask)
	for _, v := range columns {
		if *v != 0 {
			b = binary.AppendVarint(b, *v)
		}
	}
	for _, v := range amounts {
		if !v.IsZero() {
			b = v.AppendPacked(b)
		}
	}
	return b
}

// parse reads what append wrote and returns the rest; false: b is none.
func (c *Counts) parse(b []byte) ([]byte, bool) {
	mask, n := binary.Uvarint(b)
	columns, amounts := c.columns(), c.amounts()
	if n <= 0 || mask>>(len(columns)+len(amounts)) != 0 {
		return nil, false
	}
	b = b[n:]
	*c = Counts{}
	for i := range columns {
		if mask&(1<<i) == 0 {
			continue
		}
		v, n := binary.Varint(b)
		if n <= 0 {
			return nil, false
		}
		*columns[i], b = v, b[n:]
	}
	for i := range amounts {
		if mask&(1<<(len(columns)+i)) == 0 {
			continue
		}
		var ok bool
		if *amounts[i], b, ok = money.ParsePacked(b); !ok {
			return nil, false
		}
	}
	return b, true
}
