package push_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
)

// refusal is an error as FCM documents it; code is that of an FcmError.
func refusal(status int, word, code string) string {
	details := ""
	if code != "" {
		details = fmt.Sprintf(`, "details": [{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": []},
			{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": %q}]`, code)
	}
	return fmt.Sprintf(`{"error": {"code": %d, "message": "some explanation", "status": %q%s}}`, status, word, details)
}

func TestAnswersOfFirebase(t *testing.T) {
	t.Parallel()
	const permanent, transient = observer.ReasonPermanent, observer.ReasonExhausted
	key := newKey(t)
	for _, tt := range []struct {
		name   string
		status int
		body   string
		after  string // Retry-After
		reason observer.Reason
		wait   time.Duration
		says   string
	}{
		{"app removed", 404, refusal(404, "NOT_FOUND", "UNREGISTERED"), "", permanent, 0, "UNREGISTERED some explanation"},
		{"app removed, another status", 410, refusal(410, "NOT_FOUND", "UNREGISTERED"), "", permanent, 0, "UNREGISTERED"},
		{"app of another project", 403, refusal(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), "", permanent, 0, "SENDER_ID_MISMATCH"},
		{"not a token", 400, refusal(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), "", permanent, 0, "INVALID_ARGUMENT"},
		{"not a message", 400, refusal(400, "INVALID_ARGUMENT", ""), "", permanent, 0, "INVALID_ARGUMENT"},
		{"no key of Apple", 401, refusal(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), "", permanent, 0, "THIRD_PARTY_AUTH_ERROR"},
		{"API not enabled", 403, refusal(403, "PERMISSION_DENIED", ""), "", permanent, 0, "PERMISSION_DENIED"},
		{"quota", 429, refusal(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), "17", transient, 17 * time.Second, "QUOTA_EXCEEDED"},
		{"quota, without a time", 429, refusal(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), "", transient, time.Minute, "QUOTA_EXCEEDED"},
		{"overloaded", 503, refusal(503, "UNAVAILABLE", "UNAVAILABLE"), "10", transient, 10 * time.Second, "UNAVAILABLE"},
		{"broken", 500, refusal(500, "INTERNAL", "INTERNAL"), "", transient, 0, "INTERNAL"},
		{"aborted", 409, refusal(409, "ABORTED", ""), "", transient, 0, "ABORTED"},
		{"a word of the future", 400, refusal(400, "NEW_WORD", "UNSPECIFIED_ERROR"), "", permanent, 0, "NEW_WORD"},
		{"a proxy", 502, "<html>", "", transient, 0, "502"},
		{"not an error as documented", 400, `{"error": "text"}`, "", permanent, 0, "400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGoogle(t, key)
			g.status, g.answer, g.header = tt.status, tt.body, http.Header{}
			if tt.after != "" {
				g.header.Set("Retry-After", tt.after)
			}
			a := newAction(t, base(t, g))
			for range 2 {
				result, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "shipped"))
				wait, _ := observer.RetryAfterOf(err)
				if result.Status != tt.status || wait != tt.wait || observer.IsOutcomeUnknown(err) {
					t.Errorf("%+v, wait %v", result, wait)
				}
				if err == nil || observer.ReasonOf(err) != tt.reason || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v, want reason %q and %q", err, tt.reason, tt.says)
				}
			}
			if n := g.tokensIssued(); n != 1 {
				t.Errorf("%d tokens were issued, want 1: the token is a good one", n)
			}
		})
	}
}

// TestRefusedTokenIsReplaced: a token that is not accepted any more fails one
// attempt, which can be repeated, and the next one has another.
func TestRefusedTokenIsReplaced(t *testing.T) {
	t.Parallel()
	g := newGoogle(t, newKey(t))
	a, d := newAction(t, base(t, g)), actiontest.NewDelivery(7, "shipped")
	if _, err := a.Execute(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	g.set(func(g *google) { g.valid = "" })
	result, err := a.Execute(t.Context(), d)
	if err == nil || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) || result.Status != 401 {
		t.Errorf("%+v, %v; want a transient error", result, err)
	}
	if told := fmt.Sprint(err, result); strings.Contains(told, "ya29") || !strings.Contains(told, "UNAUTHENTICATED") {
		t.Errorf("told: %s", told)
	}
	if _, err := a.Execute(t.Context(), d); err != nil || g.tokensIssued() != 2 {
		t.Errorf("after a new token: %v, %d issued", err, g.tokensIssued())
	}
}

// TestOneTokenForAll: deliveries share a token, and one request for it.
func TestOneTokenForAll(t *testing.T) {
	t.Parallel()
	g := newGoogle(t, newKey(t))
	a := newAction(t, base(t, g))
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if _, err := a.Execute(t.Context(), actiontest.NewDelivery(i, "shipped")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := g.tokensIssued(); n != 1 || len(g.sent()) != 32 {
		t.Errorf("%d tokens for %d messages", n, len(g.sent()))
	}
}

// TestNoTokenNoMessage: whatever the token service does, it is known that nothing
// was sent.
func TestNoTokenNoMessage(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	say := func(status int, header, body string) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			if header != "" {
				w.Header().Set("Retry-After", header)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
			return true
		}
	}
	for name, tt := range map[string]struct {
		refuse    func(http.ResponseWriter) bool
		retryable bool
		wait      time.Duration
		says      string
	}{
		"key withdrawn": {say(400, "", `{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}`), false, 0, "invalid_grant: Invalid JWT Signature."},
		"down":          {say(503, "9", `unavailable`), true, 9 * time.Second, "503"},
		"no token":      {say(200, "", `{"id_token": "ya29.secret"}`), true, 0, "no access_token"},
		"no lifetime":   {say(200, "", `{"access_token": "ya29.secret"}`), true, 0, "no access_token with expires_in"},
		"nonsense":      {say(200, "", `ya29.secret`), true, 0, "no access_token"},
		"hangs up": {func(w http.ResponseWriter) bool {
			if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_ = conn.Close()
			}
			return true
		}, true, 0, "get an access token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGoogle(t, key)
			g.refuse = tt.refuse
			d := actiontest.NewDelivery(7, "shipped")
			a := newAction(t, base(t, g))
			result, err := a.Execute(t.Context(), d)
			wait, _ := observer.RetryAfterOf(err)
			if err == nil || observer.Retryable(err) != tt.retryable || observer.IsOutcomeUnknown(err) || wait != tt.wait {
				t.Errorf("%v (wait %v), want retryable %v with a known outcome", err, wait, tt.retryable)
			}
			if told := fmt.Sprint(err, result); strings.Contains(told, "ya29") || !strings.Contains(told, tt.says) {
				t.Errorf("told %s, want %q", told, tt.says)
			}
			if len(d.Request) == 0 || len(g.sent()) != 0 {
				t.Errorf("stored %s, sent %q", d.Request, g.sent())
			}
			g.set(func(g *google) { g.refuse = nil })
			if _, err := a.Execute(t.Context(), d); err != nil {
				t.Errorf("the service is back: %v", err)
			}
		})
	}
}
