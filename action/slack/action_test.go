package slack_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/slack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const path = "/services/T00000000/B00000000/abcdefghijklmnopqrstuvwx"

func newAction(t *testing.T, cfg slack.Config) *slack.Action {
	t.Helper()
	a, err := slack.New(cfg, actiontest.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestConformance(t *testing.T) {
	t.Parallel()
	actiontest.Run(t, func(t *testing.T) actiontest.Fixture {
		t.Helper()
		r := actiontest.NewReceiver(t)
		return actiontest.Fixture{
			New: func(t *testing.T, message string) observer.Action {
				t.Helper()
				return newAction(t, slack.Config{
					WebhookURL: observer.NewSecret(r.URL + path + actiontest.Secret), MessageTemplate: message,
					Redactor: observer.NewRedactor(observer.NewSecret(actiontest.Secret)),
				})
			},
			Received: r.Bodies,
			Answer:   r.Answer,
		}
	})
}

func TestPayload(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	a := newAction(t, slack.Config{
		WebhookURL: observer.NewSecret(r.URL + path), Channel: "#{{ data.status }}",
		MessageTemplate: `*{{ event.entity_type }}* <https://example.com|{{ data.status }}>`,
	})
	for _, status := range []string{"shipped", `<!channel> & "all"`} {
		if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, status)); err != nil {
			t.Fatal(err)
		}
	}
	want := []map[string]string{
		{"text": "*Order* <https://example.com|shipped>", "channel": "#shipped"},
		{"text": `*Order* <https://example.com|&lt;!channel&gt; &amp; "all">`, "channel": `#<!channel> & "all"`},
	}
	for i, got := range r.Requests() {
		var payload map[string]string
		if err := json.Unmarshal([]byte(got.Body), &payload); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[i], payload); diff != "" {
			t.Error(diff)
		}
		if got.Method != http.MethodPost || got.URI != path || !strings.HasPrefix(got.Header.Get("Content-Type"), "application/json") {
			t.Errorf("%s %s as %s", got.Method, got.URI, got.Header.Get("Content-Type"))
		}
	}
}

func TestAnswersOfSlack(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		body   string
		reason observer.Reason
		wait   time.Duration
	}{
		{200, "ok", "", 0},
		{400, "invalid_payload", observer.ReasonPermanent, 0},
		{403, "action_prohibited", observer.ReasonPermanent, 0},
		{404, "no_service", observer.ReasonPermanent, 0},
		{410, "channel_is_archived", observer.ReasonGone, 0},
		{429, "rate_limited", observer.ReasonExhausted, 30 * time.Second},
		{500, "rollup_error", observer.ReasonExhausted, 0},
	}
	for _, tt := range tests {
		t.Run(tt.body, func(t *testing.T) {
			t.Parallel()
			var header []string
			if tt.wait > 0 {
				header = []string{"Retry-After", "30"}
			}
			a := newAction(t, slack.Config{
				WebhookURL: observer.NewSecret(actiontest.Answering(t, tt.status, tt.body, header...) + path), MessageTemplate: "hi",
			})
			result, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "shipped"))
			want := actiontest.Outcome{Status: tt.status, Reason: tt.reason, Wait: tt.wait}
			if got := actiontest.OutcomeOf(result, err); got != want || result.Detail != tt.body {
				t.Errorf("%+v with %q (%v), want %+v", got, result.Detail, err, want)
			}
		})
	}
}

func TestTheWebhookIsNeverTold(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	r.Answer(actiontest.RefuseForever) // repeats the path
	live := newAction(t, slack.Config{WebhookURL: observer.NewSecret(r.URL + path), MessageTemplate: "hi"})
	dead := newAction(t, slack.Config{WebhookURL: observer.NewSecret("http://127.0.0.1:1" + path), MessageTemplate: "hi"})
	for _, a := range []*slack.Action{live, dead} {
		d := actiontest.NewDelivery(7, "shipped")
		result, err := a.Execute(t.Context(), d)
		if err == nil {
			t.Fatal("no error")
		}
		if text := err.Error() + result.Detail + string(d.Request); strings.Contains(text, "abcdefgh") || strings.Contains(text, "/services/") {
			t.Errorf("the webhook shows: %s", text)
		}
	}
}

// Servers that speak Slack's protocol have the token elsewhere in the URL.
func TestTokensOfOtherServersAreNeverTold(t *testing.T) {
	t.Parallel()
	for at, said := range map[string]string{
		"/api/webhooks/123456789/canaryCanaryCanaryCanary/slack": "unknown token canaryCanaryCanaryCanary",
		"/hook?token=canary%2Fcanary":                            "unknown token canary/canary",
		"/hook?a=1&token=canary%2Fcanary":                        "no /hook?a=1&token=canary%2Fcanary",
		"/hooks/can%20ary":                                       "no /hooks/can%20ary",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, said)
		}))
		a := newAction(t, slack.Config{WebhookURL: observer.NewSecret(server.URL + at), MessageTemplate: "hooks api slack"})
		d := actiontest.NewDelivery(7, "shipped")
		result, err := a.Execute(t.Context(), d)
		server.Close()
		if err == nil || strings.Contains(result.Detail, "can") || !strings.Contains(result.Detail, "[redacted]") {
			t.Errorf("%s: the token shows in %q of %v", at, result.Detail, err)
		}
		if !strings.Contains(string(d.Request), "hooks api slack") {
			t.Errorf("%s: words of the path count as secrets: %s was stored", at, d.Request)
		}
	}
}

func TestTooLongMessage(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	a := newAction(t, slack.Config{WebhookURL: observer.NewSecret(r.URL + path), MessageTemplate: "{{ data.status }}"})
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, strings.Repeat("é", 40_000))); err != nil {
		t.Errorf("40000 characters: %v", err)
	}
	_, err := a.Execute(t.Context(), actiontest.NewDelivery(7, strings.Repeat("é", 40_001)))
	if observer.ReasonOf(err) != observer.ReasonTooLarge {
		t.Errorf("40001 characters: %v, want a permanent error with reason too_large", err)
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		cfg  slack.Config
		want []string
	}{
		{"empty", slack.Config{}, []string{"webhook_url", "message_template"}},
		{"bad templates", slack.Config{WebhookURL: observer.NewSecret("https://hooks.slack.com/x"), MessageTemplate: "{{ nope }}", Channel: "{{"},
			[]string{"channel", "message_template"}},
		{"not a URL", slack.Config{WebhookURL: observer.NewSecret("hooks.slack.com/s3cret"), MessageTemplate: "x"}, []string{"webhook_url"}},
		{"not http", slack.Config{WebhookURL: observer.NewSecret("ftp://s3cret"), MessageTemplate: "x"}, []string{"webhook_url"}},
	}
	for _, tt := range tests {
		_, err := slack.New(tt.cfg, actiontest.Client(t))
		if diff := cmp.Diff(tt.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the webhook shows in %q", tt.name, err)
		}
	}
}

func TestEndpointTellsWebhooksApartAndHidesThem(t *testing.T) {
	t.Parallel()
	endpoint := func(url string) string {
		cfg := slack.Config{WebhookURL: observer.NewSecret(url), MessageTemplate: "hi"}
		return newAction(t, cfg).Endpoint(t.Context(), actiontest.NewDelivery(7, "shipped"))
	}
	one, other := endpoint("https://hooks.slack.com"+path), endpoint("https://hooks.slack.com"+path+"y")
	hash, named := strings.CutPrefix(one, "slack hooks.slack.com #")
	if !named || len(hash) != 8 || strings.Contains(path, hash) {
		t.Errorf("endpoint %q", one)
	}
	if one == other || one != endpoint("https://hooks.slack.com"+path) {
		t.Errorf("endpoints %q and %q", one, other)
	}
}
