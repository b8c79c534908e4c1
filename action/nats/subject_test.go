package nats

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzToken: every value stays in one token of a subject, from which it can be
// read again.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{"", "order-7_a", "a.b", "*", ">", "a b", "\r\nPUB x 1", "%2A", "é", "\xff\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		token, err := encodeToken(value)
		if (err != nil) != (value == "") {
			t.Fatalf("%q: %v", value, err)
		}
		if err != nil {
			return
		}
		if err := checkSubject("orders." + token); err != nil || strings.Contains(token, ".") {
			t.Errorf("%q became the token %q: %v", value, token, err)
		}
		if back, err := url.PathUnescape(token); err != nil || back != value {
			t.Errorf("%q became %q and that is %q, %v", value, token, back, err)
		}
	})
}

// FuzzSubject: a subject that is accepted is one line of the protocol and has a
// name in each token.
func FuzzSubject(f *testing.F) {
	for _, seed := range []string{"orders", "orders.shipped", "orders.", ".", "$SYS.x", "a b", "a\r\nb", "*", "a.>", "a*", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		if checkSubject(subject) != nil {
			return
		}
		if strings.ContainsAny(subject, " \t\r\n\x00") || strings.Contains("."+subject+".", "..") || strings.HasPrefix(subject, "$") {
			t.Errorf("%q is accepted", subject)
		}
	})
}
