package celenv

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// operandError says that an operator met a value it cannot work on. Which
// field that was is added where the expression is known.
type operandError struct {
	// side is the operand at fault, from 0.
	side int
	// null says that it was null, found what kind of value it was otherwise.
	null  bool
	found string
	// other is what stood on the other side; "" for an operator of one operand.
	other string
	// what is the operator or function as the user writes it.
	what string
}

func (e *operandError) Error() string { return e.describe("the value") }

func (e *operandError) describe(operand string) string {
	switch {
	case e.null:
		return fmt.Sprintf("%s is null and %s needs a value: test it first, as in `%s != null && ...`",
			operand, e.what, operand)
	case e.other != "":
		return fmt.Sprintf("%s cannot be applied to %s (%s) and %s: convert one of them with number() or string()",
			e.what, e.found, operand, e.other)
	}
	return fmt.Sprintf("%s cannot be applied to %s (%s)", e.what, e.found, operand)
}

func refuse(what string, v ref.Val) ref.Val {
	return types.WrapErr(&operandError{null: isNull(v), what: what, found: nameOf(v)})
}

func mismatch(symbol string, a, b ref.Val) ref.Val {
	e := &operandError{what: symbol, found: nameOf(a), other: nameOf(b)}
	switch {
	case isNull(a):
		e.null = true
	case isNull(b):
		e.null, e.side, e.found, e.other = true, 1, e.other, e.found
	}
	return types.WrapErr(e)
}

// KindOf is the kind of a value in the words of the documentation.
func KindOf(v ref.Val) string { return nameOf(v) }

// nameOf is the kind of a value in the words of the documentation.
func nameOf(v ref.Val) string {
	switch name := v.Type().TypeName(); name {
	case "null_type":
		return "null"
	case "google.protobuf.Timestamp":
		return "a timestamp"
	case "google.protobuf.Duration":
		return "a duration"
	case "int", "uint", "double", numberTypeName:
		return "a number"
	case "string", "list", "map", "bool":
		return "a " + name
	default:
		return name
	}
}

// explain turns an evaluation error into one sentence that names the field.
func (p *Program) explain(err error) error {
	var node *types.Err
	if !errors.As(err, &node) {
		if strings.Contains(err.Error(), "cost limit exceeded") {
			return errors.New("the expression does too much work on this event: it was stopped")
		}
		return err
	}
	if operand, ok := errors.AsType[*operandError](err); ok {
		return errors.New(operand.describe(p.operandText(node.NodeID(), operand.side)))
	}
	message := node.String()
	if key, found := strings.CutPrefix(message, "no such key: "); found {
		return p.missing(node.NodeID(), key)
	}
	if strings.HasPrefix(message, "no such overload") {
		return p.noOverload(node)
	}
	return errors.Unwrap(node)
}

// missing words the access to a field that the event does not have.
func (p *Program) missing(id int64, key string) error {
	expr := p.nodes[id]
	for expr != nil && expr.Kind() == ast.SelectKind {
		sel := expr.AsSelect()
		path := pathOf(expr)
		if sel.FieldName() == key && path != "" {
			return fmt.Errorf("%s is not there: the event has no field %q; where it may be missing, test has(%s) first",
				path, key, path)
		}
		expr = sel.Operand()
	}
	return fmt.Errorf("there is no field %q; where it may be missing, test it first with has()", key)
}

func (p *Program) noOverload(node *types.Err) error {
	expr := p.nodes[node.NodeID()]
	if expr == nil || expr.Kind() != ast.CallKind {
		return errors.New("a value is of the wrong kind or null")
	}
	call := expr.AsCall()
	if symbol, logical := logicalSymbol(call.FunctionName()); logical {
		return fmt.Errorf("%s needs true or false on both sides", symbol)
	}
	var operands []string
	if call.IsMemberFunction() {
		operands = append(operands, pathOrValue(call.Target()))
	}
	for _, arg := range call.Args() {
		operands = append(operands, pathOrValue(arg))
	}
	return fmt.Errorf("%s() cannot be applied: a value is null or of the wrong kind (%s)",
		call.FunctionName(), strings.Join(operands, ", "))
}

func logicalSymbol(function string) (string, bool) {
	switch function {
	case "_&&_":
		return "&&", true
	case "_||_":
		return "||", true
	case "!_":
		return "!", true
	case "_?_:_":
		return "?:", true
	}
	return "", false
}

// operandText is the side-th operand of the node as the user wrote it, as far
// as it is a path.
func (p *Program) operandText(id int64, side int) string {
	expr := p.nodes[id]
	if expr == nil || expr.Kind() != ast.CallKind {
		return "the value"
	}
	call := expr.AsCall()
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	if side >= len(args) {
		return "the value"
	}
	return pathOrValue(args[side])
}

func pathOrValue(e ast.Expr) string {
	if path := pathOf(e); path != "" {
		return path
	}
	return "the value"
}

// pathOf writes a chain of names, such as data.customer.email; "" when the
// expression is anything else.
func pathOf(e ast.Expr) string {
	switch e.Kind() {
	case ast.IdentKind:
		name := e.AsIdent()
		if strings.HasPrefix(name, "@") {
			return ""
		}
		return name
	case ast.SelectKind:
		if operand := pathOf(e.AsSelect().Operand()); operand != "" {
			return operand + "." + e.AsSelect().FieldName()
		}
	default: // no chain of names
	}
	return ""
}
