package outbound

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/fraiseql/observer"
)

// FuzzDetail: whatever a receiver says, what people see of it is short, is one
// line, and has no secret in it.
func FuzzDetail(f *testing.F) {
	const secret = "canary/ca nary"
	redactor := observer.NewRedactor(Forms(observer.NewSecret(secret))...)
	for _, seed := range []string{"", "ok", "\x1b[31mred\r\n", "\xff\xfe", "a\u202eb", strings.Repeat("é", 600)} {
		f.Add(seed, "canary%2Fca+nary")
	}
	f.Add("canary/ca\n", " nary")
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, answer := range []string{before + after, before + secret + after} {
			detail := Detail(redactor, []byte(answer))
			if len(detail) > detailBytes || !utf8.ValidString(detail) || strings.ContainsFunc(detail, unicode.IsControl) {
				t.Errorf("%q is shown as %q", answer, detail)
			}
			if strings.Contains(detail, secret) {
				t.Errorf("%q shows the secret: %q", answer, detail)
			}
		}
	})
}

// FuzzSecretURL: nothing but the host of the URL of a webhook is told.
func FuzzSecretURL(f *testing.F) {
	const token = "canaryCanaryCanary"
	for _, seed := range []string{"", "?key=", "/services/T0/", "/%2F/", "/a;", "/?a=b&token=%41", "/#"} {
		f.Add(seed, "")
		f.Add(seed, "/slack")
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		text := "https://hooks.example.com/" + before + token + after
		s, err := ParseSecretURL("slack", observer.NewSecret(text), observer.Redactor{})
		if err != nil {
			if strings.Contains(err.Error(), token) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		// Without a path and a query there is nothing to tell apart.
		hash, ok := strings.CutPrefix(s.Endpoint(), "slack hooks.example.com")
		if !ok || hash != "" && (len(hash) != len(" #1a2b3c4d") || hash[:2] != " #") {
			t.Errorf("%q has the endpoint %q", text, s.Endpoint())
		}
		if told := s.Redactor().Redact("POST " + text + " failed, " + s.to.RequestURI() + " is gone"); strings.Contains(told, token) && !strings.Contains(s.to.Fragment, token) {
			t.Errorf("%q is told as %q", text, told)
		}
	})
}
