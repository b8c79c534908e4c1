package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/fraiseql/observer"
)

// reference matches $${ (an escape), ${NAME} and any other ${. The text ${{ is
// none of them: it is a dollar sign before a template.
var reference = regexp.MustCompile(`\$\$\{|\$\{[A-Za-z_][A-Za-z0-9_]*\}|\$\{`)

// expand replaces ${NAME} by the environment and $${ by ${, in one pass: what a
// variable contains is not looked at again. The secrets are what was inserted.
func expand(text string, lookup func(string) (string, bool)) (string, []observer.Secret, error) {
	var b strings.Builder
	var secrets []observer.Secret
	last := 0
	for _, m := range reference.FindAllStringIndex(text, -1) {
		b.WriteString(text[last:m[0]])
		last = m[1]
		switch token := text[m[0]:m[1]]; {
		case token == "$${":
			b.WriteString("${")
		case token == "${" && strings.HasPrefix(text[m[1]:], "{"):
			b.WriteString(token)
		case token == "${":
			return "", nil, errors.New("has ${ without a variable: write ${NAME} for a variable, $${ for the characters themselves")
		default:
			name := token[2 : len(token)-1]
			inserted, ok := lookup(name)
			if !ok {
				return "", nil, fmt.Errorf("environment variable %s is not set", name)
			}
			b.WriteString(inserted)
			secrets = append(secrets, observer.NewSecret(inserted))
		}
	}
	b.WriteString(text[last:])
	return b.String(), secrets, nil
}

// vault knows the secrets of a configuration and keeps them out of messages.
type vault struct {
	values   []string
	redactor observer.Redactor
}

// add makes the vault know secrets, also as Go quotes them in messages.
func (k *vault) add(secrets ...observer.Secret) {
	for _, s := range secrets {
		value := s.Reveal()
		quoted := strconv.Quote(value)
		k.values = append(k.values, value)
		k.redactor = k.redactor.With(s, observer.NewSecret(quoted[1:len(quoted)-1]))
	}
}

// fragment is how much of a secret a message may have in common with it by chance.
const fragment = 8

// safe is text without secrets. A text that repeats a part of one (what a parser
// choked on, say) is replaced as a whole, because its rest cannot be trusted.
func (k *vault) safe(text string) string {
	text = k.redactor.Redact(text)
	for _, value := range k.values {
		if sharesFragment(text, value) {
			return "is not valid (it contains a secret, so the details are not shown)"
		}
	}
	return text
}

func sharesFragment(text, secret string) bool {
	// A scheme is no secret, and messages about URLs name it.
	if _, rest, ok := strings.Cut(secret, "://"); ok {
		secret = rest
	}
	for i := 0; i+fragment <= len(secret); i++ {
		if strings.Contains(text, secret[i:i+fragment]) {
			return true
		}
	}
	return false
}
