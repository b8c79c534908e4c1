package cli

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second:                   "0s",
		400 * time.Millisecond:         "0s",
		59 * time.Second:               "59s",
		60 * time.Second:               "1m0s",
		2*time.Hour + 5*time.Minute:    "2h5m",
		47*time.Hour + 59*time.Minute:  "47h59m",
		48 * time.Hour:                 "2d",
		100*24*time.Hour + time.Minute: "100d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%s) = %q, want %q", d, got, want)
		}
	}
}

// What others wrote cannot steer the terminal or break a table.
func TestPrintable(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		`C:\shop "x" é 日本`:      `C:\shop "x" é 日本`,
		"a\tb\nc":               `a\tb\nc`,
		"\x1b[31mred\x1b]0;x\a": `\x1b[31mred\x1b]0;x\a`,
		"quote\" and \x7f":      `quote" and \x7f`,
		"\xff\u202e":            `\xff\u202e`,
	} {
		if got := printable(s); got != want {
			t.Errorf("printable(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	if got := short("äöüß", 3); got != "äö…" {
		t.Errorf("short = %q", got)
	}
	if got := short("äöüß", 4); got != "äöüß" {
		t.Errorf("short = %q", got)
	}
}

// What every row has in common says nothing; what remains is the cause.
func TestCause(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"attempt 3 of 3 failed: POST http://127.0.0.1:80: status 503 Service Unavailable":            "status 503 Service Unavailable",
		"PUT https://[::1]:8443: dial tcp [::1]:8443: connect: connection refused":                   "dial tcp [::1]:8443: connect: connection refused",
		"POST https://shop.example: status 302 Found to https://a.example (redirects are not ...)":   "status 302 Found to https://a.example (redirects are not ...)",
		"attempt 1 of 1 failed: smtp server mail.example:25: 554 no":                                 "smtp server mail.example:25: 554 no",
		"evaluate condition `data.a == 'x' > 3`: data.a is not there":                                "data.a is not there",
		"the condition of observer x cannot be evaluated: POST http://a: is data, and not a request": "the condition of observer x cannot be evaluated: POST http://a: is data, and not a request",
	} {
		if got := cause(text); got != want {
			t.Errorf("cause(%q) = %q, want %q", text, got, want)
		}
	}
}

// Only a terminal has a width to keep to.
func TestListKeepsToTheTerminal(t *testing.T) {
	t.Parallel()
	long := "status 422 " + strings.Repeat("x", 300)
	p := page{Items: []letter{{Observer: "hook", ActionType: "webhook", Key: "k", Error: "POST http://a: " + long}}}
	for _, tt := range []struct{ width, want int }{{0, len(long)}, {200, 0}, {20, leastError}} {
		var b strings.Builder
		writePage(&b, p, true, tt.width)
		line := strings.Split(b.String(), "\n")[1]
		at := strings.Index(line, "status 422")
		if at < 0 {
			t.Fatalf("at width %d the cause is not shown: %s", tt.width, line)
		}
		if got := utf8.RuneCountInString(line[at:]); tt.want > 0 && got != tt.want {
			t.Errorf("at width %d the error has %d characters, want %d: %s", tt.width, got, tt.want, line)
		}
		if got := utf8.RuneCountInString(line); tt.want == 0 && got != tt.width {
			t.Errorf("the line has %d characters, want %d: %s", got, tt.width, line)
		}
	}
}
