package config_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/email"
	"github.com/fraiseql/observer/action/webhook"
	"github.com/fraiseql/observer/config"
)

// TestVariablesOverrideTheFile sets one variable at a time over a file that has
// another value, and looks at the field.
func TestVariablesOverrideTheFile(t *testing.T) {
	t.Parallel()
	const file = `
databases = [{ name = "shop", url = "sqlite:shop.db" }, { name = "stock", url = "sqlite:stock.db" }]
[[observers]]
name = "o"
entity = "Order"
event_type = "UPDATE"
condition = "data.a == 1"
[[observers.actions]]
type = "log"
[[observers.actions]]
type = "webhook"
url = "https://example.com/file"
headers = { X-Shop = "file" }
[[observers.actions]]
type = "email"
to = "file@example.com"
subject = "x"
body_template = "x"
[alert]
type = "log"
[smtp]
host = "mail.example.com"
from = "a@example.com"
`
	hook := func(c *config.Config) *webhook.Config { return c.Observers[0].Actions[1].Config.(*webhook.Config) }
	overriding(t, file, []override{
		{"DATABASE_URL", "sqlite:/env.db", func(c *config.Config) any { return c.Databases[0].FilePath() }, "/env.db"},
		{"FRAISEQL_DATABASES_0_URL", "sqlite:/env.db", func(c *config.Config) any { return c.Databases[0].FilePath() }, "/env.db"},
		{"FRAISEQL_DATABASES_1_URL", "sqlite:/env.db", func(c *config.Config) any { return c.Databases[1].FilePath() }, "/env.db"},
		{"FRAISEQL_DATABASES_1_NAME", "env", func(c *config.Config) any { return c.Databases[1].Name }, "env"},
		{"FRAISEQL_DATABASES_0_POLL_INTERVAL", "3s", func(c *config.Config) any { return c.Databases[0].PollInterval }, 3 * time.Second},
		{"FRAISEQL_DATABASES_0_RETENTION", "0", func(c *config.Config) any { return c.Databases[0].Retention }, time.Duration(0)},
		{"FRAISEQL_STATE_URL", "sqlite:/s.db", func(c *config.Config) any { return c.State.FilePath() }, "/s.db"},
		{"FRAISEQL_NETWORK_ALLOW", "10.0.0.0/8, ::1,", func(c *config.Config) any { return c.Network.Allow[1].String() }, "::1/128"},
		{"FRAISEQL_NETWORK_ALLOW", "", func(c *config.Config) any { return len(c.Network.Allow) }, 0},
		{"FRAISEQL_ENABLE_CONCURRENT", "false", func(c *config.Config) any { return c.Performance.EnableConcurrent }, false},
		{"FRAISEQL_MAX_CONCURRENT_ACTIONS", "3", func(c *config.Config) any { return c.Performance.MaxConcurrentActions }, 3},
		{"FRAISEQL_CONCURRENT_TIMEOUT_MS", "70", func(c *config.Config) any { return c.Observers[0].Actions[0].Timeout }, 70 * time.Millisecond},
		{"FRAISEQL_CHANNEL_CAPACITY", "3", func(c *config.Config) any { return c.Performance.ChannelCapacity }, 3},
		{"FRAISEQL_MAX_CONCURRENCY", "3", func(c *config.Config) any { return c.Performance.MaxConcurrency }, 3},
		{"FRAISEQL_SHUTDOWN_TIMEOUT", "3m", func(c *config.Config) any { return c.Performance.ShutdownTimeout }, 3 * time.Minute},
		{"FRAISEQL_DEAD_LETTERS_MAX_ITEMS", "3", func(c *config.Config) any { return c.DeadLetters.MaxItems }, 3},
		{"FRAISEQL_LOG_LEVEL", "error", func(c *config.Config) any { return c.Log.Level.String() }, "ERROR"},
		{"FRAISEQL_LOG_FORMAT", "json", func(c *config.Config) any { return c.Log.Format }, "json"},
		{"FRAISEQL_SMTP_PORT", "26", func(c *config.Config) any { return c.SMTP.Port }, 26},
		{"FRAISEQL_SMTP_HOST", "env", func(c *config.Config) any { return c.SMTP.Host }, "env"},
		{"FRAISEQL_ALERT_LEVEL", "error", func(c *config.Config) any { return c.Alert.Action.Timeout }, 30 * time.Second},
		{"FRAISEQL_ALERT_MIN_INTERVAL", "2s", func(c *config.Config) any { return c.Alert.MinInterval }, 2 * time.Second},
		{"FRAISEQL_OBSERVERS_0_NAME", "env", func(c *config.Config) any { return c.Observers[0].Name }, "env"},
		{"FRAISEQL_OBSERVERS_0_ENTITY", "*", func(c *config.Config) any { return c.Observers[0].Entity }, "*"},
		{"FRAISEQL_OBSERVERS_0_EVENT_TYPE", "INSERT,DELETE", func(c *config.Config) any { return c.Observers[0].EventTypes[1] }, observer.Delete},
		{"FRAISEQL_OBSERVERS_0_CONDITION", "data.b == 2", func(c *config.Config) any { return c.Observers[0].Condition }, "data.b == 2"},
		{"FRAISEQL_OBSERVERS_0_ON_FAILURE", "log", func(c *config.Config) any { return c.Observers[0].OnFailure }, "log"},
		{"FRAISEQL_OBSERVERS_0_RETRY_MAX_ATTEMPTS", "9", func(c *config.Config) any { return c.Observers[0].Retry.MaxAttempts }, 9},
		{"FRAISEQL_OBSERVERS_0_RETRY_MAX_DELAY_MS", "900", func(c *config.Config) any { return c.Observers[0].Retry.MaxDelay }, 900 * time.Millisecond},
		{"FRAISEQL_OBSERVERS_0_RETRY_BACKOFF_STRATEGY", "fixed", func(c *config.Config) any { return c.Observers[0].Retry.Backoff }, "fixed"},
		{"FRAISEQL_OBSERVERS_0_ACTIONS_1_URL", "https://env.example.com", func(c *config.Config) any { return hook(c).URL }, "https://env.example.com"},
		{"FRAISEQL_OBSERVERS_0_ACTIONS_1_TIMEOUT", "7s", func(c *config.Config) any { return c.Observers[0].Actions[1].Timeout }, 7 * time.Second},
		{"FRAISEQL_OBSERVERS_0_ACTIONS_1_HEADERS_X_SHOP", "env", func(c *config.Config) any { return hook(c).Headers["X-Shop"] }, "env"},
		{"FRAISEQL_OBSERVERS_0_ACTIONS_1_BODY_TEMPLATE", `{"not": "${EXPANDED}"}`, func(c *config.Config) any { return hook(c).BodyTemplate }, `{"not": "${EXPANDED}"}`},
		{"FRAISEQL_OBSERVERS_0_ACTIONS_2_TO", "a@example.com, b@example.com", func(c *config.Config) any {
			return c.Observers[0].Actions[2].Config.(*email.Config).To[1]
		}, "b@example.com"},
	})
}

// override is a variable, and what is to be seen of it.
type override struct {
	name, value string
	got         func(c *config.Config) any
	want        any
}

func overriding(t *testing.T, file string, overrides []override) {
	t.Helper()
	for _, c := range overrides {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			parsed := parse(t, file, map[string]string{c.name: c.value})
			equal(t, c.name, c.got(parsed), c.want)
		})
	}
}

func TestDatabaseFromTheEnvironment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		vars             map[string]string
		wantName, wantAt string
	}{
		{map[string]string{"DATABASE_URL": "sqlite:/a.db"}, "default", "/a.db"},
		{map[string]string{"FRAISEQL_DATABASES_0_URL": "sqlite:/b.db"}, "default", "/b.db"},
		{map[string]string{"DATABASE_URL": "sqlite:/a.db", "FRAISEQL_DATABASES_0_URL": "sqlite:/b.db"}, "default", "/b.db"},
		{map[string]string{"DATABASE_URL": "sqlite:/a.db", "FRAISEQL_DATABASES_0_NAME": "shop"}, "shop", "/a.db"},
	} {
		got := parse(t, "", c.vars)
		if len(got.Databases) != 1 || got.Databases[0].Name != c.wantName || got.Databases[0].FilePath() != c.wantAt {
			t.Errorf("%v: %q at %q", c.vars, got.Databases[0].Name, got.Databases[0].FilePath())
		}
	}
	// A table that is there and has no name is not excused by the variable.
	_, err := config.Parse("f", []byte("[[databases]]\n"), environ(map[string]string{"DATABASE_URL": "sqlite:a.db"}))
	if err == nil || !strings.Contains(err.Error(), "f:1:3: databases[0].name: is missing") {
		t.Errorf("database without a name: %v", err)
	}
}

func TestCheckEnvironment(t *testing.T) {
	t.Parallel()
	c := parse(t, minimal+`type = "log"`, nil)
	for variable, want := range map[string]string{
		"FRAISEQL_LOG_LEVEL=debug":                  "",
		"FRAISEQL_OBSERVERS_0_ACTIONS_0_TYPE=log":   "",
		"DATABASE_URL=sqlite:x.db":                  "",
		"PATH=/bin":                                 "",
		"FRAISEQL_BIND_ADDRESS=0.0.0.0":             "",
		"FRAISEQL_JWT_SECRET=hunter2":               "",
		"FRAISEQL_MAX_CONCURENCY=5":                 "did you mean FRAISEQL_MAX_CONCURRENCY?",
		"FRAISEQL_LOG_LEVL=debug":                   "did you mean FRAISEQL_LOG_LEVEL?",
		"FRAISEQL_OBSERVERS_7_CONDITION=hunter2":    "no key has this environment variable",
		"FRAISEQL_OBSERVERS_0_ACTIONS_0_SIZE=12345": "no key has this environment variable",
		"FRAISEQL_JOB_QUEUE_URL=redis://hunter2":    "no key has this environment variable",
		"FRAISEQL_JOB_QUEUE_MAX_RETRYS=2":           "did you mean FRAISEQL_JOB_QUEUE_MAX_RETRIES?",
		"FRAISEQL_OBSERVER_TRANSPORT=nats":          "",
		"FRAISEQL_NATS_URL=nats://hunter2":          "",
		"FRAISEQL_NATS_URLL=nats://hunter2":         "did you mean FRAISEQL_NATS_URL?",
		"FRAISEQL_NATS_CLUSTER=hunter2":             "no key has this environment variable",
		"FRAISEQL_BRIDGE_BATCHSIZE=7":               "did you mean FRAISEQL_BRIDGE_BATCH_SIZE?",
		"FRAISEQL_TRANSPORT_RUN_BRIDGE=false":       "no key has this environment variable",
		"FRAISEQL_LEASES_TLL=7s":                    "did you mean FRAISEQL_LEASES_TTL?",
		"FRAISEQL_ENDPOINTS_PAUSE=hunter2":          "no key has this environment variable",
		"FRAISEQL_ALERT_WEBHOOK_ADDRESS=hunter2":    "no key has this environment variable",
	} {
		err := c.CheckEnvironment([]string{variable})
		var errs config.Errors
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", variable, err)
		case want != "" && (!errors.As(err, &errs) || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", variable, err, want)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("the value is in the message: %v", err)
		}
	}
}
