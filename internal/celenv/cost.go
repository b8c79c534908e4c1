package celenv

import (
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// costLimit is the work one evaluation may do. An ordinary condition costs
// about ten; walking a list of 10,000 objects costs about 100,000.
const costLimit = 1_000_000

// maxWalk bounds how many elements sizing a value visits: past it the
// evaluation is over its limit in any case.
const maxWalk = costLimit

func costOfArgs(args []ref.Val, _ ref.Val) *uint64 {
	left := uint64(maxWalk)
	total := uint64(1)
	for _, arg := range args {
		total += weight(arg, &left)
	}
	return &total
}

func costOfResult(_ []ref.Val, result ref.Val) *uint64 {
	left := uint64(maxWalk)
	total := 1 + weight(result, &left)
	return &total
}

func costOfMatch(args []ref.Val, _ ref.Val) *uint64 {
	total := uint64(1)
	if s, ok := args[0].(types.String); ok {
		total += uint64(len(s)) / 4
	}
	if s, ok := args[1].(types.String); ok {
		total += uint64(len(s)) * 10 // it is compiled for this one match
	}
	return &total
}

// weight is the size of what an operator looks at, in steps of about equal
// time: elements, and every tenth byte of a text.
func weight(v ref.Val, left *uint64) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v)) / 10
	case types.Bytes:
		return uint64(len(v)) / 10
	case Number:
		return uint64(len(v.text)) / 10
	case traits.Lister:
		return weightOf(v, left, func(elem ref.Val) ref.Val { return elem })
	case traits.Mapper:
		return weightOf(v, left, func(key ref.Val) ref.Val {
			value, _ := v.Find(key)
			return value
		})
	}
	return 0
}

func weightOf(v traits.Iterable, left *uint64, elem func(ref.Val) ref.Val) uint64 {
	var total uint64
	for it := v.Iterator(); it.HasNext() == types.True && *left > 0; {
		*left--
		total += 1 + weight(elem(it.Next()), left)
	}
	return total
}
