package teams_test

import (
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
	"github.com/fraiseql/observer/action/teams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// workflow is the path and the query of a webhook of Workflows.
const workflow = "/workflows/0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke" +
	"?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=AbCdEfGhIjKlMnOpQrStUvWxYz0123456789_-AbCdE"

func newAction(t *testing.T, cfg teams.Config) *teams.Action {
	t.Helper()
	a, err := teams.New(cfg, actiontest.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]func(message string) teams.Config{
		"message": func(message string) teams.Config { return teams.Config{MessageTemplate: message} },
		"card": func(message string) teams.Config {
			return teams.Config{CardTemplate: `{"type": "AdaptiveCard", "body": [{"type": "TextBlock", "text": "` + message + `"}]}`}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			actiontest.Run(t, func(t *testing.T) actiontest.Fixture {
				t.Helper()
				r := actiontest.NewReceiver(t)
				return actiontest.Fixture{
					New: func(t *testing.T, message string) observer.Action {
						t.Helper()
						cfg := config(message)
						cfg.WebhookURL = observer.NewSecret(r.URL + workflow + actiontest.Secret)
						cfg.Redactor = observer.NewRedactor(observer.NewSecret(actiontest.Secret))
						return newAction(t, cfg)
					},
					Received: r.Bodies,
					Answer:   r.Answer,
				}
			})
		})
	}
}

func TestPayload(t *testing.T) {
	t.Parallel()
	const wrapped = `{"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": `
	for _, tt := range []struct {
		cfg  teams.Config
		want string
	}{
		{
			teams.Config{MessageTemplate: "**{{ event.entity_type }}** {{ data.status }}"},
			`{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
			  "body": [{"type": "TextBlock", "text": "**Order** \\[x\\]\\(https://evil.example) & \"all\"", "wrap": true}]}`,
		},
		{
			teams.Config{TitleTemplate: "Order {{ data.number }}", MessageTemplate: "hi"},
			`{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
			  "body": [{"type": "TextBlock", "text": "Order 7", "size": "Large", "weight": "Bolder", "wrap": true}, {"type": "TextBlock", "text": "hi", "wrap": true}]}`,
		},
		{
			teams.Config{CardTemplate: `{"type": "AdaptiveCard", "body": [{"type": "FactSet", "facts": [{"title": "n", "value": "{{ data.number }}"}]}]}`},
			`{"type": "AdaptiveCard", "body": [{"type": "FactSet", "facts": [{"title": "n", "value": "7"}]}]}`,
		},
	} {
		r := actiontest.NewReceiver(t)
		tt.cfg.WebhookURL = observer.NewSecret(r.URL + workflow)
		if _, err := newAction(t, tt.cfg).Execute(t.Context(), actiontest.NewDelivery(7, `[x](https://evil.example) & "all"`)); err != nil {
			t.Fatal(err)
		}
		got := r.Requests()[0]
		if got.Method != http.MethodPost || got.URI != workflow || !strings.HasPrefix(got.Header.Get("Content-Type"), "application/json") {
			t.Errorf("%s %s as %s", got.Method, got.URI, got.Header.Get("Content-Type"))
		}
		if diff := actiontest.DiffJSON(t, wrapped+tt.want+"}]}", got.Body); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAnswersOfTeams(t *testing.T) {
	t.Parallel()
	const permanent, transient = observer.ReasonPermanent, observer.ReasonExhausted
	const failed = "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error "
	for _, tt := range []struct {
		name   string
		status int
		body   string
		header string
		reason observer.Reason // "" for success
		wait   time.Duration
	}{
		{"workflow", 202, "", "", "", 0},
		{"incoming webhook", 200, "1", "", "", 0},
		{"slow down, as 200", 200, failed + "429 with ContextId tcid=0,server=DB3PEPF00000A5B", "", transient, 0},
		{"down, as 200", 200, failed + "502 with ContextId tcid=0", "", transient, 0},
		{"refused, as 200", 200, failed + "403 with ContextId tcid=0", "", permanent, 0},
		{"gone, as 200", 200, failed + "410 with ContextId tcid=0", "", observer.ReasonGone, 0},
		{"failed, as 200", 200, "Webhook message delivery failed", "", transient, 0},
		{"slow down", 429, `{"error": {"code": "WorkflowTriggerRequestThrottled"}}`, "7", transient, 7 * time.Second},
		{"too large", 413, "", "", permanent, 0},
		{"wrong signature", 401, `{"error": {"code": "DirectApiAuthorizationRequired"}}`, "", permanent, 0},
		{"removed", 404, `{"error": {"code": "WorkflowNotFound"}}`, "", permanent, 0},
		{"off", 400, `{"error": {"code": "WorkflowTriggerIsNotEnabled"}}`, "", permanent, 0},
		{"connector removed", 410, "Connector configuration not found", "", observer.ReasonGone, 0},
		{"down", 502, "", "", transient, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := actiontest.Answering(t, tt.status, tt.body, "Retry-After", tt.header) + workflow
			a := newAction(t, teams.Config{WebhookURL: observer.NewSecret(url), MessageTemplate: "hi"})
			result, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "shipped"))
			want := actiontest.Outcome{Status: tt.status, Reason: tt.reason, Wait: tt.wait}
			if got := actiontest.OutcomeOf(result, err); got != want || result.Detail != tt.body {
				t.Errorf("%+v with %q (%v), want %+v", got, result.Detail, err, want)
			}
		})
	}
}

// TestTheWebhookIsNeverTold: a receiver that repeats the URL, or a part of it,
// tells nobody.
func TestTheWebhookIsNeverTold(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, r.RequestURI+" "+r.URL.Path+" sig "+r.URL.Query().Get("sig")+" flow "+strings.Split(r.URL.Path, "/")[2])
	}))
	t.Cleanup(server.Close)
	for _, url := range []string{server.URL + workflow, "http://127.0.0.1:1" + workflow} {
		a, d := newAction(t, teams.Config{WebhookURL: observer.NewSecret(url), MessageTemplate: "hi"}), actiontest.NewDelivery(7, "shipped")
		result, err := a.Execute(t.Context(), d)
		if err == nil {
			t.Fatal("no error")
		}
		told := err.Error() + result.Detail + string(d.Request) + a.Endpoint(t.Context(), d)
		for _, part := range []string{"AbCdEfGh", "0123456789abcdef", "/triggers"} {
			if strings.Contains(told, part) {
				t.Errorf("%q shows: %s", part, told)
			}
		}
		if !strings.Contains(a.Endpoint(t.Context(), d), "teams 127.0.0.1:") {
			t.Errorf("endpoint %q", a.Endpoint(t.Context(), d))
		}
	}
}

func TestTooLargeCard(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	a := newAction(t, teams.Config{WebhookURL: observer.NewSecret(r.URL + workflow), MessageTemplate: "{{ data.status }}"})
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, strings.Repeat("é&", 9000))); err != nil {
		t.Errorf("27000 bytes: %v", err)
	}
	_, err := a.Execute(t.Context(), actiontest.NewDelivery(7, strings.Repeat("é&", 10_000)))
	if observer.ReasonOf(err) != observer.ReasonTooLarge {
		t.Errorf("30000 bytes: %v, want too_large", err)
	}
}

func TestStoredFormWins(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	url := observer.NewSecret(r.URL + workflow)
	text := teams.Config{WebhookURL: url, MessageTemplate: "text"}
	card := teams.Config{WebhookURL: url, CardTemplate: `{"type": "AdaptiveCard"}`}
	titled := teams.Config{WebhookURL: url, TitleTemplate: "title", MessageTemplate: "other"}
	for _, order := range [][]teams.Config{{text, card, titled}, {card, text, titled}} {
		d, before := actiontest.NewDelivery(7, "shipped"), len(r.Bodies())
		for _, cfg := range order {
			if _, err := newAction(t, cfg).Execute(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.Bodies()[before:]; got[0] != got[1] || got[0] != got[2] {
			t.Errorf("one key, several bodies: %q", got)
		}
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	url := observer.NewSecret("https://prod-00.westeurope.logic.azure.com" + workflow)
	for name, tt := range map[string]struct {
		cfg  teams.Config
		want []string
	}{
		"empty":  {teams.Config{}, []string{"webhook_url", "message_template"}},
		"both":   {teams.Config{WebhookURL: url, MessageTemplate: "x", CardTemplate: "{}"}, []string{"card_template"}},
		"titled": {teams.Config{WebhookURL: url, TitleTemplate: "x", CardTemplate: "{}"}, []string{"card_template"}},
		"no URL": {teams.Config{WebhookURL: observer.NewSecret("s3cret"), MessageTemplate: "x"}, []string{"webhook_url"}},
		"templates": {
			teams.Config{WebhookURL: url, TitleTemplate: "{{", MessageTemplate: "{{ nope }}"},
			[]string{"title_template", "message_template"},
		},
		"no JSON": {teams.Config{WebhookURL: url, CardTemplate: "{"}, []string{"card_template"}},
	} {
		_, err := teams.New(tt.cfg, actiontest.Client(t))
		if diff := cmp.Diff(tt.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the webhook shows in %q", name, err)
		}
	}
}
