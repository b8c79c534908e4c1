package celenv

import (
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// maxText bounds what one call may build. Cost is charged when a call is done,
// and replacing every letter of a text by the text squares its length.
const maxText = 16 << 20

// textFunctions are those whose result can be far longer than their arguments.
func textFunctions() []cel.EnvOption {
	list := cel.ListType(cel.StringType)
	return []cel.EnvOption{
		cel.Function("join",
			cel.MemberOverload("list_join", []*cel.Type{list}, cel.StringType,
				cel.UnaryBinding(func(l ref.Val) ref.Val { return join(l, types.String("")) })),
			cel.MemberOverload("list_join_string", []*cel.Type{list, cel.StringType}, cel.StringType,
				cel.BinaryBinding(join))),
	}
}

func join(list, separator ref.Val) ref.Val {
	l, ok := list.(traits.Lister)
	sep, isText := separator.(types.String)
	if !ok || !isText {
		return refuse("join()", list)
	}
	var b strings.Builder
	first := true
	for it := l.Iterator(); it.HasNext() == types.True; {
		elem := it.Next()
		s, ok := elem.(types.String)
		if !ok {
			return types.NewErr("join() takes a list of strings, not %s: use map(x, string(x)) first", nameOf(elem))
		}
		if b.Len()+len(s)+len(sep) > maxText {
			return tooLong("join()")
		}
		if !first {
			b.WriteString(string(sep))
		}
		first = false
		b.WriteString(string(s))
	}
	return types.String(b.String())
}

// replace takes a text, what to look for, what to put there and, at will, how
// often.
func replace(args ...ref.Val) ref.Val {
	count := -1
	for _, often := range args[min(len(args), 3):] {
		n, ok := toIndex(often).(types.Int)
		if !ok {
			return refuse("replace()", often)
		}
		count = int(max(-1, min(int64(n), maxText)))
	}
	var texts [3]string
	for i, arg := range args[:min(len(args), len(texts))] {
		s, ok := arg.(types.String)
		if !ok {
			return types.WrapErr(&operandError{side: i, null: isNull(arg), what: "replace()", found: nameOf(arg)})
		}
		texts[i] = string(s)
	}
	times := strings.Count(texts[0], texts[1])
	if count >= 0 {
		times = min(times, count)
	}
	if int64(times)*int64(len(texts[2]))+int64(len(texts[0])) > maxText {
		return tooLong("replace()")
	}
	return types.String(strings.Replace(texts[0], texts[1], texts[2], count))
}

func tooLong(what string) ref.Val {
	return types.NewErr("%s would give a text of more than %d MB", what, maxText>>20)
}
