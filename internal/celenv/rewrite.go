package celenv

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// rewriter replaces the operators of a checked expression that may meet a
// [Number]. The check has happened on the original, so users see CEL's types
// in compile errors, and the positions stay.
type rewriter struct {
	tree    *ast.AST
	factory ast.ExprFactory
	source  []rune
	nextID  int64
	exact   map[string]operator
	err     error
}

func rewrite(tree *ast.AST, source string, ops []operator) error {
	r := &rewriter{
		tree: tree, factory: ast.NewExprFactory(), source: []rune(source),
		nextID: ast.MaxID(tree), exact: make(map[string]operator, len(ops)),
	}
	for _, op := range ops {
		r.exact[op.name] = op
	}
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(r.visit))
	return r.err
}

func (r *rewriter) visit(e ast.Expr) {
	if r.err != nil || e.Kind() != ast.CallKind {
		return
	}
	call := e.AsCall()
	switch name := call.FunctionName(); {
	case name == "_[_]":
		r.replaceArgs(e, func(i int, arg ast.Expr) ast.Expr {
			if i == 0 {
				return arg // what is indexed
			}
			return r.indexArg(arg)
		})
	case name == "matches":
		r.rewriteMatches(e)
	case name == "replace" && call.IsMemberFunction():
		r.replaceCall(e, name, append([]ast.Expr{call.Target()}, call.Args()...))
	case r.isOperator(name, call):
		r.replaceCall(e, name, mapExprs(call.Args(), r.exactLiteral))
	case takesPosition(name) && call.IsMemberFunction():
		r.replaceArgs(e, func(_ int, arg ast.Expr) ast.Expr { return r.indexArg(arg) })
	}
}

// isOperator reports whether the call must know numbers. It need not when a
// side is of a kind that no number is, and CEL's own plan is faster.
func (r *rewriter) isOperator(name string, call ast.CallExpr) bool {
	if _, known := r.exact[name]; !known || call.IsMemberFunction() {
		return false
	}
	switch name {
	case "_==_", "_!=_":
		return !slices.ContainsFunc(call.Args(), r.neverNumeric)
	case "@in":
		return !r.isTextList(call.Args()[1])
	case "_+_":
		return !r.isListConcat(call.Args())
	}
	return true
}

func (r *rewriter) neverNumeric(e ast.Expr) bool {
	switch r.tree.GetType(e.ID()).Kind() {
	case types.StringKind, types.BoolKind, types.BytesKind, types.TimestampKind,
		types.DurationKind, types.NullTypeKind, types.TypeKind:
		return true
	default: // may be a number at run time
	}
	return false
}

// isListConcat spares the accumulation step of map() and filter(), which CEL
// does in place.
func (r *rewriter) isListConcat(args []ast.Expr) bool {
	return args[0].Kind() == ast.IdentKind && strings.HasPrefix(args[0].AsIdent(), "@") &&
		args[1].Kind() == ast.ListKind
}

func (r *rewriter) isTextList(e ast.Expr) bool {
	if e.Kind() != ast.ListKind {
		return false
	}
	for _, elem := range e.AsList().Elements() {
		if elem.Kind() != ast.LiteralKind || elem.AsLiteral().Type() != types.StringType {
			return false
		}
	}
	return true
}

// takesPosition lists the functions of texts that have int parameters.
func takesPosition(name string) bool {
	switch name {
	case "charAt", "substring", "indexOf", "lastIndexOf", "split":
		return true
	}
	return false
}

func (r *rewriter) replaceCall(e ast.Expr, name string, args []ast.Expr) {
	e.SetKindCase(r.factory.NewCall(e.ID(), internalName(name), args...))
	r.tree.SetReference(e.ID(), ast.NewFunctionReference(overloadID(name, len(args))))
}

// replaceArgs changes the arguments of a call and leaves the rest.
func (r *rewriter) replaceArgs(e ast.Expr, change func(i int, arg ast.Expr) ast.Expr) {
	call := e.AsCall()
	args := make([]ast.Expr, len(call.Args()))
	for i, arg := range call.Args() {
		args[i] = change(i, arg)
	}
	if call.IsMemberFunction() {
		e.SetKindCase(r.factory.NewMemberCall(e.ID(), call.FunctionName(), call.Target(), args...))
		return
	}
	e.SetKindCase(r.factory.NewCall(e.ID(), call.FunctionName(), args...))
}

func mapExprs(exprs []ast.Expr, change func(ast.Expr) ast.Expr) []ast.Expr {
	out := make([]ast.Expr, len(exprs))
	for i, e := range exprs {
		out[i] = change(e)
	}
	return out
}

// indexArg wraps what may be a number where CEL wants an int.
func (r *rewriter) indexArg(arg ast.Expr) ast.Expr {
	kind := r.tree.GetType(arg.ID()).Kind()
	mayBeNumber := kind == types.DynKind || kind == types.IntKind || kind == types.DoubleKind
	if arg.Kind() == ast.LiteralKind || !mayBeNumber {
		return arg
	}
	return r.wrap("index", arg)
}

func (r *rewriter) wrap(name string, arg ast.Expr) ast.Expr {
	r.nextID++
	id := r.nextID
	if at, ok := r.tree.SourceInfo().GetOffsetRange(arg.ID()); ok {
		r.tree.SourceInfo().SetOffsetRange(id, at)
	}
	r.tree.SetType(id, types.DynType)
	r.tree.SetReference(id, ast.NewFunctionReference(overloadID(name, 1)))
	return r.factory.NewCall(id, internalName(name), arg)
}

// exactLiteral gives a decimal literal every digit the user wrote; the parser
// has kept those of a double.
func (r *rewriter) exactLiteral(e ast.Expr) ast.Expr {
	switch e.Kind() {
	case ast.LiteralKind:
		if text, ok := r.literalText(e); ok {
			return r.factory.NewLiteral(e.ID(), Number{text: text})
		}
	case ast.ListKind:
		list := e.AsList()
		return r.factory.NewList(e.ID(), mapExprs(list.Elements(), r.exactLiteral), list.OptionalIndices())
	default: // no literal in it
	}
	return e
}

// literalText is the source of a double literal when its decimal value differs
// from that of the double, so that only those change.
func (r *rewriter) literalText(e ast.Expr) (string, bool) {
	double, ok := e.AsLiteral().(types.Double)
	at, known := r.tree.SourceInfo().GetOffsetRange(e.ID())
	if !ok || !known || at.Start < 0 || int(at.Start) >= len(r.source) {
		return "", false
	}
	text := numberPrefix(r.source[at.Start:])
	written, err := parseDecimal(text)
	if err != nil {
		return "", false
	}
	kept, err := decimalOf(double)
	if err == nil && kept.compare(written) == 0 {
		return "", false
	}
	return written.String(), true
}

func numberPrefix(s []rune) string {
	end := 0
	for end < len(s) {
		c := s[end]
		sign := (c == '-' || c == '+') && (end == 0 || s[end-1] == 'e' || s[end-1] == 'E')
		if !sign && c != '.' && c != 'e' && c != 'E' && (c < '0' || c > '9') {
			break
		}
		end++
	}
	text := string(s[:end])
	if strings.HasPrefix(text, ".") {
		return "0" + text
	}
	return text
}

// rewriteMatches compiles a constant pattern now: a wrong one is a load error.
func (r *rewriter) rewriteMatches(e ast.Expr) {
	call := e.AsCall()
	args := call.Args()
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	if len(args) != 2 {
		return
	}
	expr := args[1]
	if text, ok := constantText(expr); ok {
		re, err := compilePattern(text)
		if err != nil {
			at := r.tree.SourceInfo().GetStartLocation(expr.ID())
			r.err = &CompileError{Line: at.Line(), Column: at.Column() + 1, Message: err.Error()}
			return
		}
		expr = r.factory.NewLiteral(expr.ID(), pattern{re: re})
	}
	r.replaceCall(e, "matches", []ast.Expr{args[0], expr})
}

func constantText(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}
