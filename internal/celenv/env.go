package celenv

import (
	"encoding/json"
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
)

// The limits of an expression. They are far above what anybody writes and far
// below what hurts the process.
const (
	maxExpression = 10_000 // characters
	maxNodes      = 5_000  // after macros
	maxDepth      = 100    // nested parentheses, calls, selections
	maxLoops      = 3      // macros such as exists() inside each other
)

// Env compiles expressions. It is safe for concurrent use; building one costs
// about as much as compiling a few expressions.
type Env struct {
	cel *cel.Env
	ops []operator
}

// New builds the environment.
func New() (*Env, error) {
	base, err := types.NewRegistry(NumberType(), patternType())
	if err != nil {
		return nil, fmt.Errorf("build the expression environment: %w", err)
	}
	reg := &registry{Registry: base}
	e := &Env{ops: operators()}
	options := []cel.EnvOption{
		cel.CustomTypeAdapter(adapter{}),
		cel.CustomTypeProvider(reg),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.EnableIdentifierEscapeSyntax(),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxDepth),
		cel.ParserErrorRecoveryLimit(2),
		cel.ExpressionNodeLimit(maxNodes),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(),
			cel.ValidateComprehensionNestingLimit(maxLoops),
		),
		ext.Strings(ext.StringsVersion(0)),
		ext.Encoders(ext.EncodersVersion(0)),
		cel.Variable("data", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("old", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("changes", cel.MapType(cel.StringType, cel.DynType)),
		cel.Variable("event", eventType()),
		cel.Variable(hiddenEvent, eventType()),
	}
	options = append(options, changeFunctions()...)
	options = append(options, numberFunctions()...)
	options = append(options, textFunctions()...)
	options = append(options, e.operatorFunctions()...)
	e.cel, err = cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("build the expression environment: %w", err)
	}
	return e, nil
}

// operatorFunctions declares the exact operators under names that no
// expression can contain.
func (e *Env) operatorFunctions() []cel.EnvOption {
	options := make([]cel.EnvOption, 0, len(e.ops))
	for _, op := range e.ops {
		for _, n := range op.arities() {
			args := slices.Repeat([]*cel.Type{cel.DynType}, n)
			options = append(options, cel.Function(internalName(op.name),
				cel.Overload(overloadID(op.name, n), args, cel.DynType, op.binding())))
		}
	}
	return append(options, mixedArithmetic()...)
}

// mixedArithmetic lets the check accept numbers of different types. Its
// overloads have no code: the exact operators take their place. They also keep
// the check from inferring that a field times 3 is an int.
func mixedArithmetic() []cel.EnvOption {
	kinds := []*cel.Type{cel.IntType, cel.UintType, cel.DoubleType, NumberType()}
	var options []cel.EnvOption
	for _, symbol := range []string{"_+_", "_-_", "_*_", "_/_", "_%_"} {
		for _, a := range kinds {
			for _, b := range kinds {
				if a == b && a != kinds[3] {
					continue
				}
				id := fmt.Sprintf("mixed_%s_%s_%s", symbol, a, b)
				options = append(options, cel.Function(symbol, cel.Overload(id, []*cel.Type{a, b}, cel.DynType)))
			}
		}
	}
	return options
}

// costOptions prices the exact operators by the size of what they touch.
func (e *Env) costOptions() []cost.TrackerOption {
	var options []cost.TrackerOption
	for _, id := range []string{"list_join", "list_join_string", "string_split_string", "string_split_string_int"} {
		options = append(options, cost.OverloadTracker(id, costOfResult))
	}
	for _, op := range e.ops {
		if op.cost == nil {
			continue
		}
		for _, n := range op.arities() {
			options = append(options, cost.OverloadTracker(overloadID(op.name, n), op.cost))
		}
	}
	return options
}

// registry adds the event type to CEL's own types.
type registry struct{ *types.Registry }

// adapter makes CEL values of what encoding/json decodes. Objects and lists
// stay as they are until somebody looks inside.
type adapter struct{}

// NativeToValue implements types.Adapter.
func (a adapter) NativeToValue(v any) ref.Val {
	switch v := v.(type) {
	case ref.Val:
		return v
	case string:
		return types.String(v)
	case json.Number:
		return NewNumber(v)
	case map[string]any:
		return types.NewStringInterfaceMap(a, v)
	case []any:
		return types.NewList(a, v)
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}
