package celenv

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// operator is a function that takes the place of a CEL operator or conversion
// after the check. Its name cannot be written in an expression.
type operator struct {
	name   string
	symbol string
	unary  func(ref.Val) ref.Val
	binary func(a, b ref.Val) ref.Val
	// many takes the receiver and params arguments; each count is an overload.
	many   func(args ...ref.Val) ref.Val
	params []int
	cost   func(args []ref.Val, result ref.Val) *uint64
}

func operators() []operator {
	return []operator{
		{name: "_==_", symbol: "==", binary: equal, cost: costOfArgs},
		{name: "_!=_", symbol: "!=", binary: notEqual, cost: costOfArgs},
		{name: "_<_", symbol: "<", binary: comparison("<", func(c int) bool { return c < 0 }), cost: costOfArgs},
		{name: "_<=_", symbol: "<=", binary: comparison("<=", func(c int) bool { return c <= 0 }), cost: costOfArgs},
		{name: "_>_", symbol: ">", binary: comparison(">", func(c int) bool { return c > 0 }), cost: costOfArgs},
		{name: "_>=_", symbol: ">=", binary: comparison(">=", func(c int) bool { return c >= 0 }), cost: costOfArgs},
		{name: "_+_", symbol: "+", binary: add, cost: costOfResult},
		{name: "_-_", symbol: "-", binary: arithmetic("-", decimal.sub, subtract), cost: costOfArgs},
		{name: "_*_", symbol: "*", binary: arithmetic("*", decimal.mul, multiply), cost: costOfArgs},
		{name: "_/_", symbol: "/", binary: arithmetic("/", decimal.quo, divide), cost: costOfArgs},
		{name: "_%_", symbol: "%", binary: arithmetic("%", decimal.rem, modulo), cost: costOfArgs},
		{name: "-_", symbol: "-", unary: negate},
		{name: "@in", symbol: "in", binary: in, cost: costOfArgs},
		{name: "int", unary: toInt},
		{name: "uint", unary: toUint},
		{name: "double", unary: toDouble},
		{name: "string", unary: toString, cost: costOfResult},
		{name: "matches", binary: matches, cost: costOfMatch},
		{name: "replace", many: replace, params: []int{3, 4}, cost: costOfResult},
		{name: "index", unary: toIndex},
	}
}

// internalName is what o is called in the environment.
func internalName(name string) string { return "@exact." + name }

// overloadID is the id of its overload with n arguments.
func overloadID(name string, n int) string { return fmt.Sprintf("exact_%s_%d", name, n) }

// arities are the numbers of arguments it takes.
func (o operator) arities() []int {
	switch {
	case o.many != nil:
		return o.params
	case o.binary != nil:
		return []int{2}
	}
	return []int{1}
}

func (o operator) binding() cel.OverloadOpt {
	switch {
	case o.many != nil:
		return cel.FunctionBinding(o.many)
	case o.binary != nil:
		return cel.BinaryBinding(o.binary)
	}
	return cel.UnaryBinding(o.unary)
}

// equal never fails: values of different kinds are different.
func equal(a, b ref.Val) ref.Val { return types.Bool(equalValues(a, b)) }

func notEqual(a, b ref.Val) ref.Val { return types.Bool(!equalValues(a, b)) }

func equalValues(a, b ref.Val) bool {
	if isNumber(a) {
		return equalNumbers(a, b)
	}
	switch a := a.(type) {
	case traits.Lister:
		b, ok := b.(traits.Lister)
		return ok && equalLists(a, b)
	case traits.Mapper:
		b, ok := b.(traits.Mapper)
		return ok && equalMaps(a, b)
	}
	return types.Equal(a, b) == types.True
}

func equalLists(a, b traits.Lister) bool {
	if a.Size() != b.Size() {
		return false
	}
	x, y := a.Iterator(), b.Iterator()
	for x.HasNext() == types.True && y.HasNext() == types.True {
		if !equalValues(x.Next(), y.Next()) {
			return false
		}
	}
	return true
}

func equalMaps(a, b traits.Mapper) bool {
	if a.Size() != b.Size() {
		return false
	}
	for it := a.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		value, found := a.Find(key)
		other, otherFound := b.Find(key)
		if !found || !otherFound || !equalValues(value, other) {
			return false
		}
	}
	return true
}

func comparison(symbol string, accept func(int) bool) func(a, b ref.Val) ref.Val {
	return func(a, b ref.Val) ref.Val {
		if isNumber(a) && isNumber(b) {
			c, err := compareNumbers(a, b)
			if err != nil {
				return types.WrapErr(err)
			}
			return types.Bool(accept(c))
		}
		if a.Type() != b.Type() {
			return mismatch(symbol, a, b)
		}
		comparer, ok := a.(traits.Comparer)
		if !ok {
			return mismatch(symbol, a, b)
		}
		c, ok := comparer.Compare(b).(types.Int)
		if !ok {
			return mismatch(symbol, a, b)
		}
		return types.Bool(accept(int(c)))
	}
}

type binary = func(a, b ref.Val) ref.Val

// arithmetic is exact as soon as one operand is a number from the data or a
// double meets an integer; two operands of one CEL type stay CEL's.
func arithmetic(symbol string, exact func(a, b decimal) (decimal, error), native binary) binary {
	return func(a, b ref.Val) ref.Val {
		if !isNumber(a) || !isNumber(b) || a.Type() == b.Type() && !isExact(a) {
			return orMismatch(symbol, a, b, native)
		}
		d, err := decimalOf(a)
		if err != nil {
			return types.WrapErr(err)
		}
		e, err := decimalOf(b)
		if err != nil {
			return types.WrapErr(err)
		}
		result, err := exact(d, e)
		if err != nil {
			return types.NewErr("%s: %w", symbol, err)
		}
		return numberOf(result)
	}
}

func isExact(v ref.Val) bool {
	_, ok := v.(Number)
	return ok
}

func add(a, b ref.Val) ref.Val {
	return arithmetic("+", decimal.add, func(a, b ref.Val) ref.Val {
		if adder, ok := a.(traits.Adder); ok {
			return adder.Add(b)
		}
		return nil
	})(a, b)
}

func subtract(a, b ref.Val) ref.Val {
	if v, ok := a.(traits.Subtractor); ok {
		return v.Subtract(b)
	}
	return nil
}

func multiply(a, b ref.Val) ref.Val {
	if v, ok := a.(traits.Multiplier); ok {
		return v.Multiply(b)
	}
	return nil
}

func divide(a, b ref.Val) ref.Val {
	if v, ok := a.(traits.Divider); ok {
		return v.Divide(b)
	}
	return nil
}

func modulo(a, b ref.Val) ref.Val {
	if v, ok := a.(traits.Modder); ok {
		return v.Modulo(b)
	}
	return nil
}

// orMismatch runs CEL's own operator and words its refusal for people.
func orMismatch(symbol string, a, b ref.Val, native binary) ref.Val {
	result := native(a, b)
	if result == nil {
		return mismatch(symbol, a, b)
	}
	if err, failed := result.(*types.Err); failed && err.Error() == "no such overload" {
		return mismatch(symbol, a, b)
	}
	return result
}

func negate(v ref.Val) ref.Val {
	if isExact(v) {
		d, err := decimalOf(v)
		if err != nil {
			return types.WrapErr(err)
		}
		return numberOf(d.neg())
	}
	if n, ok := v.(traits.Negater); ok {
		return n.Negate()
	}
	return refuse("-", v)
}

func in(elem, container ref.Val) ref.Val {
	switch c := container.(type) {
	case traits.Mapper:
		key := elem
		if isExact(key) {
			key = toIndex(key)
		}
		if types.IsError(key) {
			return types.False
		}
		value, found := c.Find(key)
		return types.Bool(found && !types.IsError(value))
	case traits.Lister:
		for it := c.Iterator(); it.HasNext() == types.True; {
			if equalValues(elem, it.Next()) {
				return types.True
			}
		}
		return types.False
	}
	return types.WrapErr(&operandError{side: 1, null: isNull(container), what: "in", found: nameOf(container)})
}

func isNull(v ref.Val) bool {
	_, ok := v.(types.Null)
	return ok
}
