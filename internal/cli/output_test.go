package cli

import (
	"testing"
	"time"
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
