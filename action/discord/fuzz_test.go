package discord

import (
	"testing"

	"github.com/fraiseql/observer/action/actiontest"
)

func FuzzAnswer(f *testing.F) {
	actiontest.FuzzAnswers(f, read, `{"id": "1"}`, `{"code": 10015, "message": "Unknown Webhook"}`, `{"retry_after": 1e300}`, `{"retry_after": -1}`)
}
