package teams

import (
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/internal/outbound"
)

func FuzzAnswer(f *testing.F) {
	actiontest.FuzzAnswers(f, func(answer *outbound.Answer, redactor observer.Redactor) (observer.Result, error) {
		return observer.Result{Detail: outbound.Detail(redactor, answer.Body)}, outbound.Redact(redactor, judge(answer))
	}, "1", failedInside+" with error: Microsoft Teams endpoint returned HTTP error 429", failedInside+" HTTP error 999")
}
