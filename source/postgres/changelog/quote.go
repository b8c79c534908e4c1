package changelog

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// QuoteName writes a name, qualified by its schema where two are given, so that no
// character of it has a meaning in SQL.
func QuoteName(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// QuoteText writes an SQL text literal, whatever standard_conforming_strings is.
func QuoteText(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if strings.Contains(quoted, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// QuoteBody quotes the body of a function.
func QuoteBody(body string) string {
	tag := "$body$"
	for i := 1; strings.Contains(body, tag); i++ {
		tag = fmt.Sprintf("$body%d$", i)
	}
	return tag + "\n" + body + "\n" + tag
}
