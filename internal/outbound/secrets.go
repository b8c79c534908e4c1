package outbound

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/fraiseql/observer"
)

// leastForm is how many bytes a form of a secret has at least. A shorter one
// stands in too many texts that have nothing to do with the secret.
const leastForm = 4

// Forms are secrets as they are, and as an answer may write them that repeats
// them: without the white space around them, and inside JSON, a query or a path.
// A form too short to tell a secret from any other text is left out.
func Forms(secrets ...observer.Secret) []observer.Secret {
	var forms []observer.Secret
	for _, s := range secrets {
		forms = append(forms, s) // an empty one is ignored, as is one that is known
		trimmed := strings.TrimSpace(s.Reveal())
		inJSON := quoted(trimmed)
		for _, form := range []string{
			trimmed, inJSON, strings.ReplaceAll(inJSON, "/", `\/`), url.QueryEscape(trimmed), url.PathEscape(trimmed),
		} {
			if len(form) >= leastForm {
				forms = append(forms, observer.NewSecret(form))
			}
		}
	}
	return forms
}

// quoted is text as JSON writes it between the quotation marks.
func quoted(text string) string {
	written, err := json.Marshal(text)
	if err != nil {
		return text // texts always encode
	}
	return string(written[1 : len(written)-1])
}
