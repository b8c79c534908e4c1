package email

import (
	"net/mail"
	"strings"
	"testing"
)

// FuzzAddresses: what is accepted is one word in a command of SMTP, and reads the
// same once more.
func FuzzAddresses(f *testing.F) {
	for _, seed := range []string{
		"", "a@example.com", "Ann <ann@example.com>, bob@example.com", `"a b"@example.com`, "a@[127.0.0.1]", "<a@b>\r\nRCPT TO:<c@d>",
		"é@example.com", "a@b@c", "group: a@b, c@d;", `"Ann, \"the\" <x>" <a@b>`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseAddresses(text)
		if err != nil {
			return
		}
		for _, a := range list {
			if strings.ContainsAny(a.Address, "<> \t\r\n\"\\") || strings.Count(a.Address, "@") != 1 {
				t.Errorf("%q has the address %q", text, a.Address)
			}
			if strings.ContainsAny(a.String(), "\r\n") {
				t.Errorf("%q has the header %q", text, a)
			}
			// Comments and encoded words are gone by now.
			again, err := parseAddresses((&mail.Address{Address: a.Address}).String())
			if err != nil || len(again) != 1 || again[0].Address != a.Address {
				t.Errorf("%q has the address %q, which reads as %v, %v", text, a.Address, again, err)
			}
		}
	})
}
