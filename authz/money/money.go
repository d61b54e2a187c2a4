// Package money counts money exactly.
//
// An Amount is a decimal number of any size. Sums and products neither round nor
// overflow, so sums of parts are equal to sums of wholes to the last digit,
// whatever their order. docs/design/money.md says why it is not a float, not a
// whole number of millionths, and not one of the decimals of fixed precision.
package money

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
)

// Amount is an exact decimal number: a price, a cost, a multiplier. The zero value
// is 0. Amounts are values: no operation changes one, and they may be used by
// several goroutines at once. Compare them with Cmp, not with ==.
//
// Almost all of them fit into a word, and their sums and products cost a few
// nanoseconds and no memory; the others are kept as a big.Int.
type Amount struct {
	// The value is coef / 10^scale, or large / 10^scale where large isn't nil.
	// There is one form for a number: the smallest scale from 0, and large only
	// where a coef from -math.MaxInt64 to math.MaxInt64 doesn't do.
	coef  int64
	scale int
	large *big.Int // never changed
}

// New returns coef / 10^decimals, such as New(15, 2) for 0.15. decimals below 0
// count as 0.
func New(coef int64, decimals int) Amount {
	if coef == math.MinInt64 {
		return reduce(big.NewInt(coef), max(decimals, 0))
	}
	return small(coef, max(decimals, 0))
}

// MaxText is how many bytes of text Parse reads: several times what the product
// of the longest rate, quantity and multiplier has.
const MaxText = 256

// Errors of Parse.
var (
	errForm = errors.New(`not an amount: want a decimal without an exponent, such as "0.15"`)
	errLong = fmt.Errorf("an amount has at most %d characters", MaxText)
)

// Parse reads digits, which may have a minus before them, and a point between two
// of them. Every String is read as what it was, up to MaxText.
func Parse(text string) (Amount, error) {
	if len(text) > MaxText {
		return Amount{}, errLong
	}
	digits, negative := text, false
	if text != "" && text[0] == '-' {
		digits, negative = text[1:], true
	}
	point := -1
	for i := range len(digits) {
		switch c := digits[i]; {
		case c == '.' && point < 0 && i > 0 && i < len(digits)-1:
			point = i
		case c < '0' || c > '9':
			return Amount{}, errForm
		}
	}
	if digits == "" {
		return Amount{}, errForm
	}
	scale := 0
	if point >= 0 {
		scale = len(digits) - point - 1
		digits = digits[:point] + digits[point+1:]
	}
	if len(digits) <= wordDigits {
		var coef int64
		for i := range len(digits) {
			coef = coef*10 + int64(digits[i]-'0')
		}
		if negative {
			coef = -coef
		}
		return small(coef, scale), nil
	}
	n, _ := new(big.Int).SetString(digits, 10) // digits alone: can't fail
	if negative {
		n.Neg(n)
	}
	return reduce(n, scale), nil
}

// wordDigits is how many decimal digits every int64 has room for.
const wordDigits = 18

// powers are those of ten that fit into an int64.
var powers = func() (p [wordDigits + 1]int64) {
	p[0] = 1
	for i := range wordDigits {
		p[i+1] = p[i] * 10
	}
	return p
}()

// small is the Amount of a coef that isn't math.MinInt64.
func small(coef int64, scale int) Amount {
	if coef == 0 {
		return Amount{}
	}
	for scale > 0 && coef%10 == 0 {
		coef, scale = coef/10, scale-1
	}
	return Amount{coef: coef, scale: scale}
}

var ten = big.NewInt(10)

// reduce is the Amount of n / 10^scale. n is the Amount's from now on.
func reduce(n *big.Int, scale int) Amount {
	var rest, next big.Int
	for scale > 0 && n.Bit(0) == 0 { // what ten divides is even
		if next.QuoRem(n, ten, &rest); rest.Sign() != 0 {
			break
		}
		n.Set(&next)
		scale--
	}
	if n.IsInt64() && n.Int64() != math.MinInt64 {
		return small(n.Int64(), scale)
	}
	return Amount{scale: scale, large: n}
}

// integer is a's coefficient. It must not be changed.
func (a Amount) integer() *big.Int {
	if a.large != nil {
		return a.large
	}
	return big.NewInt(a.coef)
}

// at is the integer n for which a = n / 10^scale; scale is at least a's. The
// result must not be changed.
func (a Amount) at(scale int) *big.Int {
	n := a.integer()
	if scale == a.scale {
		return n
	}
	up := new(big.Int).Exp(ten, big.NewInt(int64(scale-a.scale)), nil)
	return up.Mul(up, n)
}

// product multiplies. ok is false where the result has no room in an int64, or
// is math.MinInt64.
func product(a, b int64) (p int64, ok bool) {
	if a == math.MinInt64 || b == math.MinInt64 {
		return 0, false
	}
	hi, lo := bits.Mul64(uint64(max(a, -a)), uint64(max(b, -b)))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if (a < 0) != (b < 0) {
		return -int64(lo), true
	}
	return int64(lo), true
}

// aligned are both coefficients at the larger scale; ok is false where one has no
// room in an int64.
func aligned(a, b Amount) (x, y int64, scale int, ok bool) {
	if a.large != nil || b.large != nil {
		return 0, 0, 0, false
	}
	x, y, scale, ok = a.coef, b.coef, a.scale, true
	switch up := a.scale - b.scale; {
	case up > wordDigits || up < -wordDigits:
		return 0, 0, 0, false
	case up > 0:
		y, ok = product(y, powers[up])
	case up < 0:
		scale = b.scale
		x, ok = product(x, powers[-up])
	}
	return x, y, scale, ok
}

// Add returns a + b.
func (a Amount) Add(b Amount) Amount {
	if x, y, scale, ok := aligned(a, b); ok {
		if sum := x + y; (sum > x) == (y > 0) && sum != math.MinInt64 {
			return small(sum, scale)
		}
	}
	scale := max(a.scale, b.scale)
	return reduce(new(big.Int).Add(a.at(scale), b.at(scale)), scale)
}

// Sub returns a - b.
func (a Amount) Sub(b Amount) Amount {
	if b.large != nil {
		b.large = new(big.Int).Neg(b.large)
	}
	b.coef = -b.coef
	return a.Add(b)
}

// Mul returns a × b.
func (a Amount) Mul(b Amount) Amount {
	if a.large == nil && b.large == nil {
		if p, ok := product(a.coef, b.coef); ok {
			return small(p, a.scale+b.scale)
		}
	}
	return reduce(new(big.Int).Mul(a.integer(), b.integer()), a.scale+b.scale)
}

// MulInt returns a × n.
func (a Amount) MulInt(n int64) Amount { return a.Mul(New(n, 0)) }

// Scaled returns a × 10^decimals to the nearest integer, halves away from 0: the one
// operation that rounds, for quantities and never for what is paid. ok is false
// where the integer isn't from -math.MaxInt64 to math.MaxInt64.
func (a Amount) Scaled(decimals int) (n int64, ok bool) {
	scaled := a.integer()
	if down := a.scale - decimals; down <= 0 {
		scaled = a.at(decimals)
	} else {
		unit := new(big.Int).Exp(ten, big.NewInt(int64(down)), nil)
		half := new(big.Int).Rsh(unit, 1)
		if a.Sign() < 0 {
			half.Neg(half)
		}
		scaled = half.Quo(half.Add(half, scaled), unit)
	}
	if !scaled.IsInt64() || scaled.Int64() == math.MinInt64 {
		return 0, false
	}
	return scaled.Int64(), true
}

// Cmp returns -1 where a is less than b, 0 where they are equal, and 1 where it is
// more.
func (a Amount) Cmp(b Amount) int {
	if x, y, _, ok := aligned(a, b); ok {
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	}
	scale := max(a.scale, b.scale)
	return a.at(scale).Cmp(b.at(scale))
}

// Sign is Cmp with 0.
func (a Amount) Sign() int { return a.Cmp(Amount{}) }

// IsZero reports whether a is 0.
func (a Amount) IsZero() bool { return a.large == nil && a.coef == 0 }
