package discord

import (
	"encoding/json"
	"testing"

	"github.com/fraiseql/observer"
)

// FuzzList: what is sent as embeds is a list of up to 10 objects, or the error
// says that trying again is in vain.
func FuzzList(f *testing.F) {
	for _, seed := range []string{``, `{}`, `[]`, `[{}]`, `{}, {}`, `[1]`, `null`, ` {"a": [}`, `[{}] x`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := list(text)
		if err != nil {
			if observer.Retryable(err) {
				t.Fatalf("%q: %v is transient", text, err)
			}
			return
		}
		var objects []map[string]any
		if got != nil && (json.Unmarshal(got, &objects) != nil || len(objects) > maxEmbeds) {
			t.Fatalf("%q gives %s", text, got)
		}
	})
}
