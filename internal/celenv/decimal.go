package celenv

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
)

const (
	// maxDigits bounds the digits that one arithmetic operation may handle, so
	// that 1e999999999 + 1 is an error and not a gigabyte.
	maxDigits = 1000
	// quotientDigits is the precision of a division that does not terminate.
	quotientDigits = 34
	// maxExponent is the largest exponent that is ordered. Larger ones exist in
	// no data; they equal only their own text.
	maxExponent = 1_000_000_000_000_000
)

var (
	errExponent   = errors.New("the exponent of the number is out of range")
	errDigits     = errors.New("the result would need more than 1000 digits")
	errZero       = errors.New("division by zero")
	errNotNumber  = errors.New("not a number")
	errNotInteger = errors.New("not a whole number")
)

// decimal is sign × digits × 10^exp. digits has no zeros at either end and is
// empty for zero, so equal values have equal fields. Comparing costs the length
// of the text, whatever the exponent.
type decimal struct {
	negative bool
	digits   string
	exp      int64
}

// parseDecimal reads a JSON number. It does not accept what JSON does not.
func parseDecimal(text string) (decimal, error) {
	mantissa, exponent, hasExp := cutExponent(text)
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, hasPoint := strings.Cut(mantissa, ".")
	if !allDigits(whole) || (hasPoint && !allDigits(fraction)) {
		return decimal{}, errNotNumber
	}
	exp, err := parseExponent(exponent, hasExp)
	if errors.Is(err, errNotNumber) {
		return decimal{}, err
	}
	d := newDecimal(negative, whole+fraction, exp-int64(len(fraction)))
	if err != nil && d.digits != "" {
		return decimal{}, err
	}
	return d, nil
}

func cutExponent(text string) (mantissa, exponent string, found bool) {
	i := strings.IndexAny(text, "eE")
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

func parseExponent(text string, present bool) (int64, error) {
	if !present {
		return 0, nil
	}
	digits, negative := strings.CutPrefix(text, "-")
	if !negative {
		digits = strings.TrimPrefix(digits, "+")
	}
	if !allDigits(digits) {
		return 0, errNotNumber
	}
	exp, err := strconv.ParseInt("0"+strings.TrimLeft(digits, "0"), 10, 64)
	if err != nil || exp > maxExponent {
		return 0, errExponent
	}
	if negative {
		exp = -exp
	}
	return exp, nil
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func newDecimal(negative bool, digits string, exp int64) decimal {
	digits = strings.TrimLeft(digits, "0")
	trimmed := strings.TrimRight(digits, "0")
	if trimmed == "" {
		return decimal{}
	}
	return decimal{negative: negative, digits: trimmed, exp: exp + int64(len(digits)-len(trimmed))}
}

// magnitude is the exponent of the first digit plus one.
func (d decimal) magnitude() int64 { return d.exp + int64(len(d.digits)) }

func (d decimal) sign() int {
	switch {
	case d.digits == "":
		return 0
	case d.negative:
		return -1
	}
	return 1
}

// compare is -1, 0 or 1 as d is below, equal to or above e.
func (d decimal) compare(e decimal) int {
	s, t := d.sign(), e.sign()
	switch {
	case s != t:
		return order(s, t)
	case s == 0:
		return 0
	case d.magnitude() != e.magnitude():
		return s * order(d.magnitude(), e.magnitude())
	}
	return s * strings.Compare(d.digits, e.digits)
}

func order[T int | int64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (d decimal) neg() decimal {
	if d.digits != "" {
		d.negative = !d.negative
	}
	return d
}

// scaled is d as an integer multiple of 10^exp; exp must not exceed d.exp.
func (d decimal) scaled(exp int64) *big.Int {
	n, _ := new(big.Int).SetString("0"+d.digits, 10)
	n.Mul(n, pow10(d.exp-exp))
	if d.negative {
		n.Neg(n)
	}
	return n
}

func pow10(n int64) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(n), nil) }

func fromInt(n *big.Int, exp int64) decimal {
	return newDecimal(n.Sign() < 0, new(big.Int).Abs(n).String(), exp)
}

// align gives both operands as integers over one exponent, or an error when
// that takes too many digits.
func align(d, e decimal) (a, b *big.Int, exp int64, err error) {
	if d.digits == "" {
		d.exp = e.exp
	}
	if e.digits == "" {
		e.exp = d.exp
	}
	exp = min(d.exp, e.exp)
	if max(d.magnitude(), e.magnitude())-exp > maxDigits {
		return nil, nil, 0, errDigits
	}
	return d.scaled(exp), e.scaled(exp), exp, nil
}

func (d decimal) add(e decimal) (decimal, error) {
	a, b, exp, err := align(d, e)
	if err != nil {
		return decimal{}, err
	}
	return fromInt(a.Add(a, b), exp), nil
}

func (d decimal) sub(e decimal) (decimal, error) { return d.add(e.neg()) }

func (d decimal) mul(e decimal) (decimal, error) {
	if len(d.digits)+len(e.digits) > maxDigits {
		return decimal{}, errDigits
	}
	return fromInt(new(big.Int).Mul(d.scaled(d.exp), e.scaled(e.exp)), d.exp+e.exp).checked()
}

// checked refuses exponents that repeated multiplication has driven out of range.
func (d decimal) checked() (decimal, error) {
	if d.exp > maxExponent || d.exp < -maxExponent {
		return decimal{}, errExponent
	}
	return d, nil
}

// quo is exact when the quotient terminates soon, else rounded half to even to
// 34 significant digits.
func (d decimal) quo(e decimal) (decimal, error) {
	if e.digits == "" {
		return decimal{}, errZero
	}
	if len(d.digits)+len(e.digits) > maxDigits {
		return decimal{}, errDigits
	}
	shift := int64(max(0, quotientDigits+len(e.digits)-len(d.digits)+1))
	numerator := d.scaled(d.exp - shift)
	q, r := new(big.Int).QuoRem(numerator, e.scaled(e.exp), new(big.Int))
	exp := d.exp - shift - e.exp
	if r.Sign() == 0 {
		return fromInt(q, exp).checked()
	}
	// One more digit that is neither 0 nor 5 keeps the rounding honest about
	// the remainder.
	q.Mul(q, big.NewInt(10))
	q.Add(q, big.NewInt(int64(r.Sign()*e.sign())))
	return fromInt(q, exp-1).roundDigits(quotientDigits).checked()
}

// rem is the remainder with the sign of d, as CEL's % has it.
func (d decimal) rem(e decimal) (decimal, error) {
	if e.digits == "" {
		return decimal{}, errZero
	}
	a, b, exp, err := align(d, e)
	if err != nil {
		return decimal{}, err
	}
	return fromInt(a.Rem(a, b), exp), nil
}

func (d decimal) roundDigits(n int) decimal {
	if len(d.digits) <= n {
		return d
	}
	return d.roundAt(d.magnitude()-int64(n), roundHalfEven)
}

// isInteger reports whether d has no fraction.
func (d decimal) isInteger() bool { return d.exp >= 0 || d.digits == "" }
