package totals

import "encoding/binary"

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
}

// columns are the counts in their written order, which is that of the bits of a
// written form's mask: the usual ones first. New ones go to the end. Amounts of
// money will be columns too, of exact decimals in a form of their own.
func (c *Counts) columns() [10]*int64 {
	return [...]*int64{
		&c.Requests, &c.InputTokens, &c.OutputTokens,
		&c.CacheReadInputTokens, &c.CacheCreationInputTokens, &c.ReasoningOutputTokens,
		&c.EstimatedRequests, &c.EstimatedInputTokens, &c.EstimatedOutputTokens,
		&c.UnmeasuredRequests,
	}
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
}

// append writes the columns that aren't zero, behind a mask of which they are.
func (c *Counts) append(b []byte) []byte {
	columns := c.columns()
	var mask uint64
	for i, v := range columns {
		if *v != 0 {
			mask |= 1 << i
		}
	}
	b = binary.AppendUvarint(b, mask)
	for _, v := range columns {
		if *v != 0 {
			b = binary.AppendVarint(b, *v)
		}
	}
	return b
}

// parse reads what append wrote and returns the rest; false: b is none.
func (c *Counts) parse(b []byte) ([]byte, bool) {
	mask, n := binary.Uvarint(b)
	columns := c.columns()
	if n <= 0 || mask>>len(columns) != 0 {
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
	return b, true
}
