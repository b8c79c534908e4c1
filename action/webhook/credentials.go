package webhook

import (
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// shortestCredential is how many bytes a credential has at least: what is shorter
// would be replaced in the middle of ordinary words.
const shortestCredential = 6

// LiteralCredentials names the keys ("headers.X-Token", "url") with a credential
// that the file has as plain text, as opposed to one of the environment.
func (c Config) LiteralCredentials() []string {
	known := func(credential string) bool { return c.Redactor.Contains(credential) }
	var keys []string
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if found := headerCredentials(name, c.Headers[name]); len(found) > 0 && !slices.ContainsFunc(found, known) {
			keys = append(keys, "headers."+name)
		}
	}
	if slices.ContainsFunc(queryCredentials(c.URL), func(credential string) bool { return !known(credential) }) {
		keys = append(keys, "url")
	}
	return keys
}

// Invariant 9: credentials are what the headers and the query of the URL hold in keeping
// with their names, wherever it came from: receivers repeat what they refuse.
func (c Config) credentials() []observer.Secret {
	found := queryCredentials(c.URL)
	for name, value := range c.Headers {
		found = append(found, headerCredentials(name, value)...)
	}
	return outbound.Forms(secrets(found)...)
}

func secrets(texts []string) []observer.Secret {
	list := make([]observer.Secret, len(texts))
	for i := range texts {
		list[i] = observer.NewSecret(texts[i])
	}
	return list
}

func headerCredentials(name, value string) []string {
	return longEnough(inHeader(strings.ToLower(name), value))
}

// inHeader are the credentials in a header, also short ones.
func inHeader(name, value string) []string {
	if !credentialName(name) {
		return nil
	}
	var found []string
	for _, text := range literals(strings.TrimSpace(value)) {
		switch {
		case strings.Contains(name, "cookie"):
			for pair := range strings.SplitSeq(text, ";") {
				_, text, _ := strings.Cut(pair, "=")
				found = append(found, text)
			}
		case strings.Contains(name, "authorization"):
			found = append(found, authorization(text)...)
		default:
			found = append(found, text)
		}
	}
	return found
}

// authorization takes apart "Bearer credential", "Basic base64",
// `Token token="credential"` and a credential without a scheme.
func authorization(text string) []string {
	scheme, rest, two := strings.Cut(strings.TrimLeft(text, " "), " ")
	if !two {
		return []string{text}
	}
	found := []string{rest}
	if pair, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest)); err == nil && strings.EqualFold(scheme, "Basic") {
		_, password, _ := strings.Cut(string(pair), ":")
		found = append(found, string(pair), password)
	}
	for parameter := range strings.SplitSeq(rest, ",") {
		if name, value, ok := strings.Cut(parameter, "="); ok && credentialName(name) {
			found = append(found, strings.Trim(value, `" `))
		}
	}
	return found
}

// queryCredentials are the values of the query's parameters, as they stand in
// the URL and decoded.
func queryCredentials(template string) []string {
	const placeholder = "\x00" // no URL has it
	_, query, _ := strings.Cut(strings.Join(literals(template), placeholder), "?")
	var found []string
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		if !credentialName(name) {
			continue
		}
		for text := range strings.SplitSeq(value, placeholder) {
			found = append(found, text)
			if decoded, err := url.QueryUnescape(text); err == nil {
				found = append(found, decoded)
			}
		}
	}
	return longEnough(found)
}

// credentialName reports whether what has this name is one to keep secret.
func credentialName(name string) bool {
	name = strings.ToLower(strings.TrimSpace(name))
	for _, part := range []string{
		"authorization", "token", "secret", "key", "password", "passwd", "passphrase", "credential", "cookie", "session", "signature",
	} {
		if strings.Contains(name, part) {
			return true
		}
	}
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	return slices.ContainsFunc(words, func(word string) bool {
		return slices.Contains([]string{"auth", "pass", "pwd", "pat", "jwt", "sig"}, word)
	})
}

// literals are the texts of a template outside its placeholders.
func literals(template string) []string {
	var found []string
	for template != "" {
		text, rest, _ := strings.Cut(template, "{{")
		found = append(found, text)
		_, template, _ = strings.Cut(rest, "}}")
	}
	return found
}

func longEnough(texts []string) []string {
	var found []string
	for _, text := range texts {
		if text = strings.TrimSpace(text); len(text) >= shortestCredential {
			found = append(found, text)
		}
	}
	return found
}
