package config_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/email"
	"github.com/fraiseql/observer/action/webhook"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/outbound"
)

// minimal ends in an action that has no type yet.
const minimal = `[[databases]]
name = "shop"
url = "sqlite:shop.db"
[[observers]]
name = "o"
entity = "Order"
[[observers.actions]]
`

// environ is a lookup in a map.
func environ(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

// parse parses what must be valid.
func parse(t *testing.T, text string, vars map[string]string) *config.Config {
	t.Helper()
	c, err := config.Parse("dir/observer.toml", []byte(text), environ(vars))
	if err != nil {
		t.Fatalf("not valid:\n%v", err)
	}
	return c
}

// equal compares; the types of this package print no values, so their fields
// are compared and not they themselves.
func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", what, diff)
	}
}

func TestStarterAndExampleAreValid(t *testing.T) {
	t.Parallel()
	c := parse(t, string(config.Starter()), nil)
	if len(c.Databases) != 1 || len(c.Observers) != 1 {
		t.Errorf("starter has %d databases and %d observers, want one of each", len(c.Databases), len(c.Observers))
	}
	example, err := os.ReadFile("../examples/00-sqlite/fraiseql-observer.toml")
	if err != nil {
		t.Fatal(err)
	}
	c = parse(t, string(example), nil)
	if len(c.Observers) != 1 || len(c.Observers[0].Actions) != 2 {
		t.Errorf("example has %d observers", len(c.Observers))
	}
}

var commented = regexp.MustCompile(`^# (\[|[a-z_]+ = )`)

// TestStarterIsValidUncommented: what a user finds behind a comment sign works.
func TestStarterIsValidUncommented(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for line := range strings.Lines(string(config.Starter())) {
		if commented.MatchString(line) {
			line = strings.TrimPrefix(line, "# ")
		}
		text.WriteString(line)
	}
	c := parse(t, text.String(), map[string]string{
		"SMTP_PASSWORD": "x", "SLACK_ALERTS_URL": "https://hooks.slack.com/services/x",
		"HOOK_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz",
	})
	if len(c.Observers) != 3 || c.Alert == nil || c.SMTP.Host == "" || len(c.JobQueue.Queues) != 1 {
		t.Errorf("uncommenting left something out: %d observers", len(c.Observers))
	}
}

func TestGoodConfigurations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/good/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parse(t, string(text), fileEnviron(string(text)))
		})
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := parse(t, minimal+`type = "log"`, nil)
	db := c.Databases[0]
	equal(t, "path", db.FilePath(), filepath.Join("dir", "shop.db"))
	equal(t, "scheme", db.Kind(), config.SQLite)
	equal(t, "database", []time.Duration{db.PollInterval, db.Retention}, []time.Duration{time.Second, 168 * time.Hour})
	equal(t, "batch size", db.BatchSize, 500)
	equal(t, "state", c.State.FilePath(), filepath.Join("dir", "fraiseql-observer.state.db"))
	equal(t, "performance", c.Performance, config.Performance{
		EnableConcurrent: true, MaxConcurrentActions: 10, ConcurrentTimeout: 30 * time.Second,
		ChannelCapacity: 1000, MaxConcurrency: 50, ShutdownTimeout: 30 * time.Second,
	})
	equal(t, "job queue", c.JobQueue, config.JobQueue{
		WorkerConcurrency: 50, BatchSize: 100, PollInterval: time.Second,
		MaxRetries: 5, InitialDelay: 100 * time.Millisecond, MaxDelay: 30 * time.Second,
		Lease: time.Minute, Retention: 24 * time.Hour, Queues: []config.Queue{},
	})
	equal(t, "endpoints", c.Endpoints, config.Endpoints{
		DisableAfter: 72 * time.Hour, ProbeInterval: time.Minute, Overrides: []config.Override{},
	})
	equal(t, "breaker", c.Breaker, config.Breaker{
		Enabled: true, FailureRate: 50, MinCalls: 50, Window: 30 * time.Second, OpenFor: 30 * time.Second, Probes: 3,
	})
	equal(t, "limits", c.Limits, config.Limits{})
	equal(t, "dead letters", c.DeadLetters, config.DeadLetters{MaxItems: 100_000, Retention: 720 * time.Hour})
	equal(t, "log", c.Log, config.Log{Level: slog.LevelInfo, Format: "text"})
	o := c.Observers[0]
	equal(t, "retry", o.Retry, config.Retry{
		MaxAttempts: 3, InitialDelay: 100 * time.Millisecond, MaxDelay: 30 * time.Second, Backoff: "exponential",
		InlineBudget: 2 * time.Second,
	})
	equal(t, "order, on_dead, mode, on_failure, condition", []string{string(o.Order), o.OnDead, o.Mode, o.OnFailure, o.Condition},
		[]string{"entity", "continue", "inline", "dlq", ""})
	equal(t, "timeout", o.Actions[0].Timeout, 30*time.Second)
	if o.EventTypes != nil || c.Alert != nil || o.Alert != nil || c.Network.Allow != nil {
		t.Errorf("event types %v, alert %v: want none", o.EventTypes, c.Alert)
	}
}

func TestEverythingIsRead(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/good/everything.toml")
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, string(text), fileEnviron(string(text)))
	equal(t, "names", []string{c.Databases[0].Name, c.Databases[1].Name}, []string{"shop", "stock"})
	equal(t, "paths", []string{c.Databases[0].FilePath(), c.Databases[1].FilePath(), c.State.FilePath()},
		[]string{"dir/data/shop.db", "/var/lib/stock.db", "/var/lib/state.db"})
	equal(t, "retention", c.Databases[0].Retention, 0)
	equal(t, "poll", c.Databases[0].PollInterval, 250*time.Millisecond)
	equal(t, "allow", []string{c.Network.Allow[0].String(), c.Network.Allow[1].String(), c.Network.Allow[2].String()},
		[]string{"10.0.0.0/8", "127.0.0.1/32", "::1/128"})
	equal(t, "performance", c.Performance, config.Performance{
		MaxConcurrentActions: 4, ConcurrentTimeout: 1500 * time.Millisecond,
		ChannelCapacity: 20, MaxConcurrency: 5, ShutdownTimeout: time.Minute,
	})
	equal(t, "smtp", []any{c.SMTP.Host, c.SMTP.Port, c.SMTP.Username, c.SMTP.Password.Reveal(), c.SMTP.TLS, c.SMTP.Certificates.ServerName},
		[]any{"mail.example.com", 2525, "observer", "s3cret pass", "tls", "mail.intern"})
	equal(t, "log", c.Log, config.Log{Level: slog.LevelDebug, Format: "json"})
	equal(t, "alert", c.Alert.MinInterval, 5*time.Minute)
	o := c.Observers[0]
	equal(t, "event types", o.EventTypes, []observer.Operation{observer.Insert, observer.Delete})
	equal(t, "own alert", o.Alert.Action.Type, "log")
	hook, ok := o.Actions[0].Config.(*webhook.Config)
	if !ok || len(o.Actions) != 3 {
		t.Fatalf("%d actions, the first %T", len(o.Actions), o.Actions[0].Config)
	}
	equal(t, "url", hook.URL, "https://example.com/t0ken-value/{{ data.id }}")
	equal(t, "headers", hook.Headers, map[string]string{"X-Price": "${5}", "Authorization": "Bearer t0ken-value"})
	equal(t, "body", hook.BodyTemplate, `{"price": "${{ data.price }}"}`)
	equal(t, "timeout", o.Actions[0].Timeout, 2*time.Second)
	mail := o.Actions[1].Config.(*email.Config)
	equal(t, "to", mail.To, email.Addresses{"a@example.com", "b@example.com"})
	equal(t, "cc", mail.CC, email.Addresses{"c@example.com"})
	equal(t, "inline observer", c.Observers[1].Retry.Backoff, "fixed")
	equal(t, "job queue", c.JobQueue, config.JobQueue{
		WorkerConcurrency: 3, BatchSize: 5, PollInterval: 20 * time.Millisecond,
		MaxRetries: 0, InitialDelay: time.Second, MaxDelay: time.Minute, Lease: 5 * time.Second, Retention: 48 * time.Hour,
		Queues: []config.Queue{{Name: "reports", Concurrency: 2}, {Name: "mail", Concurrency: 1}},
	})
	breaker := config.Breaker{FailureRate: 80, MinCalls: 5, Window: time.Minute, OpenFor: 2 * time.Minute, Probes: 1}
	equal(t, "breaker", c.Breaker, breaker)
	equal(t, "limits", c.Limits, config.Limits{MaxConcurrent: 8, Rate: 2.5, Burst: 4})
	breaker.Enabled, breaker.OpenFor = true, 5*time.Minute
	equal(t, "endpoints", c.Endpoints, config.Endpoints{ProbeInterval: 10 * time.Second, Overrides: []config.Override{
		{Endpoint: "webhook https://example.com/*", Breaker: breaker, Limits: config.Limits{Rate: 2.5, Burst: 4}},
		{Endpoint: "slack hooks.slack.com", Breaker: c.Breaker, Limits: config.Limits{MaxConcurrent: 8, Rate: 0.2, Burst: 4}},
	}})
	fallback := o.Actions[0].Fallback
	equal(t, "fallback", []any{fallback.When, fallback.Action.Type, fallback.Action.Mode, fallback.Action.Retry.MaxAttempts},
		[]any{config.WhenOpen, "log", config.ModeQueued, 1})
	equal(t, "dead letters", c.DeadLetters, config.DeadLetters{MaxItems: 7, Retention: 48 * time.Hour})
}

func TestActionsAreBuilt(t *testing.T) {
	t.Parallel()
	c := parse(t, minimal+"type = \"webhook\"\nurl = \"https://example.com\"\n", nil)
	deps := config.Deps{Network: outbound.New(outbound.Config{Allow: []netip.Prefix{}}), Logger: slog.New(slog.DiscardHandler)}
	built, err := c.Observers[0].Actions[0].Build(deps)
	if _, ok := built.(*webhook.Action); !ok || err != nil {
		t.Errorf("built %T, %v", built, err)
	}
	for kind, want := range map[string]string{"hook": "unknown action type", "": "is missing"} {
		built, err := config.Action{Type: kind}.Build(deps)
		if built != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("type %q: built %v, %v; want %q", kind, built, err, want)
		}
	}
	broken, err := config.Action{Type: "webhook", Config: &webhook.Config{}}.Build(deps)
	if broken != nil || err == nil {
		t.Errorf("a webhook without a URL was built: %v, %v", broken, err)
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "none.toml")
	_, err := config.Load(path, nil)
	var file *config.FileError
	if !errors.As(err, &file) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "fraiseql-observer init") {
		t.Errorf("missing file: %v", err)
	}
	if _, err = config.Load(t.TempDir(), nil); !errors.As(err, &file) {
		t.Errorf("directory: %v", err)
	}
	huge := filepath.Join(t.TempDir(), "huge.toml")
	if err := os.WriteFile(huge, []byte(strings.Repeat("#", 5<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = config.Load(huge, nil); !errors.As(err, &file) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("huge file: %v", err)
	}
	good := filepath.Join(t.TempDir(), "good.toml")
	if err := os.WriteFile(good, config.Starter(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(good, nil)
	if err != nil || c.Path != good {
		t.Errorf("good file: %v", err)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	base := minimal + "type = \"log\"\n"
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", base, nil},
		{"observers and alert", base + "timeout = \"1s\"\n[alert]\ntype = \"log\"\n", nil},
		{"one section", base + "[log]\nlevel = \"debug\"\n", []string{"log"}},
		{"a default written out", base + "[log]\nlevel = \"info\"\n", nil},
		{"the mail server", base + "[smtp]\npassword = \"x\"\n", nil},
		{"a secret", strings.Replace(base, "sqlite:shop.db", "postgres://u:x@h/shop", 1), []string{"databases", "state"}},
		{"defaults of retries", base + "[job_queue]\nmax_retries = 9\ninitial_delay_ms = 7\nmax_delay_ms = 8\n", nil},
		{"defaults and a lease", base + "[job_queue]\nmax_retries = 9\nlease = \"5s\"\n", []string{"job_queue"}},
		{"several", strings.Replace(base, "shop.db", "other.db", 1) +
			"[state]\nurl = \"sqlite:s.db\"\n[network]\nallow = \"::1\"\n[performance]\nmax_concurrency = 2\n[dead_letters]\nmax_items = 2\n",
			[]string{"databases", "state", "network", "performance", "dead_letters"}},
		{"a queue", base + "[[job_queue.queues]]\nname = \"q\"\n", []string{"job_queue"}},
		{"endpoints, retention", base + "[endpoints]\ndisable_after = \"0\"\n[dead_letters]\nretention = \"0\"\n", []string{"endpoints", "dead_letters"}},
		{"transport", base + "[transport]\ntransport = \"nats\"\n", []string{"transport"}},
		{"a table in transport", base + "[transport.bridge]\nbatch_size = 7\n", []string{"transport"}},
		{"without effect", base + "[transport.nats.jetstream]\nmax_deliver = -1\n", nil},
		{"leases", base + "[leases]\nttl = \"20s\"\n", []string{"leases"}},
		{"how an observer delivers", strings.Replace(base, "entity =", "order = \"strict\"\nretry = { schedule = [\"5s\"] }\nentity =", 1) +
			"mode = \"queued\"\npriority = 1\n", nil},
	} {
		before, after := parse(t, base, nil), parse(t, c.text, nil)
		if got := before.Diff(after); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	if w := parse(t, minimal+`type = "log"`, nil).Warnings(); len(w) != 0 {
		t.Errorf("warned without a reason: %v", w)
	}
	c := parse(t, "[[databases]]\nname = \"a\"\nurl = \"sqlite:a.db\"\n[network]\nallow = \"0.0.0.0/0\"\n", nil)
	if w := c.Warnings(); len(w) != 2 || !strings.Contains(w[0], "no observers") || !strings.Contains(w[1], "0.0.0.0/0") {
		t.Errorf("warnings %v", w)
	}
}

// A header is no key that says that it is secret, so a credential in one is
// easily checked in with the file.
func TestWarningsOfCredentialsInTheFile(t *testing.T) {
	t.Parallel()
	const hook = "type = \"webhook\"\nurl = \"https://example.com\"\n"
	c := parse(t, minimal+hook+`headers = { Authorization = "Bearer canary-1", X-Token = "${TOKEN}", X-Api-Key_env = "TOKEN", X-Page = "canary-2", Cookie_env = "COOKIE" }
[[observers.actions]]
type = "webhook"
url_env = "URL"
[[observers.actions]]
`+hook+"[observers.alert]\n"+hook+"headers = { X-Token = \"canary-3\" }\n[alert]\ntype = \"webhook\"\nurl = \"https://example.com?key=canary-4\"\n",
		map[string]string{"TOKEN": "canary-5", "COOKIE": "session=canary-6", "URL": "https://example.com?key=canary-7"})
	want := []string{
		`alert.url has a credential in the file: write url_env = "NAME" or ${NAME} to take it from the environment`,
		`observers[0].actions[0].headers.Authorization has a credential in the file: write Authorization_env = "NAME" or ${NAME} to take it from the environment`,
		`observers[0].alert.headers.X-Token has a credential in the file: write X-Token_env = "NAME" or ${NAME} to take it from the environment`,
	}
	if got := c.Warnings(); !slices.Equal(got, want) {
		t.Errorf("warnings %q", got)
	}
}

func TestNewDatabase(t *testing.T) {
	t.Parallel()
	d, err := config.NewDatabase("default", observer.NewSecret("sqlite:data/shop.db"))
	if err != nil || d.FilePath() != filepath.Join("data", "shop.db") || d.PollInterval != time.Second || d.BatchSize != 500 || d.Retention != 168*time.Hour {
		t.Errorf("%v %v %v", d.FilePath(), d.PollInterval, err)
	}
	for _, c := range []struct{ name, url, want string }{
		{"a b", "sqlite:x.db", "must begin with"},
		{"a", "mysql://h/db", "not available in this version"},
		{"a", "nonsense", "has no scheme"},
	} {
		if _, err := config.NewDatabase(c.name, observer.NewSecret(c.url)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.name, c.url, err, c.want)
		}
	}
}
