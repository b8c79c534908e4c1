package actiontest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// FuzzAnswers has read judge what a receiver may say. Whatever that is: only a 2xx
// is a success, nobody waits for longer than a day, and what people see is short
// and has no secret in it. The seeds are bodies.
func FuzzAnswers(f *testing.F, read func(*outbound.Answer, observer.Redactor) (observer.Result, error), seeds ...string) {
	f.Helper()
	redactor := observer.NewRedactor(observer.NewSecret(Secret))
	statuses := []int{200, 202, 400, 401, 404, 410, 429, 500, 503}
	for i := range statuses {
		for _, seed := range append(seeds, "", "null", "[]", "<html>", `"`+Secret+`"`) {
			f.Add(byte(i), "120", seed)
		}
	}
	f.Fuzz(func(t *testing.T, i byte, retryAfter, body string) {
		status := statuses[int(i)%len(statuses)]
		result, err := read(&outbound.Answer{
			Status: status, Header: http.Header{"Retry-After": {retryAfter}}, Body: []byte(body),
		}, redactor)
		if err == nil && status >= 300 {
			t.Errorf("%d with %q is a success", status, body)
		}
		if wait, _ := observer.RetryAfterOf(err); wait < 0 || wait > 24*time.Hour {
			t.Errorf("%d with %q waits for %s", status, body, wait)
		}
		told := result.Detail
		if err != nil {
			told += err.Error()
		}
		if len(told) > 4<<10 || strings.Contains(told, Secret) {
			t.Errorf("%d with %q is told as %q", status, body, told)
		}
	})
}
