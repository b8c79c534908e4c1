package observer

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Change is the value of one field before and after an UPDATE. Values are what
// encoding/json decodes, numbers as json.Number; a field absent from an image
// is nil there.
type Change struct {
	Old any `json:"old"`
	New any `json:"new"`
}

// Changes are the fields an UPDATE changed, by name. nil means that no
// before-image was recorded, empty that one was and nothing differs.
type Changes map[string]Change

func diff(old, after map[string]any) Changes {
	changes := Changes{}
	for field, before := range old {
		now, there := after[field]
		if !there || !EqualValues(before, now) {
			changes[field] = Change{Old: before, New: now}
		}
	}
	for field, now := range after {
		if _, there := old[field]; !there {
			changes[field] = Change{New: now}
		}
	}
	return changes
}

// EqualValues reports whether two decoded JSON values are equal. Numbers are
// compared by value and exactly: 100.00 equals 100, and integers beyond 2^53
// are not rounded.
func EqualValues(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || canonical(a) == canonical(b))
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !EqualValues(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && equalObjects(a, b)
	}
	switch b.(type) {
	case []any, map[string]any:
		return false // not comparable with ==
	}
	return a == b
}

func equalObjects(a, b map[string]any) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		w, ok := b[k]
		if !ok || !EqualValues(v, w) {
			return false
		}
	}
	return true
}

// canonical writes a JSON number as sign, significant digits and exponent, so
// that equal values have equal text. It works on the text: an exponent of a
// billion costs nothing, which math/big could not promise.
func canonical(n json.Number) string {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(n.String()), "e")
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0"
	}
	exp, err := strconv.ParseInt("0"+strings.TrimLeft(exponent, "+-"), 10, 64)
	if err != nil {
		return n.String() // an exponent beyond int64: equal only to itself
	}
	if strings.HasPrefix(exponent, "-") {
		exp = -exp
	}
	exp -= int64(len(fraction))
	trimmed := strings.TrimRight(digits, "0")
	exp += int64(len(digits) - len(trimmed))
	sign := ""
	if negative {
		sign = "-"
	}
	return sign + trimmed + "e" + strconv.FormatInt(exp, 10)
}
