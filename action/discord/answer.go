package discord

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// unknownWebhook is Discord's code for a webhook that was deleted.
const unknownWebhook = 10015

// said is what is read of an answer: a message, or an error.
type said struct {
	ID         string  `json:"id"`
	Code       int     `json:"code"`
	Message    string  `json:"message"`
	RetryAfter float64 `json:"retry_after"` // seconds
}

// read judges an answer. Errors name Discord's code, which says more than the
// status.
func read(answer *outbound.Answer, redactor observer.Redactor) (observer.Result, error) {
	result := observer.Result{Status: answer.Status, Detail: outbound.Detail(redactor, answer.Body)}
	var s said
	if json.Unmarshal(answer.Body, &s) != nil {
		return result, answer.Judge() // from a proxy in between
	}
	switch {
	case answer.OK() && s.ID != "":
		result.Detail = outbound.Detail(redactor, []byte("message "+s.ID))
		return result, nil
	case answer.OK():
		return result, nil
	}
	explain := func(err error) error {
		text := s.Message
		if s.Code != 0 {
			text = "code " + strconv.Itoa(s.Code) + " " + text
		}
		return outbound.Explain(redactor, err, text)
	}
	if answer.Status == http.StatusNotFound && s.Code == unknownWebhook {
		return result, observer.Permanent(observer.ReasonGone, explain(answer.Failure()))
	}
	// It has fractions of a second, the header is rounded.
	if wait, ok := outbound.Seconds(s.RetryAfter); ok && outbound.Transient(answer.Status) {
		return result, observer.RetryAfter(explain(answer.Failure()), wait)
	}
	return result, explain(answer.Judge())
}
