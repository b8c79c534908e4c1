package celenv

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// maxPlaces bounds round(x, places) and fixed(x, places).
const maxPlaces = 100

// numberFunctions are what people need to present exact numbers.
func numberFunctions() []cel.EnvOption {
	one, two := []*cel.Type{cel.DynType}, []*cel.Type{cel.DynType, cel.IntType}
	return []cel.EnvOption{
		cel.Function("number", cel.Overload("number_dyn", one, cel.DynType, cel.UnaryBinding(toNumber))),
		cel.Function("abs", cel.Overload("abs_dyn", one, cel.DynType, cel.UnaryBinding(abs))),
		cel.Function("floor", cel.Overload("floor_dyn", one, cel.DynType, cel.UnaryBinding(rounder("floor()", roundDown)))),
		cel.Function("ceil", cel.Overload("ceil_dyn", one, cel.DynType, cel.UnaryBinding(rounder("ceil()", roundUp)))),
		cel.Function("round",
			cel.Overload("round_dyn", one, cel.DynType, cel.UnaryBinding(rounder("round()", roundHalfUp))),
			cel.Overload("round_dyn_int", two, cel.DynType, cel.BinaryBinding(roundTo))),
		cel.Function("fixed", cel.Overload("fixed_dyn_int", two, cel.StringType, cel.BinaryBinding(fixed))),
	}
}

func abs(v ref.Val) ref.Val {
	d, err := decimalOf(v)
	if err != nil {
		return refuse("abs()", v)
	}
	d.negative = false
	return numberOf(d)
}

func rounder(name string, mode rounding) func(ref.Val) ref.Val {
	return func(v ref.Val) ref.Val {
		d, err := decimalOf(v)
		if err != nil {
			return refuse(name, v)
		}
		return numberOf(d.roundAt(0, mode))
	}
}

func roundTo(v, places ref.Val) ref.Val {
	d, n, failure := placesOf("round()", v, places)
	if failure != nil {
		return failure
	}
	return numberOf(d.roundAt(int64(-n), roundHalfUp))
}

func fixed(v, places ref.Val) ref.Val {
	d, n, failure := placesOf("fixed()", v, places)
	if failure != nil {
		return failure
	}
	text, err := d.fixed(n)
	if err != nil {
		return types.NewErr("fixed(): %w", err)
	}
	return types.String(text)
}

func placesOf(name string, v, places ref.Val) (decimal, int, ref.Val) {
	d, err := decimalOf(v)
	if err != nil {
		return decimal{}, 0, refuse(name, v)
	}
	n, ok := places.(types.Int)
	if !ok || n < 0 || n > maxPlaces {
		return decimal{}, 0, types.NewErr("%s takes 0 to %d decimal places", name, maxPlaces)
	}
	return d, int(n), nil
}
