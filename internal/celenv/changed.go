package celenv

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/fraiseql/observer"
)

// changeFunctions are field_changed and its relatives. They have no receiver,
// so a macro hands them the event.
func changeFunctions() []cel.EnvOption {
	typ := eventType()
	field := []*cel.Type{typ, cel.StringType}
	value := []*cel.Type{typ, cel.StringType, cel.DynType}
	declare := func(name string, args []*cel.Type, usage string, impl func(e *Event, args []ref.Val) ref.Val) []cel.EnvOption {
		return []cel.EnvOption{
			cel.Macros(cel.GlobalVarArgMacro(name, withEvent(name, len(args)-1, usage))),
			cel.Function("@"+name, cel.Overload("event_"+name, args, cel.BoolType,
				cel.FunctionBinding(func(args ...ref.Val) ref.Val {
					e, ok := args[0].(*Event)
					if !ok {
						return types.NewErr("%s() needs an event", name)
					}
					return impl(e, args[1:])
				}))),
		}
	}
	var options []cel.EnvOption
	options = append(options, declare("field_changed", field, "field_changed('status')", fieldChanged)...)
	options = append(options, declare("field_changed_to", value, "field_changed_to('status', 'shipped')", fieldChangedTo)...)
	options = append(options, declare("field_changed_from", value, "field_changed_from('status', 'new')", fieldChangedFrom)...)
	options = append(options, declare("has_field", field, "has_field('email')", hasField)...)
	return options
}

func withEvent(name string, params int, usage string) cel.MacroFactory {
	return func(mef cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
		if len(args) != params {
			return nil, mef.NewError(0, name+" is written "+usage)
		}
		return mef.NewCall("@"+name, append([]ast.Expr{mef.NewIdent(hiddenEvent)}, args...)...), nil
	}
}

func fieldChanged(e *Event, args []ref.Val) ref.Val {
	_, changed, failure := e.changeOf("field_changed", args[0])
	return boolOr(failure, changed)
}

func fieldChangedTo(e *Event, args []ref.Val) ref.Val {
	change, changed, failure := e.changeOf("field_changed_to", args[0])
	return boolOr(failure, changed && equalValues(adapter{}.NativeToValue(change.New), args[1]))
}

func fieldChangedFrom(e *Event, args []ref.Val) ref.Val {
	change, changed, failure := e.changeOf("field_changed_from", args[0])
	return boolOr(failure, changed && equalValues(adapter{}.NativeToValue(change.Old), args[1]))
}

func hasField(e *Event, args []ref.Val) ref.Val {
	name, ok := args[0].(types.String)
	if !ok {
		return refuse("has_field()", args[0])
	}
	fields, err := e.Fields()
	if err != nil {
		return types.WrapErr(err)
	}
	_, there := fields[string(name)]
	return types.Bool(there)
}

func boolOr(failure ref.Val, v bool) ref.Val {
	if failure != nil {
		return failure
	}
	return types.Bool(v)
}

// changeOf compares one field of the two images; the others are not looked at.
// Only an UPDATE changes fields.
func (e *Event) changeOf(function string, arg ref.Val) (observer.Change, bool, ref.Val) {
	name, ok := arg.(types.String)
	if !ok {
		return observer.Change{}, false, refuse(function+"()", arg)
	}
	if e.Operation != observer.Update {
		return observer.Change{}, false, nil
	}
	old, err := e.Old()
	if err == nil && old == nil {
		err = e.noBeforeImage(function + "('" + string(name) + "')")
	}
	if err != nil {
		return observer.Change{}, false, types.WrapErr(err)
	}
	after, err := e.Fields()
	if err != nil {
		return observer.Change{}, false, types.WrapErr(err)
	}
	before, was := old[string(name)]
	now, is := after[string(name)]
	changed := was != is || !observer.EqualValues(before, now)
	return observer.Change{Old: before, New: now}, changed, nil
}
