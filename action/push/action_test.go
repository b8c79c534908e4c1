package push_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// base is a valid configuration for g.
func base(t *testing.T, g *google) push.Config {
	t.Helper()
	return push.Config{Credentials: g.credentials(t), APIURL: g.apiURL, Token: "device-1", BodyTemplate: "order {{ data.number }} is {{ data.status }}"}
}

func newAction(t *testing.T, cfg push.Config) *push.Action {
	t.Helper()
	a, err := push.New(cfg, actiontest.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestConformance(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for name, change := range map[string]func(cfg *push.Config, message string){
		"body": func(cfg *push.Config, message string) { cfg.BodyTemplate = message },
		"data": func(cfg *push.Config, message string) {
			cfg.BodyTemplate, cfg.Data = "", map[string]string{"text": message, "other": "x"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			actiontest.Run(t, func(t *testing.T) actiontest.Fixture {
				t.Helper()
				g, r := newGoogle(t, key), actiontest.NewReceiver(t)
				return actiontest.Fixture{
					New: func(t *testing.T, message string) observer.Action {
						t.Helper()
						cfg := base(t, g)
						change(&cfg, message)
						cfg.APIURL = r.URL + "/" + actiontest.Secret
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

func TestMessage(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for _, tt := range []struct {
		name   string
		change func(*push.Config)
		want   string
	}{
		{
			"to one app", func(c *push.Config) { c.Token, c.TitleTemplate = "device-{{ data.number }}", "{{ event.entity_type }}" },
			`{"message": {"token": "device-7", "notification": {"title": "Order", "body": "order 7 is \"<b>\""}}}`,
		},
		{
			"to a topic, for the app alone", func(c *push.Config) {
				c.Token, c.Topic, c.BodyTemplate = "", "orders-{{ data.number }}", ""
				c.Data = map[string]string{"id": "{{ data.number }}", "kind": "order"}
			},
			`{"message": {"topic": "orders-7", "data": {"id": "7", "kind": "order"}}}`,
		},
		{
			"to a condition", func(c *push.Config) { c.Token, c.Condition = "", "'a' in topics && 'b' in topics" },
			`{"message": {"condition": "'a' in topics && 'b' in topics", "notification": {"body": "order 7 is \"<b>\""}}}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGoogle(t, key)
			cfg := base(t, g)
			tt.change(&cfg)
			result, err := newAction(t, cfg).Execute(t.Context(), actiontest.NewDelivery(7, `"<b>"`))
			if err != nil || result.Status != 200 || result.Detail != "projects/shop-1/messages/1" {
				t.Fatalf("%+v, %v", result, err)
			}
			var want, got any
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(g.sent()[0]), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTargetsThatAreNone(t *testing.T) {
	t.Parallel()
	g := newGoogle(t, newKey(t))
	for _, tt := range []struct {
		status string
		change func(*push.Config)
		field  string
	}{
		{"", func(c *push.Config) { c.Token = "{{ data.status }}" }, "token"},
		{"a b", func(c *push.Config) { c.Token = "{{ data.status }}" }, "token"},
		{"a' in topics || 'b", func(c *push.Config) { c.Token, c.Topic = "", "{{ data.status }}" }, "topic"},
	} {
		cfg := base(t, g)
		tt.change(&cfg)
		err := newAction(t, cfg).Prepare(t.Context(), actiontest.NewDelivery(7, tt.status))
		if observer.ReasonOf(err) != observer.ReasonTemplate || !strings.HasPrefix(err.Error(), tt.field+": ") {
			t.Errorf("%s %q: %v", tt.field, tt.status, err)
		}
	}
	if n := g.tokensIssued(); n != 0 {
		t.Errorf("preparing asked for %d tokens", n)
	}
}

func TestTooLargeMessage(t *testing.T) {
	t.Parallel()
	cfg := base(t, newGoogle(t, newKey(t)))
	cfg.BodyTemplate, cfg.Data = "{{ data.status }}", map[string]string{"id": "1"}
	a := newAction(t, cfg)
	if err := a.Prepare(t.Context(), actiontest.NewDelivery(7, strings.Repeat("x", 4093))); err != nil {
		t.Errorf("4096 bytes: %v", err)
	}
	if err := a.Prepare(t.Context(), actiontest.NewDelivery(7, strings.Repeat("x", 4094))); observer.ReasonOf(err) != observer.ReasonTooLarge {
		t.Errorf("4097 bytes: %v, want too_large", err)
	}
}

// TestStoredPartsWin: what was rendered decides which parts a message has; who
// receives it follows the configuration.
func TestStoredPartsWin(t *testing.T) {
	t.Parallel()
	g := newGoogle(t, newKey(t))
	d, cfg := actiontest.NewDelivery(7, "shipped"), base(t, g)
	cfg.Data = map[string]string{"a": "1", "secret": "s3cret-value"}
	cfg.Redactor = observer.NewRedactor(observer.NewSecret("s3cret-value"))
	if err := newAction(t, cfg).Prepare(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(d.Request), "s3cret") {
		t.Errorf("the secret is stored: %s", d.Request)
	}
	cfg.TitleTemplate, cfg.BodyTemplate, cfg.Token = "new", "new", "device-2"
	cfg.Data = map[string]string{"a": "2", "b": "2", "secret": "s3cret-value"}
	if _, err := newAction(t, cfg).Execute(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	const want = `{"message":{"token":"device-2","notification":{"body":"order 7 is shipped"},"data":{"a":"1","secret":"s3cret-value"}}}`
	if got := g.sent()[0]; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}

func TestCredentialsFromAFile(t *testing.T) {
	t.Parallel()
	g := newGoogle(t, newKey(t))
	dir := t.TempDir()
	file := filepath.Join(dir, "key.json")
	if err := os.WriteFile(file, []byte(g.credentials(t).Reveal()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := base(t, g)
	cfg.Credentials, cfg.CredentialsFile = observer.Secret{}, file
	if _, err := newAction(t, cfg).Execute(t.Context(), actiontest.NewDelivery(7, "shipped")); err != nil {
		t.Error(err)
	}
	large := filepath.Join(dir, "large.json")
	if err := os.WriteFile(large, make([]byte, 64<<10+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"key.json", filepath.Join(dir, "none.json"), dir, "/dev/zero", large} {
		cfg.CredentialsFile = bad
		_, err := push.New(cfg, actiontest.Client(t))
		if diff := cmp.Diff([]string{"credentials_file"}, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	g := newGoogle(t, newKey(t))
	credentials := g.credentials(t).Reveal()
	with := func(old, other string) observer.Secret {
		return observer.NewSecret(strings.Replace(credentials, old, other, 1))
	}
	for name, tt := range map[string]struct {
		change func(*push.Config)
		want   []string
	}{
		"empty":            {func(c *push.Config) { *c = push.Config{} }, []string{"credentials", "token", "body_template"}},
		"two credentials":  {func(c *push.Config) { c.CredentialsFile = "/x" }, []string{"credentials_file"}},
		"no JSON":          {func(c *push.Config) { c.Credentials = observer.NewSecret("s3cret") }, []string{"credentials"}},
		"another kind":     {func(c *push.Config) { c.Credentials = with("service_account", "authorized_user") }, []string{"credentials"}},
		"no key":           {func(c *push.Config) { c.Credentials = with("BEGIN PRIVATE", "BEGIN s3cret") }, []string{"credentials"}},
		"a broken key":     {func(c *push.Config) { c.Credentials = with("MII", "AAA") }, []string{"credentials"}},
		"plain http":       {func(c *push.Config) { c.Credentials = with(g.tokenURL, "http://s3cret.example/token") }, []string{"credentials"}},
		"no project":       {func(c *push.Config) { c.Credentials = with(`"shop-1"`, `""`) }, []string{"project_id"}},
		"bad project":      {func(c *push.Config) { c.ProjectID = "a/../b" }, []string{"project_id"}},
		"two targets":      {func(c *push.Config) { c.Topic = "news" }, []string{"topic"}},
		"three targets":    {func(c *push.Config) { c.Topic, c.Condition = "news", "x" }, []string{"topic", "condition"}},
		"a topic's prefix": {func(c *push.Config) { c.Token, c.Topic = "", "/topics/news" }, []string{"topic"}},
		"open condition":   {func(c *push.Config) { c.Token, c.Condition = "", "'{{ data.x }}' in topics" }, []string{"condition"}},
		"reserved data": {func(c *push.Config) {
			c.Data = map[string]string{"from": "1", "google.x": "1", "gcm.y": "1", "message_type": "1", "ok": "1"}
		}, []string{"data.from", "data.gcm.y", "data.google.x", "data.message_type"}},
		"templates": {func(c *push.Config) {
			c.Token, c.TitleTemplate, c.BodyTemplate, c.Data = "{{", "{{ nope }}", "{{ 1 + }}", map[string]string{"a": "{{"}
		}, []string{"token", "title_template", "body_template", "data.a"}},
		"api_url": {func(c *push.Config) { c.APIURL = "http://fcm.example.com" }, []string{"api_url"}},
	} {
		cfg := base(t, g)
		tt.change(&cfg)
		_, err := push.New(cfg, actiontest.Client(t))
		if diff := cmp.Diff(tt.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the credentials show in %q", name, err)
		}
	}
}

func TestEndpointIsTheProject(t *testing.T) {
	t.Parallel()
	cfg := base(t, newGoogle(t, newKey(t)))
	cfg.APIURL = ""
	if got := newAction(t, cfg).Endpoint(t.Context(), actiontest.NewDelivery(7, "x")); got != "push https://fcm.googleapis.com/v1/projects/shop-1" {
		t.Errorf("endpoint %q", got)
	}
}
