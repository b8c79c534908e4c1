package webhook

import (
	"regexp"
	"slices"
	"strings"

	"github.com/fraiseql/observer"
)

// shortWords are credentials that are too short to be replaced wherever they
// occur: in answers they are where they stand as words of their own. A key or a
// cookie that is short is none: "id" is a key to sort by.
func (c Config) shortWords() []observer.Secret {
	var found []string
	for name, value := range c.Headers {
		name = strings.ToLower(name)
		if !surelySecret(name) {
			continue
		}
		for _, text := range inHeader(name, value) {
			if text = strings.TrimSpace(text); text != "" && len(text) < shortestCredential {
				found = append(found, text)
			}
		}
	}
	return secrets(found)
}

func surelySecret(name string) bool {
	return slices.ContainsFunc([]string{"authorization", "token", "secret", "pass", "credential"}, func(part string) bool {
		return strings.Contains(name, part)
	})
}

// withoutWords replaces words in a text.
func withoutWords(text string, words []observer.Secret) string {
	for _, word := range words {
		expression, err := regexp.Compile(`(^|[^0-9A-Za-z])` + regexp.QuoteMeta(word.Reveal()) + `($|[^0-9A-Za-z])`)
		if err != nil {
			return "" // a quoted text always compiles
		}
		for expression.MatchString(text) { // two that share what is between them are found one by one
			text = expression.ReplaceAllString(text, "${1}[redacted]${2}")
		}
	}
	return text
}
