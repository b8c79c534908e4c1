package architecture

import (
	"fmt"
	"go/ast"
	"go/format"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// filesStayShort: a file that grows past the limit holds two things.
func filesStayShort(tr *tree) []string {
	var problems []string
	for _, f := range tr.files {
		limit := 500
		if f.test {
			limit = 700
		}
		if n := strings.Count(f.src, "\n"); n > limit {
			problems = append(problems, fmt.Sprintf("%s: %d lines, the limit is %d: split it", f.path, n, limit))
		}
	}
	return problems
}

// noUnfinishedMarks: what is not done is an issue, not a comment. The pattern
// is put together so that this file does not match it.
func noUnfinishedMarks(tr *tree) []string {
	mark := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b|\b[Pp]hase [0-9]`)
	var problems []string
	for _, f := range tr.files {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if found := mark.FindString(c.Text); found != "" {
					problems = append(problems, tr.at(c)+": comment says "+found)
				}
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(tr.texts)) {
		if p == ".golangci.yml" {
			continue // names the forbidden context function
		}
		for i, line := range strings.Split(tr.texts[p], "\n") {
			if found := mark.FindString(line); found != "" {
				problems = append(problems, fmt.Sprintf("%s:%d: line says %s", p, i+1, found))
			}
		}
	}
	return problems
}

// nothingSleeps: a sleep waits too long or not long enough. Inside a call of
// synctest.Test the clock is a fake one and sleeping moves it.
func nothingSleeps(tr *tree) []string {
	var problems []string
	for _, f := range tr.files {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f.test && isCall(call, "synctest", "Test") {
				return false
			}
			if isCall(call, "time", "Sleep") {
				problems = append(problems, tr.at(call)+": wait for what you are waiting for instead of sleeping")
			}
			return true
		})
	}
	return problems
}

func isCall(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// everyNolintHasAReason: it names the linters and says why, in words.
func everyNolintHasAReason(tr *tree) []string {
	good := regexp.MustCompile(`^//nolint:[a-z0-9,]+ // \S+ \S+`)
	var problems []string
	for _, f := range tr.files {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				if strings.HasPrefix(c.Text, "//nolint") && !good.MatchString(c.Text) {
					problems = append(problems, tr.at(c)+": want //nolint:LINTER // and the reason")
				}
			}
		}
	}
	return problems
}

// filesAreFormatted: gofmt would change nothing.
func filesAreFormatted(tr *tree) []string {
	var problems []string
	for _, f := range tr.files {
		formatted, err := format.Source([]byte(f.src))
		if err != nil || string(formatted) != f.src {
			problems = append(problems, f.path+": not gofmt clean, run `make fmt`")
		}
	}
	return problems
}
