package celenv

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
)

var (
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']*)'`)
	nullable   = regexp.MustCompile(`wrapper\(([^)]*)\)`)
	undefined  = regexp.MustCompile(`^undefined field '([^']*)'`)
	noOverload = regexp.MustCompile(`^found no matching overload for '([^']*)' applied to '(.*)'$`)
)

// describe makes one readable line of CEL's first complaint.
func describe(src string, issues *cel.Issues) error {
	first := issues.Errors()[0]
	line, column := first.Location.Line(), first.Location.Column()+1
	return &CompileError{Line: max(line, 1), Column: max(column, 1), Message: reword(src, first.Message)}
}

func reword(src, message string) string {
	if m := undeclared.FindStringSubmatch(message); m != nil && slices.Contains(knownNames(), m[1]) {
		return m[1] + " is a function or macro, called in a way it cannot be"
	} else if m != nil {
		return fmt.Sprintf("unknown name %q%s", m[1], suggest(m[1], knownNames()))
	}
	if m := undefined.FindStringSubmatch(message); m != nil {
		return fmt.Sprintf("event has no field %q%s", m[1], suggest(m[1], eventFieldNames()))
	}
	if m := noOverload.FindStringSubmatch(message); m != nil {
		return rewordOverload(m[1], m[2])
	}
	if syntax, found := strings.CutPrefix(message, "Syntax error: "); found {
		return rewordSyntax(src, syntax)
	}
	return oneLine(message)
}

// rewordSyntax drops the parser's list of every token it would have taken.
func rewordSyntax(src, message string) string {
	message, _, _ = strings.Cut(message, " expecting ")
	message = strings.ReplaceAll(message, "token recognition error at: ", "cannot read ")
	message = strings.ReplaceAll(message, "mismatched input ", "unexpected ")
	message = strings.ReplaceAll(message, "extraneous input ", "unexpected ")
	message = strings.ReplaceAll(message, "'<EOF>'", "end")
	return "syntax error: " + oneLine(message) + habit(src)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func rewordOverload(function, args string) string {
	args = nullable.ReplaceAllString(args, "$1 or null")
	symbol := strings.Trim(function, "_@")
	if macro, found := strings.CutPrefix(function, "@"); found && macro != "in" {
		return fmt.Sprintf("%s() does not take %s", macro, strings.Replace(args, eventTypeName+", ", "", 1))
	}
	if function != symbol && symbol != "" {
		return fmt.Sprintf("%s cannot be applied to %s", strings.ReplaceAll(symbol, "_", ""), args)
	}
	return fmt.Sprintf("%s() does not take %s", function, args)
}

var (
	wordOperator = regexp.MustCompile(`(?i)\b(and|or|not)\b`)
	singleEquals = regexp.MustCompile(`[^=!<>]=[^=]`)
)

// habit recognizes what people carry over from other languages.
func habit(src string) string {
	bare := withoutStrings(src)
	switch {
	case singleEquals.MatchString(bare):
		return " (compare with ==)"
	case wordOperator.MatchString(bare):
		return " (write &&, ||, ! for and, or, not)"
	}
	return ""
}

// withoutStrings blanks the string literals of src, so that what they contain
// is not taken for code.
func withoutStrings(src string) string {
	var b strings.Builder
	var quote rune
	for _, c := range src {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			continue
		case c == '\'' || c == '"':
			quote = c
		}
		b.WriteRune(c)
	}
	return b.String()
}

// knownNames are what an expression can begin with.
func knownNames() []string {
	return []string{
		"data", "old", "changes", "event", "true", "false", "null",
		"field_changed", "field_changed_to", "field_changed_from", "has_field",
		"has", "size", "int", "uint", "double", "string", "number", "bool", "bytes", "timestamp", "duration", "type", "dyn",
		"abs", "floor", "ceil", "round", "fixed",
		"contains", "startsWith", "endsWith", "matches", "all", "exists", "exists_one", "map", "filter",
		"charAt", "indexOf", "lastIndexOf", "lowerAscii", "upperAscii", "replace", "split", "substring", "trim", "join",
	}
}

func suggest(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	best, distance := "", len(name)/3+2
	for _, candidate := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(candidate)); d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// editDistance counts insertions, deletions and replacements.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			above := row[j]
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			row[j] = min(cost, above+1, row[j-1]+1)
			diagonal = above
		}
	}
	return row[len(b)]
}
