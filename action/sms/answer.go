package sms

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// The codes of refusals that pass, whatever the status: too many requests, and
// too many messages that wait behind the sender.
const (
	tooManyRequests = 20429
	queueFull       = 21611
)

// said is what is read of an answer: a message, or an error. A message that was
// accepted has no code, or null.
type said struct {
	SID     string `json:"sid"`
	Status  any    `json:"status"` // a word of a message, the HTTP status of an error
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// read judges an answer by its status. The codes are told, and not judged by
// except where that would lose a message: the provider keeps changing which one
// means what.
func read(answer *outbound.Answer, redactor observer.Redactor) (observer.Result, error) {
	result := observer.Result{Status: answer.Status, Detail: outbound.Detail(redactor, answer.Body)}
	var s said
	if json.Unmarshal(answer.Body, &s) != nil {
		return result, answer.Judge() // from a proxy in between
	}
	if answer.OK() {
		if word, ok := s.Status.(string); ok && s.SID != "" {
			result.Detail = outbound.Detail(redactor, []byte(s.SID+" "+word))
		}
		return result, nil
	}
	err := answer.Judge()
	if s.Code == tooManyRequests || s.Code == queueFull {
		err = answer.Later(answer.Failure())
	}
	text := s.Message
	if s.Code != 0 {
		text = "code " + strconv.Itoa(s.Code) + " " + text
	}
	return result, outbound.Explain(redactor, err, strings.TrimSpace(text))
}
