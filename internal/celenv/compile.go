package celenv

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/fraiseql/observer"
)

// Program is a compiled expression. It is safe for concurrent use.
type Program struct {
	program cel.Program
	nodes   map[int64]ast.Expr
	output  *types.Type
}

// CompileError is a mistake in an expression and where it stands.
type CompileError struct {
	// Line and Column count from 1, in characters.
	Line, Column int
	// Message says what is wrong, in one line.
	Message string
}

func (e *CompileError) Error() string {
	if e.Line > 1 {
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
	}
	return fmt.Sprintf("column %d: %s", e.Column, e.Message)
}

// Compile checks and plans src. The error is a [CompileError].
func (e *Env) Compile(src string) (p *Program, err error) {
	defer func() {
		// The parser is generated code that has panicked on odd input before;
		// a condition must never take the process down.
		if r := recover(); r != nil {
			p, err = nil, &CompileError{Line: 1, Column: 1, Message: "the expression cannot be understood"}
		}
	}()
	if strings.TrimSpace(src) == "" {
		return nil, &CompileError{Line: 1, Column: 1, Message: "the expression is empty"}
	}
	checked, issues := e.cel.Compile(src)
	if issues.Err() != nil {
		return nil, describe(src, issues)
	}
	tree := ast.Copy(checked.NativeRep())
	nodes := nodesOf(checked.NativeRep())
	if err := rewrite(tree, src, e.ops); err != nil {
		return nil, err
	}
	program, err := e.cel.PlanProgram(tree, cel.EvalOptions(cel.OptOptimize),
		cel.CostLimit(costLimit), cel.CostTrackerOptions(e.costOptions()...))
	if err != nil {
		return nil, &CompileError{Line: 1, Column: 1, Message: err.Error()}
	}
	return &Program{program: program, nodes: nodes, output: checked.OutputType()}, nil
}

func nodesOf(tree *ast.AST) map[int64]ast.Expr {
	nodes := make(map[int64]ast.Expr)
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) { nodes[e.ID()] = e }))
	return nodes
}

// MayBe reports whether the result can be of the type t.
func (p *Program) MayBe(t *types.Type) bool {
	return p.output.IsExactType(t) || p.output.Kind() == types.DynKind
}

// TypeName is the type of the result, for error messages.
func (p *Program) TypeName() string { return cel.FormatCELType(p.output) }

// Eval computes the expression for one event. Its errors are sentences for
// people. A ctx that has ended is reported as such, without evaluating.
func (p *Program) Eval(ctx context.Context, e *observer.Event) (ref.Val, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, _, err := p.program.Eval(&Event{Event: e})
	if err != nil {
		return nil, &EvalError{err: p.explain(err)}
	}
	if types.IsUnknown(v) {
		return nil, &EvalError{err: errors.New("the expression has no value")}
	}
	return v, nil
}

// EvalError is a failure that evaluating again will repeat.
type EvalError struct{ err error }

func (e *EvalError) Error() string { return e.err.Error() }
func (e *EvalError) Unwrap() error { return e.err }
