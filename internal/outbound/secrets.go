package outbound

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/fraiseql/observer"
)

// Forms are secrets as they are, and as an answer may write them that repeats
// them: without the white space around them, and inside JSON, a query or a path.
func Forms(secrets ...observer.Secret) []observer.Secret {
	var forms []observer.Secret
	for _, s := range secrets {
		text := s.Reveal()
		trimmed := strings.TrimSpace(text)
		inJSON := quoted(trimmed)
		for _, form := range []string{
			text, trimmed, inJSON, strings.ReplaceAll(inJSON, "/", `\/`), url.QueryEscape(trimmed), url.PathEscape(trimmed),
		} {
			forms = append(forms, observer.NewSecret(form)) // an empty one is ignored, as is one that is known
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
