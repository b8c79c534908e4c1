package discord_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/discord"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const path = "/api/webhooks/1104000000000000001/aBcDeFgHiJkLmNoPqRsTuVwXyZ-0123456789_aBcDeFgHiJkLmNoPqRsTuVwXyZ0"

func newAction(t *testing.T, cfg discord.Config) *discord.Action {
	t.Helper()
	a, err := discord.New(cfg, actiontest.Client(t))
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
				return newAction(t, discord.Config{
					WebhookURL: observer.NewSecret(r.URL + path + actiontest.Secret), MessageTemplate: message,
					Redactor: observer.NewRedactor(observer.NewSecret(actiontest.Secret)),
				})
			},
			Received: r.Bodies,
			Answer:   r.Answer,
		}
	})
}

// answering is a webhook of Discord that gives one answer.
func answering(t *testing.T, status int, body string, header ...string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Query().Get("wait") != "true" || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			status, body = http.StatusTeapot, "not what Discord reads"
		}
		w.Header().Set("Content-Type", "application/json")
		actiontest.Say(w, status, body, header...)
	}))
	t.Cleanup(server.Close)
	return server.URL + path
}

func TestPayload(t *testing.T) {
	t.Parallel()
	const embed = `{"title": "Order {{ data.number }}", "fields": [{"name": "status", "value": {{ data.status }}, "inline": true}]}`
	for _, tt := range []struct {
		name      string
		cfg       discord.Config
		uri, want string
	}{
		{
			"text", discord.Config{MessageTemplate: "**{{ event.entity_type }}** {{ data.status }}"}, "?wait=true",
			`{"content": "**Order** \\*all\\* \\<@1\\> @\u200beveryone", "allowed_mentions": {"parse": []}}`,
		},
		{
			"one embed", discord.Config{EmbedsTemplate: embed, Username: "shop {{ data.number }}", ThreadID: "{{ data.number }}"}, "?thread_id=7&wait=true",
			`{"embeds": [{"title": "Order 7", "fields": [{"name": "status", "value": "*all* <@1> @everyone", "inline": true}]}],
			  "username": "shop 7", "allowed_mentions": {"parse": []}}`,
		},
		{
			"a list, and mentions", discord.Config{EmbedsTemplate: `[{"title": "a"}, {"title": "b"}]`, MessageTemplate: "hi", AllowedMentions: []string{"users"}}, "?wait=true",
			`{"content": "hi", "embeds": [{"title": "a"}, {"title": "b"}], "allowed_mentions": {"parse": ["users"]}}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := actiontest.NewReceiver(t)
			tt.cfg.WebhookURL = observer.NewSecret(r.URL + path)
			if _, err := newAction(t, tt.cfg).Execute(t.Context(), actiontest.NewDelivery(7, "*all* <@1> @everyone")); err != nil {
				t.Fatal(err)
			}
			got := r.Requests()[0]
			if got.Method != http.MethodPost || got.URI != path+tt.uri {
				t.Errorf("%s %s, want POST %s", got.Method, got.URI, path+tt.uri)
			}
			if diff := actiontest.DiffJSON(t, tt.want, got.Body); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnswersOfDiscord(t *testing.T) {
	t.Parallel()
	const permanent, transient = observer.ReasonPermanent, observer.ReasonExhausted
	for _, tt := range []struct {
		name   string
		status int
		body   string
		header []string
		reason observer.Reason // "" for success
		wait   time.Duration
		says   string // in the detail, or in the error
	}{
		{"accepted", 200, `{"id": "1104000000000000009", "type": 0, "content": "hi", "channel_id": "2"}`, nil, "", 0, "message 1104000000000000009"},
		{"rate limited", 429, `{"message": "You are being rate limited.", "retry_after": 1.337, "global": false}`, []string{"Retry-After", "2"}, transient, 1337 * time.Millisecond, "You are being rate limited."},
		{"by Cloudflare", 429, `<html>error code: 1015</html>`, []string{"Retry-After", "900"}, transient, 15 * time.Minute, "429"},
		{"a wait of years", 429, `{"retry_after": 1e30}`, nil, transient, 24 * time.Hour, "429"},
		{"a wait that is none", 429, `{"retry_after": -5}`, []string{"Retry-After", "3"}, transient, 3 * time.Second, "429"},
		{"deleted", 404, `{"message": "Unknown Webhook", "code": 10015}`, nil, observer.ReasonGone, 0, "code 10015 Unknown Webhook"},
		{"no such thread", 404, `{"message": "Unknown Channel", "code": 10003}`, nil, permanent, 0, "code 10003 Unknown Channel"},
		{"wrong token", 401, `{"message": "Invalid Webhook Token", "code": 50027}`, nil, permanent, 0, "code 50027 Invalid Webhook Token"},
		{"invalid", 400, `{"message": "Invalid Form Body", "code": 50035, "errors": {"content": {"_errors": [{"code": "BASE_TYPE_MAX_LENGTH"}]}}}`, nil, permanent, 0, "code 50035 Invalid Form Body"},
		{"an old form of errors", 400, `{"embeds": ["0"]}`, nil, permanent, 0, "400"},
		{"down", 502, `bad gateway`, nil, transient, 0, "502"},
		{"down, as JSON", 500, `{"message": "500: Internal Server Error", "code": 0}`, nil, transient, 0, "500: Internal Server Error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAction(t, discord.Config{WebhookURL: observer.NewSecret(answering(t, tt.status, tt.body, tt.header...)), MessageTemplate: "hi"})
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

func TestLimitsOfDiscord(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	text := newAction(t, discord.Config{WebhookURL: observer.NewSecret(r.URL + path), MessageTemplate: "{{ data.status }}"})
	if _, err := text.Execute(t.Context(), actiontest.NewDelivery(7, strings.Repeat("é", 2000))); err != nil {
		t.Errorf("2000 characters: %v", err)
	}
	if _, err := text.Execute(t.Context(), actiontest.NewDelivery(7, strings.Repeat("é", 2001))); observer.ReasonOf(err) != observer.ReasonTooLarge {
		t.Errorf("2001 characters: %v, want too_large", err)
	}
	embeds := func(template string) error {
		a := newAction(t, discord.Config{WebhookURL: observer.NewSecret(r.URL + path), EmbedsTemplate: template})
		return a.Prepare(t.Context(), actiontest.NewDelivery(7, "shipped"))
	}
	if err := embeds(`[` + strings.Repeat(`{"title": "a"},`, 9) + `{}]`); err != nil {
		t.Errorf("10 embeds: %v", err)
	}
	if err := embeds(`[` + strings.Repeat(`{"title": "a"},`, 10) + `{}]`); observer.ReasonOf(err) != observer.ReasonTooLarge {
		t.Errorf("11 embeds: %v, want too_large", err)
	}
	if err := embeds(`{{ data.status }}`); observer.ReasonOf(err) != observer.ReasonTemplate {
		t.Errorf("a text for an embed: %v, want template", err)
	}
}

// TestStoredPartsWin: a part that was added to the configuration later is not
// sent with what was rendered before.
func TestStoredPartsWin(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	d := actiontest.NewDelivery(7, "shipped")
	url := observer.NewSecret(r.URL + path)
	for _, cfg := range []discord.Config{
		{WebhookURL: url, MessageTemplate: "text"},
		{WebhookURL: url, MessageTemplate: "other", EmbedsTemplate: `{"title": "new"}`},
		{WebhookURL: url, EmbedsTemplate: `{"title": "new"}`},
	} {
		if _, err := newAction(t, cfg).Execute(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.Bodies(); got[0] != got[1] || got[0] != got[2] {
		t.Errorf("one key, several bodies: %q", got)
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	url := observer.NewSecret("https://discord.com" + path)
	for name, tt := range map[string]struct {
		cfg  discord.Config
		want []string
	}{
		"empty":    {discord.Config{}, []string{"webhook_url", "message_template"}},
		"no URL":   {discord.Config{WebhookURL: observer.NewSecret("discord.com/s3cret"), MessageTemplate: "x"}, []string{"webhook_url"}},
		"mentions": {discord.Config{WebhookURL: url, MessageTemplate: "x", AllowedMentions: []string{"users", "@here"}}, []string{"allowed_mentions"}},
		"templates": {
			discord.Config{WebhookURL: url, MessageTemplate: "{{ nope }}", EmbedsTemplate: "{", Username: "{{", ThreadID: "{{ 1 + }}"},
			[]string{"message_template", "embeds_template", "username", "thread_id"},
		},
	} {
		_, err := discord.New(tt.cfg, actiontest.Client(t))
		if diff := cmp.Diff(tt.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the webhook shows in %q", name, err)
		}
	}
}
