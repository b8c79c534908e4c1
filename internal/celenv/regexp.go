package celenv

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"regexp/syntax"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

const (
	// maxPatternLength and maxPatternNodes bound a regular expression that
	// comes out of the data. RE2 matches in linear time; compiling is what a
	// hostile pattern makes expensive.
	maxPatternLength = 1000
	maxPatternNodes  = 10_000
)

// pattern is a constant regular expression, compiled once at load.
type pattern struct{ re *regexp.Regexp }

func patternType() *types.Type { return types.NewOpaqueType("pattern") }

func (p pattern) ConvertToNative(reflect.Type) (any, error) {
	return nil, errors.New("a pattern has no native value")
}
func (p pattern) ConvertToType(ref.Type) ref.Val { return types.NewErr("a pattern does not convert") }
func (p pattern) Equal(other ref.Val) ref.Val    { return types.Bool(other == ref.Val(p)) }
func (p pattern) Type() ref.Type                 { return patternType() }
func (p pattern) Value() any                     { return p.re.String() }

func matches(text, expr ref.Val) ref.Val {
	s, ok := text.(types.String)
	if !ok {
		return refuse("matches()", text)
	}
	switch expr := expr.(type) {
	case pattern:
		return types.Bool(expr.re.MatchString(string(s)))
	case types.String:
		re, err := compilePattern(string(expr))
		if err != nil {
			return types.WrapErr(err)
		}
		return types.Bool(re.MatchString(string(s)))
	}
	return types.WrapErr(&operandError{side: 1, null: isNull(expr), what: "matches()", found: nameOf(expr)})
}

func compilePattern(text string) (*regexp.Regexp, error) {
	if len(text) > maxPatternLength {
		return nil, fmt.Errorf("the regular expression is longer than %d characters", maxPatternLength)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("%q is not a regular expression: %w", shorten(text), err)
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, fmt.Errorf("%q is not a regular expression: %w", shorten(text), err)
	}
	if len(program.Inst) > maxPatternNodes {
		return nil, fmt.Errorf("the regular expression %q is too large", shorten(text))
	}
	return regexp.Compile(text)
}
