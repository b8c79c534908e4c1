package sms_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/sms"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const account = "AC00000000000000000000000000000001"

// base is a valid configuration for a provider.
func base(api string) sms.Config {
	return sms.Config{
		AccountSID: account, AuthToken: observer.NewSecret("auth-token-value"),
		From: "+15550001111", To: "+15552223333", BodyTemplate: "order {{ data.number }} is {{ data.status }}", APIURL: api,
	}
}

func newAction(t *testing.T, cfg sms.Config) *sms.Action {
	t.Helper()
	a, err := sms.New(cfg, actiontest.Client(t))
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
				cfg := base(r.URL + "/" + actiontest.Secret)
				cfg.BodyTemplate = message
				cfg.Redactor = observer.NewRedactor(observer.NewSecret(actiontest.Secret))
				return newAction(t, cfg)
			},
			Received: func() []string {
				var texts []string
				for _, body := range r.Bodies() {
					form, _ := url.ParseQuery(body)
					texts = append(texts, form.Get("Body")+"\n"+body)
				}
				return texts
			},
			Answer: r.Answer,
		}
	})
}

func TestRequest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name               string
		change             func(*sms.Config)
		username, password string
		uri                string
		form               url.Values
	}{
		{
			"account", func(*sms.Config) {}, account, "auth-token-value", "/2010-04-01/Accounts/" + account + "/Messages.json",
			url.Values{"From": {"+15550001111"}, "To": {"+15552223333"}, "Body": {"order 7 is a&b=c é+"}},
		},
		{
			"key, service and templates", func(c *sms.Config) {
				c.AuthToken, c.APIKey, c.APIKeySecret = observer.Secret{}, "SK0001", observer.NewSecret("key-secret-value")
				c.From, c.MessagingServiceSID = "", "MG0001"
				c.To, c.ToTemplate = "", " +1555000{{ data.number }} "
				c.APIURL += "/api/laml/"
			},
			"SK0001", "key-secret-value", "/api/laml/2010-04-01/Accounts/" + account + "/Messages.json",
			url.Values{"MessagingServiceSid": {"MG0001"}, "To": {"+15550007"}, "Body": {"order 7 is a&b=c é+"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := actiontest.NewReceiver(t)
			cfg := base(r.URL)
			tt.change(&cfg)
			if _, err := newAction(t, cfg).Execute(t.Context(), actiontest.NewDelivery(7, "a&b=c é+")); err != nil {
				t.Fatal(err)
			}
			got := r.Requests()[0]
			form, err := url.ParseQuery(got.Body)
			if diff := cmp.Diff(tt.form, form); diff != "" || err != nil {
				t.Errorf("%v %s", err, diff)
			}
			username, password, _ := (&http.Request{Header: got.Header}).BasicAuth()
			if username != tt.username || password != tt.password {
				t.Errorf("signed in as %q with %q", username, password)
			}
			if got.Method != http.MethodPost || got.URI != tt.uri || got.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
				t.Errorf("%s %s as %s", got.Method, got.URI, got.Header.Get("Content-Type"))
			}
		})
	}
}

func TestRecipientsThatAreNone(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	for status, field := range map[string]string{"": "to", "+1\n+2": "to"} {
		cfg := base(r.URL)
		cfg.To = "{{ data.status }}"
		d := actiontest.NewDelivery(7, status)
		if err := newAction(t, cfg).Prepare(t.Context(), d); observer.ReasonOf(err) != observer.ReasonTemplate || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("to %q: %v", status, err)
		}
	}
	if got := r.Bodies(); len(got) != 0 {
		t.Errorf("sent %q", got)
	}
}

func TestTooLongText(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	cfg := base(r.URL)
	cfg.BodyTemplate = "{{ data.status }}"
	a := newAction(t, cfg)
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, strings.Repeat("é", 1600))); err != nil {
		t.Errorf("1600 characters: %v", err)
	}
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, strings.Repeat("é", 1601))); observer.ReasonOf(err) != observer.ReasonTooLarge {
		t.Errorf("1601 characters: %v, want too_large", err)
	}
}

// TestRecipientIsThatOfTheMoment: a dead letter can be sent again after a wrong
// number was mended; its text stays.
func TestRecipientIsThatOfTheMoment(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	d := actiontest.NewDelivery(7, "shipped")
	cfg := base(r.URL)
	if err := newAction(t, cfg).Prepare(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	cfg.To, cfg.BodyTemplate = "+15554445555", "changed"
	if _, err := newAction(t, cfg).Execute(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	form, _ := url.ParseQuery(r.Bodies()[0])
	if form.Get("To") != "+15554445555" || form.Get("Body") != "order 7 is shipped" {
		t.Errorf("sent %v", form)
	}
}

func TestEndpointIsTheAccount(t *testing.T) {
	t.Parallel()
	endpoint := func(change func(*sms.Config)) string {
		cfg := base("")
		change(&cfg)
		return newAction(t, cfg).Endpoint(t.Context(), actiontest.NewDelivery(7, "shipped"))
	}
	one := endpoint(func(*sms.Config) {})
	if !strings.HasPrefix(one, "sms https://api.twilio.com #") || strings.Contains(one, account) {
		t.Errorf("endpoint %q", one)
	}
	if same := endpoint(func(c *sms.Config) { c.From, c.To = "+1", "+2" }); same != one {
		t.Errorf("another number: %q, before %q", same, one)
	}
	if other := endpoint(func(c *sms.Config) { c.AccountSID += "2" }); other == one {
		t.Errorf("another account: %q", other)
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*sms.Config)
		want   []string
	}{
		"empty":           {func(c *sms.Config) { *c = sms.Config{} }, []string{"account_sid", "auth_token", "from", "to", "body_template"}},
		"two credentials": {func(c *sms.Config) { c.APIKey = "SK1" }, []string{"auth_token"}},
		"half a key":      {func(c *sms.Config) { c.AuthToken, c.APIKey = observer.Secret{}, "SK1" }, []string{"api_key_secret"}},
		"the other half": {func(c *sms.Config) {
			c.AuthToken, c.APIKeySecret = observer.Secret{}, observer.NewSecret("s3cret")
		}, []string{"api_key"}},
		"a colon": {func(c *sms.Config) {
			c.AuthToken, c.APIKey, c.APIKeySecret = observer.Secret{}, "SK:1", observer.NewSecret("s3cret")
		}, []string{"api_key"}},
		"two senders":    {func(c *sms.Config) { c.MessagingServiceSID = "MG1" }, []string{"messaging_service_sid"}},
		"two recipients": {func(c *sms.Config) { c.ToTemplate = "+1" }, []string{"to_template"}},
		"account":        {func(c *sms.Config) { c.AccountSID = "AC1/../AC2" }, []string{"account_sid"}},
		"plain http":     {func(c *sms.Config) { c.APIURL = "http://sms.example.com" }, []string{"api_url"}},
		"no host":        {func(c *sms.Config) { c.APIURL = "sms.example.com" }, []string{"api_url"}},
		"query":          {func(c *sms.Config) { c.APIURL = "https://sms.example.com?x=1" }, []string{"api_url"}},
		"templates": {func(c *sms.Config) {
			c.From, c.To, c.BodyTemplate = "{{", "{{ nope }}", "{{ 1 + }}"
		}, []string{"from", "to", "body_template"}},
	} {
		cfg := base("")
		tt.change(&cfg)
		_, err := sms.New(cfg, actiontest.Client(t))
		if diff := cmp.Diff(tt.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
