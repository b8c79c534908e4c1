package observer

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Secret is a text that never prints: fmt, log/slog and encoding/json show
// [redacted]. Reveal is the only way to its value, so uses can be searched for.
type Secret struct {
	// value is behind a pointer because package fmt prints unexported fields of
	// other types without asking their methods: there it finds an address.
	value *string
}

const redacted = "[redacted]"

// NewSecret keeps value from being printed.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{value: &value}
}

// Reveal returns the value, for the one place that needs it.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.value == nil }

// String never returns the value.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// Format covers every verb of package fmt, %#v included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText covers encoding/json, TOML and log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the value from a configuration.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = NewSecret(string(b))
	return nil
}

// Redactor removes known secret values from text. The zero Redactor knows none.
// It does not print what it knows.
type Redactor struct{ known []Secret }

// NewRedactor knows the given secrets. Empty ones are ignored.
func NewRedactor(secrets ...Secret) Redactor { return Redactor{}.With(secrets...) }

// With returns a redactor that also knows the given secrets.
func (r Redactor) With(secrets ...Secret) Redactor {
	known := slices.Clone(r.known)
	for _, s := range secrets {
		same := func(k Secret) bool { return k.Reveal() == s.Reveal() }
		if !s.IsZero() && !slices.ContainsFunc(known, same) {
			known = append(known, s)
		}
	}
	// The longest first: a secret that contains another is replaced whole.
	slices.SortFunc(known, func(a, b Secret) int { return len(b.Reveal()) - len(a.Reveal()) })
	return Redactor{known: known}
}

// Contains reports whether text has a known secret in it.
func (r Redactor) Contains(text string) bool {
	return slices.ContainsFunc(r.known, func(s Secret) bool { return strings.Contains(text, s.Reveal()) })
}

// Redact replaces every known secret in text.
func (r Redactor) Redact(text string) string {
	for _, s := range r.known {
		text = strings.ReplaceAll(text, s.Reveal(), redacted)
	}
	return text
}
