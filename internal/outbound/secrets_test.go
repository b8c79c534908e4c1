package outbound_test

import (
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// Invariant 9: whoever repeats a secret may write it in a form of his own.
func TestFormsOfASecretAreRedacted(t *testing.T) {
	t.Parallel()
	redactor := observer.NewRedactor(outbound.Forms(observer.NewSecret("p@ss w/\"rd&\n"), observer.NewSecret(""))...)
	for _, said := range []string{
		"p@ss w/\"rd&\n", `p@ss w/"rd& is wrong`, `{"bad": "p@ss w/\"rd\u0026"}`, `{"bad": "p@ss w\/\"rd\u0026"}`,
		"?q=p%40ss+w%2F%22rd%26", "/x/p@ss%20w%2F%22rd&/y",
	} {
		if text := redactor.Redact(said); strings.Contains(text, "ss") || !strings.Contains(text, "[redacted]") {
			t.Errorf("%q became %q", said, text)
		}
	}
	if redactor.Contains("another text") {
		t.Error("it finds a secret where there is none")
	}
}

// What is left of a short secret without its white space is no secret: it stands
// in every text.
func TestShortFormsOfASecretAreNone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ secret, want string }{
		{" x ", "an extra[redacted]exact"},
		{"\tab\n", "an extra x exact"},
		{"x", "an e[redacted]tra [redacted] e[redacted]act"},
		{"xact\n", "an extra x e[redacted]"},
	} {
		redactor := observer.NewRedactor(outbound.Forms(observer.NewSecret(tt.secret))...)
		if got := redactor.Redact("an extra x exact"); got != tt.want {
			t.Errorf("with the secret %q it became %q, want %q", tt.secret, got, tt.want)
		}
	}
}
