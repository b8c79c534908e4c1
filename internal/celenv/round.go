package celenv

import (
	"math/big"
	"strconv"
	"strings"
)

type rounding int

const (
	roundHalfEven rounding = iota
	roundHalfUp            // away from zero, as people round money
	roundDown              // towards minus infinity
	roundUp                // towards plus infinity
	roundTruncate          // towards zero
)

// roundAt gives d as a multiple of 10^exp.
func (d decimal) roundAt(exp int64, mode rounding) decimal {
	if d.digits == "" || d.exp >= exp {
		return d
	}
	var kept, cut string
	if n := d.magnitude() - exp; n >= 0 {
		kept, cut = d.digits[:n], d.digits[n:]
	} else {
		cut = "0" // below a tenth of the unit: never half of it
	}
	if !roundsAway(d.negative, kept, cut, mode) {
		return newDecimal(d.negative, kept, exp)
	}
	n, _ := new(big.Int).SetString("0"+kept, 10)
	n.Add(n, big.NewInt(1))
	return newDecimal(d.negative, n.String(), exp)
}

func roundsAway(negative bool, kept, cut string, mode rounding) bool {
	switch mode {
	case roundTruncate:
		return false
	case roundDown:
		return negative
	case roundUp:
		return !negative
	default: // the halves are decided below
	}
	if cut[0] != '5' || len(cut) > 1 || mode == roundHalfUp {
		return cut[0] >= '5'
	}
	return kept != "" && (kept[len(kept)-1]-'0')%2 == 1
}

// String writes d as a JSON number: plain where that is short, else with an
// exponent.
func (d decimal) String() string {
	sign := ""
	if d.negative {
		sign = "-"
	}
	n := int64(len(d.digits))
	switch {
	case n == 0:
		return "0"
	case d.exp >= 0 && d.magnitude() <= 40:
		return sign + d.digits + strings.Repeat("0", int(d.exp))
	case d.exp < 0 && d.magnitude() > 0:
		return sign + d.digits[:n+d.exp] + "." + d.digits[n+d.exp:]
	case d.exp < 0 && d.magnitude() > -20:
		return sign + "0." + strings.Repeat("0", int(-d.magnitude())) + d.digits
	}
	text := sign + d.digits[:1]
	if n > 1 {
		text += "." + d.digits[1:]
	}
	return text + "e" + strconv.FormatInt(d.magnitude()-1, 10)
}

// fixed writes d with exactly places digits after the point.
func (d decimal) fixed(places int) (string, error) {
	if d.magnitude() > maxDigits {
		return "", errDigits
	}
	d = d.roundAt(int64(-places), roundHalfUp)
	n := new(big.Int)
	if d.digits != "" {
		n = d.scaled(int64(-places))
	}
	digits := n.Abs(n).String()
	if missing := places + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	sign := ""
	if d.negative {
		sign = "-"
	}
	if places == 0 {
		return sign + digits, nil
	}
	return sign + digits[:len(digits)-places] + "." + digits[len(digits)-places:], nil
}

// int64 is the value of a whole decimal that fits.
func (d decimal) int64() (int64, bool) {
	if !d.isInteger() || d.magnitude() > 19 {
		return 0, false
	}
	n := d.scaled(0)
	return n.Int64(), n.IsInt64()
}

func (d decimal) uint64() (uint64, bool) {
	if !d.isInteger() || d.magnitude() > 20 || d.negative {
		return 0, false
	}
	n := d.scaled(0)
	return n.Uint64(), n.IsUint64()
}
