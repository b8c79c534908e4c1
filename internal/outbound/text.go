package outbound

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fraiseql/observer"
)

// detailBytes is the longest Detail of a result.
const detailBytes = 1 << 10

// Detail is the beginning of an answer as people may see it: at most 1 KiB of
// valid UTF-8 on one line, without control characters and without what redactor
// knows.
func Detail(redactor observer.Redactor, answer []byte) string {
	// A secret is recognized as it was sent, and as it looks on one line.
	text := redactor.Redact(strings.ToValidUTF8(string(answer), "\uFFFD"))
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' ' // terminal escapes, line breaks, marks that reorder text
		}
		return r
	}, text)
	// Redact before cutting: half a secret is not recognised any more.
	return cut(strings.TrimSpace(redactor.Redact(text)))
}

func cut(text string) string {
	if len(text) <= detailBytes {
		return text
	}
	end := detailBytes
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// Redact gives an error whose text does not contain what redactor knows. Its
// permanence, reason and wait are those of err, as is whether its outcome is
// unknown, and errors.Is still finds what err wraps; errors.As does not, for it
// would hand out the original text.
func Redact(redactor observer.Redactor, err error) error {
	if err == nil {
		return nil
	}
	hidden := error(&redactedError{text: redactor.Redact(err.Error()), cause: err})
	if observer.IsOutcomeUnknown(err) {
		hidden = observer.OutcomeUnknown(hidden)
	}
	if !observer.Retryable(err) {
		return observer.Permanent(observer.ReasonOf(err), hidden)
	}
	if wait, ok := observer.RetryAfterOf(err); ok {
		return observer.RetryAfter(hidden, wait)
	}
	return hidden
}

type redactedError struct {
	text  string
	cause error
}

func (e *redactedError) Error() string        { return e.text }
func (e *redactedError) Is(target error) bool { return errors.Is(e.cause, target) }
