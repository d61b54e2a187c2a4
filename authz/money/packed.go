package money

import (
	"encoding/binary"
	"math/big"
)

// The packed form of an Amount, for what is stored: twice the number of decimals,
// one more for a large coefficient, as a uvarint; then the coefficient, as a varint
// or, a large one, as its big-endian bytes behind twice their number, one more where
// it is below 0. AppendPacked writes the same for the same number.

// maxPacked bounds the decimals and the bytes of a coefficient that are read.
const maxPacked = 1 << 10

// AppendPacked appends the packed form of a to b. ParsePacked reads it.
func (a Amount) AppendPacked(b []byte) []byte {
	head := uint64(a.scale) << 1
	if a.large == nil {
		return binary.AppendVarint(binary.AppendUvarint(b, head), a.coef)
	}
	coefficient := a.large.Bytes()
	size := uint64(len(coefficient)) << 1
	if a.large.Sign() < 0 {
		size++
	}
	b = binary.AppendUvarint(binary.AppendUvarint(b, head+1), size)
	return append(b, coefficient...)
}

// ParsePacked reads what AppendPacked wrote at the beginning of b, and returns what
// is behind it; false: there is no packed form.
func ParsePacked(b []byte) (a Amount, rest []byte, ok bool) {
	head, n := binary.Uvarint(b)
	if n <= 0 || head>>1 > maxPacked {
		return Amount{}, nil, false
	}
	b = b[n:]
	scale := int(head >> 1)
	if head&1 == 0 {
		coef, n := binary.Varint(b)
		if n <= 0 {
			return Amount{}, nil, false
		}
		return New(coef, scale), b[n:], true
	}
	size, n := binary.Uvarint(b)
	if n <= 0 || size>>1 > maxPacked || size>>1 > uint64(len(b)-n) {
		return Amount{}, nil, false
	}
	b = b[n:]
	bytes := int(size >> 1)
	coefficient := new(big.Int).SetBytes(b[:bytes])
	if size&1 != 0 {
		coefficient.Neg(coefficient)
	}
	return reduce(coefficient, scale), b[bytes:], true
}
