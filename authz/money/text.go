package money

import (
	"fmt"
	"strconv"
)

// String returns the shortest decimal that is exactly a: no exponent, no zeros at
// the end, such as -0.00123, 12 or 0.
func (a Amount) String() string {
	var buf [64]byte
	return string(a.Append(buf[:0]))
}

// Append appends what String returns.
func (a Amount) Append(b []byte) []byte {
	start := len(b)
	if a.large != nil {
		b = a.large.Append(b, 10)
	} else {
		b = strconv.AppendInt(b, a.coef, 10)
	}
	if a.scale == 0 {
		return b
	}
	if b[start] == '-' {
		start++
	}
	// As many zeros as the point needs: one before it, and all after it.
	if missing := a.scale + 1 - (len(b) - start); missing > 0 {
		digits := len(b) - start
		for range missing {
			b = append(b, '0')
		}
		copy(b[start+missing:], b[start:start+digits])
		for i := range missing {
			b[start+i] = '0'
		}
	}
	b = append(b, 0)
	point := len(b) - 1 - a.scale
	copy(b[point+1:], b[point:])
	b[point] = '.'
	return b
}

// MarshalText writes a as String does: in JSON it is a string.
func (a Amount) MarshalText() ([]byte, error) { return a.Append(nil), nil }

// UnmarshalText reads what Parse reads.
func (a *Amount) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return fmt.Errorf("money: %w", err)
	}
	*a = parsed
	return nil
}
