package celenv

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// numberTypeName is the name users see in error messages and in type().
const numberTypeName = "number"

// Number is an exact decimal in CEL: every number of an image is one, and what
// arithmetic makes of it. It keeps the text it was recorded with.
type Number struct{ text string }

// NewNumber takes a number as encoding/json decodes it.
func NewNumber(n json.Number) Number { return Number{text: n.String()} }

func numberOf(d decimal) Number { return Number{text: d.String()} }

// String is the JSON text of the number: as recorded, or the shortest exact
// form of a computed one.
func (n Number) String() string { return n.text }

// ConvertToNative implements ref.Val.
func (n Number) ConvertToNative(t reflect.Type) (any, error) {
	if t == reflect.TypeFor[json.Number]() {
		return json.Number(n.text), nil
	}
	return nil, fmt.Errorf("a number does not convert to %v", t)
}

// ConvertToType implements ref.Val for the conversions that CEL itself asks for.
func (n Number) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.StringType:
		return types.String(n.text)
	case types.IntType:
		return toInt(n)
	case types.UintType:
		return toUint(n)
	case types.DoubleType:
		return toDouble(n)
	case types.TypeType:
		return NumberType()
	}
	return types.NewErr("a number does not convert to %s", t.TypeName())
}

// Equal implements ref.Val: by value and exactly. A number equals no text.
func (n Number) Equal(other ref.Val) ref.Val { return types.Bool(equalNumbers(n, other)) }

// Type implements ref.Val.
func (n Number) Type() ref.Type { return NumberType() }

// Value implements ref.Val.
func (n Number) Value() any { return json.Number(n.text) }

// NumberType is the CEL type of [Number].
func NumberType() *types.Type { return types.NewOpaqueType(numberTypeName) }

// decimalOf reads any CEL number. A double counts as the shortest decimal that
// reads back as the same double, so the literal 0.1 is exactly 0.1. Infinities
// and NaN have no decimal.
func decimalOf(v ref.Val) (decimal, error) {
	switch v := v.(type) {
	case Number:
		return parseDecimal(v.text)
	case types.Int:
		return parseDecimal(strconv.FormatInt(int64(v), 10))
	case types.Uint:
		return parseDecimal(strconv.FormatUint(uint64(v), 10))
	case types.Double:
		f := float64(v)
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return decimal{}, fmt.Errorf("%v has no exact value", f)
		}
		return parseDecimal(strconv.FormatFloat(f, 'e', -1, 64))
	}
	return decimal{}, errNotNumber
}

func isNumber(v ref.Val) bool {
	switch v.(type) {
	case Number, types.Int, types.Uint, types.Double:
		return true
	}
	return false
}

// smallInt reads the integers that most numbers are without building a decimal.
func smallInt(v ref.Val) (int64, bool) {
	switch v := v.(type) {
	case types.Int:
		return int64(v), true
	case Number:
		if len(v.text) > 18 {
			return 0, false
		}
		n, err := strconv.ParseInt(v.text, 10, 64)
		return n, err == nil
	}
	return 0, false
}

func equalNumbers(a, b ref.Val) bool {
	if !isNumber(b) {
		return false
	}
	c, err := compareNumbers(a, b)
	if err == nil {
		return c == 0
	}
	// An exponent beyond all reason: equal to its own text only.
	m, ok := a.(Number)
	n, ok2 := b.(Number)
	return ok && ok2 && m.text == n.text
}

func compareNumbers(a, b ref.Val) (int, error) {
	if m, ok := smallInt(a); ok {
		if n, ok := smallInt(b); ok {
			return order(m, n), nil
		}
	}
	if c, ok := compareSpecial(a, b); ok {
		return c, nil
	}
	d, err := decimalOf(a)
	if err != nil {
		return 0, err
	}
	e, err := decimalOf(b)
	if err != nil {
		return 0, err
	}
	return d.compare(e), nil
}

// compareSpecial orders infinities, which have no decimal.
func compareSpecial(a, b ref.Val) (int, bool) {
	s, t := infinity(a), infinity(b)
	if s == 0 && t == 0 {
		return 0, false
	}
	if math.IsNaN(doubleOrZero(a)) || math.IsNaN(doubleOrZero(b)) {
		return 0, false
	}
	return order(s, t), true
}

func infinity(v ref.Val) int {
	switch f := doubleOrZero(v); {
	case math.IsInf(f, 1):
		return 1
	case math.IsInf(f, -1):
		return -1
	}
	return 0
}

func doubleOrZero(v ref.Val) float64 {
	d, _ := v.(types.Double)
	return float64(d)
}

// toNumber implements number(x).
func toNumber(v ref.Val) ref.Val {
	switch v := v.(type) {
	case Number:
		return v
	case types.String:
		text := strings.TrimSpace(string(v))
		d, err := parseDecimal(text)
		if err != nil {
			return types.NewErr("number(%q): %w", shorten(string(v)), err)
		}
		if json.Valid([]byte(text)) {
			return Number{text: text}
		}
		return numberOf(d)
	}
	d, err := decimalOf(v)
	if err != nil {
		return types.NewErr("number() takes a number or its text, not %s", nameOf(v))
	}
	return numberOf(d)
}

func toInt(v ref.Val) ref.Val {
	n, ok := v.(Number)
	if !ok {
		return v.ConvertToType(types.IntType)
	}
	d, err := parseDecimal(n.text)
	if err == nil {
		if i, ok := d.roundAt(0, roundTruncate).int64(); ok {
			return types.Int(i)
		}
	}
	return types.NewErr("int(%s): out of the range of a 64-bit integer", shorten(n.text))
}

func toUint(v ref.Val) ref.Val {
	n, ok := v.(Number)
	if !ok {
		return v.ConvertToType(types.UintType)
	}
	d, err := parseDecimal(n.text)
	if err == nil {
		if i, ok := d.roundAt(0, roundTruncate).uint64(); ok {
			return types.Uint(i)
		}
	}
	return types.NewErr("uint(%s): out of the range of an unsigned 64-bit integer", shorten(n.text))
}

func toDouble(v ref.Val) ref.Val {
	n, ok := v.(Number)
	if !ok {
		return v.ConvertToType(types.DoubleType)
	}
	f, err := strconv.ParseFloat(n.text, 64)
	if err != nil {
		return types.NewErr("double(%s): out of the range of a double", shorten(n.text))
	}
	return types.Double(f)
}

func toString(v ref.Val) ref.Val {
	if _, isNull := v.(types.Null); isNull {
		return types.WrapErr(&operandError{side: 0, null: true, what: "string()"})
	}
	return v.ConvertToType(types.StringType)
}

// toIndex makes a number from the data usable where CEL wants an int: an index,
// a position in a text. Anything else passes.
func toIndex(v ref.Val) ref.Val {
	n, ok := v.(Number)
	if !ok {
		return v
	}
	d, err := parseDecimal(n.text)
	if err == nil {
		if i, ok := d.int64(); ok {
			return types.Int(i)
		}
	}
	return types.NewErr("%s cannot be a position: %w", shorten(n.text), errNotInteger)
}

// shorten keeps error messages of one line when a value has megabytes.
func shorten(s string) string {
	const limit = 60
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
