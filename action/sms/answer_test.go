package sms_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
)

// twilio answers like the Messages API: with a message to a request it can read
// from somebody it knows, else with one of its errors.
func twilio(t *testing.T, status int, answer string, header ...string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		username, password, _ := r.BasicAuth()
		status, answer := status, answer
		switch {
		case username != account || password != "auth-token-value":
			status, answer = 401, refusal(20003, "Authenticate", 401)
		case r.PostFormValue("To") == "" || r.PostFormValue("Body") == "":
			status, answer = 400, refusal(21604, "A 'To' phone number is required.", 400)
		}
		w.Header().Set("Content-Type", "application/json;charset=utf-8")
		actiontest.Say(w, status, answer, header...)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func refusal(code int, message string, status int) string {
	return fmt.Sprintf(`{"code": %d, "message": %q, "more_info": "https://www.twilio.com/docs/errors/%d", "status": %d}`, code, message, code, status)
}

const accepted = `{"account_sid": "AC1", "api_version": "2010-04-01", "body": "hi", "error_code": null, "error_message": null,
 "from": "+15550001111", "num_segments": "1", "price": null, "sid": "SM00000000000000000000000000000001", "status": "queued", "to": "+15552223333"}`

func TestAnswersOfTwilio(t *testing.T) {
	t.Parallel()
	const permanent, transient = observer.ReasonPermanent, observer.ReasonExhausted
	for _, tt := range []struct {
		name   string
		status int
		body   string
		header []string
		reason observer.Reason // "" for success
		wait   time.Duration
		says   string
	}{
		{"accepted", 201, accepted, nil, "", 0, "SM00000000000000000000000000000001 queued"},
		{"accepted by another", 200, `{"message_sid": "x"}`, nil, "", 0, `{"message_sid": "x"}`},
		{"accepted without a word", 202, ``, nil, "", 0, ""},
		{"not a number", 400, refusal(21211, "The 'To' number 1 is not a valid phone number.", 400), nil, permanent, 0, "code 21211 The 'To' number 1 is not a valid phone number."},
		{"unsubscribed", 400, refusal(21610, "Attempt to send to unsubscribed recipient", 400), nil, permanent, 0, "code 21610"},
		{"wrong password", 401, refusal(20003, "Authenticate", 401), nil, permanent, 0, "code 20003 Authenticate"},
		{"no such account", 404, refusal(20404, "The requested resource was not found", 404), nil, permanent, 0, "code 20404"},
		{"too many requests", 429, refusal(20429, "Too Many Requests", 429), []string{"Retry-After", "12"}, transient, 12 * time.Second, "code 20429 Too Many Requests"},
		{"full queue, whatever the status", 400, refusal(21611, "The 'From' number has exceeded the maximum number of queued messages", 400), nil, transient, 0, "code 21611"},
		{"down", 503, refusal(20503, "Service unavailable", 503), []string{"Retry-After", "5"}, transient, 5 * time.Second, "code 20503"},
		{"a proxy is down", 502, "<html>bad gateway</html>", nil, transient, 0, "502"},
		{"a code of another kind", 400, `{"code": "invalid", "message": "x"}`, nil, permanent, 0, "400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAction(t, base(twilio(t, tt.status, tt.body, tt.header...)))
			result, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "shipped"))
			want := actiontest.Outcome{Status: tt.status, Reason: tt.reason, Wait: tt.wait}
			if got := actiontest.OutcomeOf(result, err); got != want {
				t.Errorf("%+v (%v), want %+v", got, err, want)
			}
			if err == nil && result.Detail != tt.says || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("detail %q, error %v: want %q", result.Detail, err, tt.says)
			}
		})
	}
}

func TestWrongCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	cfg := base(twilio(t, 201, accepted))
	cfg.AuthToken = observer.NewSecret("another-token")
	_, err := newAction(t, cfg).Execute(t.Context(), actiontest.NewDelivery(7, "shipped"))
	if observer.Retryable(err) || err == nil || !strings.Contains(err.Error(), "code 20003") {
		t.Errorf("%v, want a permanent error with the code", err)
	}
}

// TestCredentialsAreNeverTold: nobody is told what a provider repeats of them.
func TestCredentialsAreNeverTold(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, refusal(20003, r.Header.Get("Authorization")+" is "+password, 401))
	}))
	t.Cleanup(server.Close)
	d := actiontest.NewDelivery(7, "shipped")
	result, err := newAction(t, base(server.URL)).Execute(t.Context(), d)
	if err == nil {
		t.Fatal("no error")
	}
	told := err.Error() + result.Detail + string(d.Request)
	if strings.Contains(told, "auth-token-value") || strings.Contains(told, "YXV0aC10b2tlbi") || !strings.Contains(told, "Basic [redacted] is [redacted]") {
		t.Errorf("told: %s", told)
	}
}
