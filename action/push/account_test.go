package push

import (
	"strings"
	"testing"
)

// FuzzAccount: what is not a key is refused without a word of it.
func FuzzAccount(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `[]`, `{"type": "service_account"}`,
		`{"type": "service_account", "client_email": "a@b", "private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}`,
		`{"type": "service_account", "client_email": "a@b", "private_key": 1}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, document string) {
		a, err := parseAccount(document)
		if (a == nil) == (err == nil) {
			t.Fatalf("%v and %v", a, err)
		}
		if err != nil && len(document) > 60 && strings.Contains(err.Error(), document) {
			t.Fatalf("the document is in %q", err)
		}
	})
}
