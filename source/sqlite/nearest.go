package sqlite

import (
	"slices"
	"strings"

	"github.com/fraiseql/observer"
)

// missingError is a name that is not in the schema. It matches
// [observer.ErrNotFound].
type missingError struct {
	what string
	// near are the names that were probably meant, the most similar first.
	near []string
}

// missing says that what, which was called name, is not one of names.
func missing(what, name string, names []string) error {
	return &missingError{what: what, near: nearest(name, names, 3)}
}

func (e *missingError) Error() string {
	switch len(e.near) {
	case 0:
		return e.what
	case 1:
		return e.what + " (the nearest name is " + e.near[0] + ")"
	}
	return e.what + " (the nearest names are " + strings.Join(e.near, ", ") + ")"
}

func (e *missingError) Is(target error) bool { return target == observer.ErrNotFound }

// nearest gives up to n of names, the most similar first.
func nearest(name string, names []string, n int) []string {
	sorted := slices.Clone(names)
	slices.SortStableFunc(sorted, func(a, b string) int { return distance(name, a) - distance(name, b) })
	return sorted[:min(n, len(sorted))]
}

// distance counts the letters to change, add or drop, whatever their case.
func distance(a, b string) int {
	s, t := []rune(strings.ToLower(a)), []rune(strings.ToLower(b))
	line := make([]int, len(t)+1)
	for j := range line {
		line[j] = j
	}
	for i, r := range s {
		diagonal := line[0]
		line[0] = i + 1
		for j, u := range t {
			cost := diagonal
			if r != u {
				cost++
			}
			diagonal, line[j+1] = line[j+1], min(cost, line[j]+1, line[j+1]+1)
		}
	}
	return line[len(t)]
}
