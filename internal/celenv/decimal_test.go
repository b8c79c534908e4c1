package celenv

import (
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// numberText draws JSON numbers of every shape: signs, leading zeros of the
// fraction, trailing zeros, exponents.
func numberText() *rapid.Generator[string] {
	return rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?`)
}

func rat(t *rapid.T, text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("big.Rat does not read %q", text)
	}
	return r
}

func parse(t *rapid.T, text string) decimal {
	d, err := parseDecimal(text)
	if err != nil {
		t.Fatalf("parse %q: %v", text, err)
	}
	return d
}

func TestDecimalAgreesWithRationals(t *testing.T) {
	t.Parallel()
	operations := []struct {
		name  string
		exact func(a, b decimal) (decimal, error)
		slow  func(z, a, b *big.Rat) *big.Rat
	}{
		{"+", decimal.add, (*big.Rat).Add}, {"-", decimal.sub, (*big.Rat).Sub}, {"*", decimal.mul, (*big.Rat).Mul},
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := numberText().Draw(t, "a"), numberText().Draw(t, "b")
		d, e, x, y := parse(t, a), parse(t, b), rat(t, a), rat(t, b)
		if got, want := d.compare(e), x.Cmp(y); got != want {
			t.Fatalf("compare %s, %s = %d, want %d", a, b, got, want)
		}
		if rat(t, d.String()).Cmp(x) != 0 || !json.Valid([]byte(d.String())) {
			t.Fatalf("%s is written %s", a, d)
		}
		for _, op := range operations {
			got, err := op.exact(d, e)
			if want := op.slow(new(big.Rat), x, y); err != nil || rat(t, got.String()).Cmp(want) != 0 {
				t.Fatalf("%s %s %s = %v, %v; want %v", a, op.name, b, got, err, want)
			}
		}
	})
}

func TestQuotientIsExactOrRoundedTo34Digits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := numberText().Draw(t, "a"), numberText().Draw(t, "b")
		d, e := parse(t, a), parse(t, b)
		got, err := d.quo(e)
		if e.sign() == 0 {
			if !errors.Is(err, errZero) {
				t.Fatalf("%s / %s: %v", a, b, err)
			}
			return
		}
		if err != nil {
			t.Fatalf("%s / %s: %v", a, b, err)
		}
		want := new(big.Rat).Quo(rat(t, a), rat(t, b))
		off := new(big.Rat).Sub(rat(t, got.String()), want)
		limit := new(big.Rat).Mul(new(big.Rat).Abs(want), rat(t, "0.5e-33"))
		if off.Abs(off).Cmp(limit) > 0 {
			t.Fatalf("%s / %s = %s, off by %s", a, b, got, off.FloatString(60))
		}
	})
}

func TestRemainderHasTheSignOfTheDividend(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := numberText().Draw(t, "a"), numberText().Draw(t, "b")
		d, e := parse(t, a), parse(t, b)
		if e.sign() == 0 {
			t.Skip()
		}
		got, err := d.rem(e)
		if err != nil {
			t.Fatalf("%s %% %s: %v", a, b, err)
		}
		quotient := new(big.Rat).Quo(new(big.Rat).Sub(rat(t, a), rat(t, got.String())), rat(t, b))
		smaller := new(big.Rat).Abs(rat(t, got.String())).Cmp(new(big.Rat).Abs(rat(t, b))) < 0
		if !quotient.IsInt() || !smaller || got.sign()*d.sign() < 0 {
			t.Fatalf("%s %% %s = %s", a, b, got)
		}
	})
}

func TestRoundingOfDecimals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		exp  int64
		mode rounding
		want string
	}{
		{"2.5", 0, roundHalfEven, "2"}, {"3.5", 0, roundHalfEven, "4"}, {"2.51", 0, roundHalfEven, "3"}, {"0.5", 0, roundHalfEven, "0"},
		{"2.5", 0, roundHalfUp, "3"}, {"-2.5", 0, roundHalfUp, "-3"}, {"2.49", 0, roundHalfUp, "2"}, {"0.05", 0, roundHalfUp, "0"},
		{"-2.1", 0, roundDown, "-3"}, {"2.9", 0, roundDown, "2"}, {"0.001", 0, roundUp, "1"}, {"-0.9", 0, roundUp, "0"},
		{"9.99", -1, roundHalfUp, "10"}, {"0.004", -2, roundHalfUp, "0"}, {"1e-99999999", -2, roundUp, "0.01"},
		{"-7.9", 0, roundTruncate, "-7"}, {"1e999999999", -2, roundHalfUp, "1e999999999"},
	} {
		d, err := parseDecimal(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.roundAt(c.exp, c.mode).String(); got != c.want {
			t.Errorf("round %s at 10^%d in mode %d = %s, want %s", c.text, c.exp, c.mode, got, c.want)
		}
	}
}

func TestFixedWritesEveryPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text   string
		places int
		want   string
	}{
		{"0", 2, "0.00"}, {"100", 2, "100.00"}, {"0.1", 2, "0.10"}, {"0.005", 2, "0.01"}, {"-0.004", 2, "0.00"}, {"-1.5", 0, "-2"},
		{"12345678901234567890.125", 2, "12345678901234567890.13"}, {"1e3", 1, "1000.0"},
	} {
		d, err := parseDecimal(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.fixed(c.places); got != c.want || err != nil {
			t.Errorf("fixed(%s, %d) = %s, %v; want %s", c.text, c.places, got, err, c.want)
		}
	}
	d, err := parseDecimal("1e999999999")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.fixed(2); !errors.Is(err, errDigits) {
		t.Errorf("fixed(1e999999999, 2): %v", err)
	}
}

func TestDecimalRefusesWhatIsNoNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"": errNotNumber, "-": errNotNumber, ".5": errNotNumber, "5.": errNotNumber, "1e": errNotNumber, "1e+": errNotNumber,
		"+1": errNotNumber, "0x10": errNotNumber, "1_000": errNotNumber, "NaN": errNotNumber, "1\x20": errNotNumber, "--1": errNotNumber,
		"1e9999999999999999999": errExponent, "1e-1000000000000001": errExponent,
	} {
		if d, err := parseDecimal(text); !errors.Is(err, want) {
			t.Errorf("parse %q = %v, %v; want %v", text, d, err, want)
		}
	}
	if d, err := parseDecimal("0e99999999999999999999"); err != nil || d.sign() != 0 {
		t.Errorf("zero with any exponent is zero: %v, %v", d, err)
	}
}

func TestArithmeticIsBounded(t *testing.T) {
	t.Parallel()
	big, err := parseDecimal(strings.Repeat("9", maxDigits))
	if err != nil {
		t.Fatal(err)
	}
	one := decimal{digits: "1"}
	for name, f := range map[string]func() (decimal, error){
		"add": func() (decimal, error) { return one.add(decimal{digits: "1", exp: maxDigits + 1}) },
		"mul": func() (decimal, error) { return big.mul(big) },
		"quo": func() (decimal, error) { return big.quo(big) },
		"rem": func() (decimal, error) { return decimal{digits: "1", exp: 1 << 40}.rem(one) },
	} {
		if got, err := f(); !errors.Is(err, errDigits) {
			t.Errorf("%s = %v, %v; want an error", name, got, err)
		}
	}
	if _, err := (decimal{digits: "1", exp: maxExponent}).mul(decimal{digits: "1", exp: 1}); !errors.Is(err, errExponent) {
		t.Errorf("an exponent out of range: %v", err)
	}
}
