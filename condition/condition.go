// Package condition decides whether an observer wants an event: a CEL
// expression over the images and the envelope, checked when the configuration
// is loaded. The language is described in docs/conditions.md.
package condition

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/common/types"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/celenv"
)

// Condition is a compiled expression. It is safe for concurrent use.
type Condition struct {
	source  string
	program *celenv.Program
}

// Compiler compiles conditions in one environment, because building one takes
// longer than a condition. It is safe for concurrent use.
type Compiler struct{ env *celenv.Env }

// NewCompiler builds the environment.
func NewCompiler() (*Compiler, error) {
	env, err := celenv.New()
	if err != nil {
		return nil, err
	}
	return &Compiler{env: env}, nil
}

// Compile checks src: its syntax, the names it uses and that its result is
// true or false. The error says in one line what is wrong and where. An empty
// src is an error: whoever has no condition does not compile one.
func (c *Compiler) Compile(src string) (*Condition, error) {
	program, err := c.env.Compile(src)
	if err != nil {
		return nil, err
	}
	if !program.MayBe(types.BoolType) {
		return nil, fmt.Errorf("the condition gives %s, not true or false", word(program.TypeName()))
	}
	return &Condition{source: src, program: program}, nil
}

// word says in plain words what CEL calls a type.
func word(typeName string) string {
	if inner, ok := strings.CutPrefix(typeName, "wrapper("); ok {
		return word(strings.TrimSuffix(inner, ")")) + " or null"
	}
	kind, _, _ := strings.Cut(typeName, "(")
	switch kind {
	case "int", "uint", "double":
		return "a number"
	case "map":
		return "an object"
	case "null":
		return kind
	case "event":
		return "an " + kind
	}
	return "a " + kind
}

// Match reports whether e satisfies the condition. A condition that cannot be
// evaluated on e is an [observer.Permanent] error with
// [observer.ReasonCondition]; the error of a ctx that has ended is returned as
// it is.
func (c *Condition) Match(ctx context.Context, e *observer.Event) (bool, error) {
	v, err := c.program.Eval(ctx, e)
	if failed, ok := errors.AsType[*celenv.EvalError](err); ok {
		return false, c.failure(failed)
	}
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, c.failure(fmt.Errorf("it gives %s, not true or false", celenv.KindOf(v)))
	}
	return bool(b), nil
}

func (c *Condition) failure(err error) error {
	return observer.Permanent(observer.ReasonCondition, fmt.Errorf("evaluate condition `%s`: %w", c.source, err))
}

// String is the expression as it was written.
func (c *Condition) String() string { return c.source }
