package sms

import (
	"testing"

	"github.com/fraiseql/observer/action/actiontest"
)

func FuzzAnswer(f *testing.F) {
	actiontest.FuzzAnswers(f, read, `{"sid": "SM1", "status": "queued"}`, `{"code": 20429, "message": "slow down", "status": 429}`, `{"code": 1e99}`)
}
