package push

import (
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/internal/outbound"
)

func FuzzAnswer(f *testing.F) {
	a := &Action{tokens: &tokens{}}
	actiontest.FuzzAnswers(f, func(answer *outbound.Answer, redactor observer.Redactor) (observer.Result, error) {
		return a.read(answer, observer.Secret{}, redactor)
	}, `{"name": "projects/shop/messages/1"}`, `{"error": {"status": "RESOURCE_EXHAUSTED", "message": "quota"}}`,
		`{"error": {"details": [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED"}]}}`)
}
