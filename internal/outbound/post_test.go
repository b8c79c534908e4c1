package outbound

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

func TestParseBase(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://api.example.com":         "https://api.example.com/a/b",
		"https://api.example.com/v1/":     "https://api.example.com/v1/a/b",
		"http://127.0.0.1:8080":           "http://127.0.0.1:8080/a/b",
		"http://[::1]:80/x":               "http://[::1]:80/x/a/b",
		"http://localhost":                "http://localhost/a/b",
		"http://example.com":              "",
		"http://127.0.0.1.example.com":    "",
		"http://10.0.0.1":                 "",
		"ftp://127.0.0.1":                 "",
		"api.example.com":                 "",
		"":                                "",
		"https://user:pw@api.example.com": "",
		"https://api.example.com?x=1":     "",
		"https://api.example.com?":        "",
		"https://api.example.com#x":       "",
		"https://api.example.com/%zz":     "",
	} {
		got := ""
		if u, err := ParseBase(text); err == nil {
			got = u.JoinPath("a", "b").String()
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q is repeated in %q", text, err)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	for number, want := range map[float64]time.Duration{
		1.5: 1500 * time.Millisecond, 86400: 24 * time.Hour, 1e300: 24 * time.Hour, math.Inf(1): 24 * time.Hour,
		0: 0, -1: 0, math.Inf(-1): 0,
	} {
		if got, ok := Seconds(number); got != want || ok != (want > 0) {
			t.Errorf("%v: %v, %v; want %v", number, got, ok, want)
		}
	}
	if got, ok := Seconds(math.NaN()); got != 0 || ok {
		t.Errorf("NaN: %v", got)
	}
}

func TestExplainKeepsTheMarks(t *testing.T) {
	t.Parallel()
	known := observer.NewRedactor(observer.NewSecret("hunter2"))
	gone := Explain(known, observer.Permanent(observer.ReasonGone, errors.New("no")), "it \x1b[31mis hunter2")
	if observer.ReasonOf(gone) != observer.ReasonGone || gone.Error() != "no: it  [31mis [redacted]" {
		t.Errorf("%v (%s)", gone, observer.ReasonOf(gone))
	}
	if err := Explain(known, nil, "fine"); err != nil {
		t.Errorf("nil became %v", err)
	}
}

func TestSecretURL(t *testing.T) {
	t.Parallel()
	const url = "https://hooks.example.com/workflows/0123456789abcdef/invoke?v=1&sig=a%2Fb-cdefgh#x"
	s, err := ParseSecretURL("chat", observer.NewSecret(url), observer.NewRedactor(observer.NewSecret("of-the-config")))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		url:                           "[redacted]",
		"/workflows/0123456789abcdef": "/workflows/[redacted]",
		"a%2Fb-cdefgh a/b-cdefgh":     "[redacted] [redacted]",
		"of-the-config":               "[redacted]",
		"cannot invoke workflows":     "cannot invoke workflows",
	} {
		if got := s.Redactor().Redact(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	req, err := s.With("wait", "a&b").PostJSON(t.Context(), []byte(`{}`))
	if err != nil || req.URL.RequestURI() != "/workflows/0123456789abcdef/invoke?sig=a%2Fb-cdefgh&v=1&wait=a%26b" || req.Host != "hooks.example.com" || req.Method != http.MethodPost {
		t.Errorf("%v, %v", req, err)
	}
	other, err := ParseSecretURL("chat", observer.NewSecret(strings.Replace(url, "cdefgh", "hgfedc", 1)), observer.Redactor{})
	if err != nil || s.Endpoint() == other.Endpoint() || !strings.HasPrefix(s.Endpoint(), "chat hooks.example.com #") {
		t.Errorf("endpoints %q and %q, %v", s.Endpoint(), other.Endpoint(), err)
	}
	if again, _ := s.PostJSON(t.Context(), nil); strings.Contains(again.URL.RawQuery, "wait") {
		t.Error("With changed the address it was called on")
	}
	for _, bad := range []string{"", "s3cret", "ftp://s3cret", "https:///s3cret", "https://a:s3cret@example.com", "https://%zzs3cret"} {
		if _, err := ParseSecretURL("chat", observer.NewSecret(bad), observer.Redactor{}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
