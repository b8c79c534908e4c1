package config_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/email"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/outbound"
)

// key is one key of the configuration as the struct tags declare it.
type key struct {
	heading  string // of its section in docs/configuration.md
	name     string
	variable string
	field    reflect.StructField
}

// schema lists every key. A struct that is added to the configuration and
// forgotten here shows up as a section without a heading.
func schema(t *testing.T) []key {
	t.Helper()
	var keys []key
	add := func(heading, prefix string, target any) {
		for field := range fields(target) {
			name := field.Tag.Get("toml")
			if isLeaf(field.Type) {
				keys = append(keys, key{heading, name, prefix + "_" + strings.ToUpper(name), field})
			}
		}
	}
	for field := range fields(config.Config{}) {
		name := field.Tag.Get("toml")
		upper := "FRAISEQL_" + strings.ToUpper(name)
		switch name {
		case "databases":
			add("## `[[databases]]`", upper+"_N", config.Database{})
		case "transport":
			keys = append(keys, transportKeys("## `[transport]`", "FRAISEQL_TRANSPORT", reflect.TypeFor[config.Transport]())...)
		case "performance":
			add("## `[performance]`", "FRAISEQL", config.Performance{})
		case "job_queue":
			add("## `[job_queue]`", upper, config.JobQueue{})
			add("### `[[job_queue.queues]]`", upper+"_QUEUES_N", config.Queue{})
		case "endpoints":
			add("## `[endpoints]`", upper, config.Endpoints{})
			add("### `[[endpoints.overrides]]`", upper+"_OVERRIDES_N", config.Override{})
		case "alert":
			add("## `[alert]`", upper, config.Alert{})
		case "observers":
			add("## `[[observers]]`", upper+"_N", config.Observer{})
			add("### `[observers.retry]`", upper+"_N_RETRY", config.Retry{})
			add("### `[[observers.actions]]`", upper+"_N_ACTIONS_M", config.Action{})
			add("### `[observers.actions.fallback]`", upper+"_N_ACTIONS_M_FALLBACK", config.Fallback{})
			add("### `[observers.actions.cache]`", upper+"_N_ACTIONS_M_CACHE", config.ActionCache{})
			for _, kind := range config.ActionTypes() {
				add("#### `type = \""+kind+"\"`", upper+"_N_ACTIONS_M", reflect.ValueOf(config.NewActionConfig(kind)).Elem().Interface())
			}
			add("##### `tls`", upper+"_N_ACTIONS_M_TLS", outbound.TLS{})
		case "smtp":
			add("## `[smtp]`", upper, email.Server{})
			add("### `[smtp.certificates]`", upper+"_CERTIFICATES", outbound.TLS{})
		default:
			add("## `["+name+"]`", upper, reflect.New(field.Type).Elem().Interface())
		}
	}
	if len(keys) < 50 {
		t.Fatalf("found %d keys only", len(keys))
	}
	return keys
}

// transportKeys are those of [transport] and of the tables inside it, whose
// variables have the names that FraiseQL gave them.
func transportKeys(heading, prefix string, section reflect.Type) []key {
	named := map[string]string{
		"FRAISEQL_TRANSPORT_TRANSPORT": "FRAISEQL_OBSERVER_TRANSPORT", "FRAISEQL_TRANSPORT_RUN_BRIDGE": "FRAISEQL_NATS_ENABLE_BRIDGE",
		"FRAISEQL_TRANSPORT_RUN_EXECUTORS": "FRAISEQL_NATS_RUN_EXECUTORS", "FRAISEQL_TRANSPORT_NATS": "FRAISEQL_NATS",
		"FRAISEQL_TRANSPORT_BRIDGE": "FRAISEQL_BRIDGE", "FRAISEQL_NATS_JETSTREAM": "FRAISEQL_NATS",
	}
	var keys []key
	for field := range fields(reflect.New(section).Elem().Interface()) {
		name := field.Tag.Get("toml")
		variable := prefix + "_" + strings.ToUpper(name)
		if other := named[variable]; other != "" {
			variable = other
		}
		if isLeaf(field.Type) {
			keys = append(keys, key{heading, name, variable, field})
			continue
		}
		within := "### " + strings.TrimSuffix(strings.TrimLeft(heading, "# "), "]`") + "." + name + "]`"
		keys = append(keys, transportKeys(within, variable, field.Type)...)
	}
	return keys
}

// TestVariablesOfFraiseQL: those that its users have set already.
func TestVariablesOfFraiseQL(t *testing.T) {
	t.Parallel()
	ours := map[string]bool{}
	for _, k := range schema(t) {
		ours[k.variable] = true
	}
	for prefix, names := range map[string]string{
		"FRAISEQL_OBSERVER_": "TRANSPORT",
		"FRAISEQL_NATS_": "URL SUBJECT_PREFIX CONSUMER_NAME STREAM_NAME ENABLE_BRIDGE RUN_EXECUTORS DEDUP_WINDOW_MINUTES " +
			"MAX_AGE_DAYS MAX_MSGS MAX_BYTES ACK_WAIT_SECS MAX_DELIVER",
		"FRAISEQL_BRIDGE_":    "TRANSPORT_NAME BATCH_SIZE POLL_INTERVAL_SECS NOTIFY_CHANNEL",
		"FRAISEQL_REDIS_":     "URL POOL_SIZE CONNECT_TIMEOUT_SECS COMMAND_TIMEOUT_SECS DEDUP_WINDOW_SECS CACHE_TTL_SECS",
		"FRAISEQL_ENABLE_":    "DEDUP CACHING CONCURRENT",
		"FRAISEQL_":           "MAX_CONCURRENT_ACTIONS CONCURRENT_TIMEOUT_MS",
		"FRAISEQL_JOB_QUEUE_": "BATCH_SIZE WORKER_CONCURRENCY MAX_RETRIES POLL_INTERVAL_MS INITIAL_DELAY_MS MAX_DELAY_MS",
	} {
		for name := range strings.FieldsSeq(names) {
			if !ours[prefix+name] {
				t.Errorf("no key has the variable %s%s", prefix, name)
			}
		}
	}
}

// fields are the fields of a struct that stand for a key.
func fields(target any) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for _, field := range reflect.VisibleFields(reflect.TypeOf(target)) {
			if name := field.Tag.Get("toml"); name != "" && name != "-" && !yield(field) {
				return
			}
		}
	}
}

func isLeaf(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[observer.Secret]():
		return true
	case reflect.TypeFor[[]config.Action](), reflect.TypeFor[[]config.Queue](), reflect.TypeFor[*config.Alert](),
		reflect.TypeFor[[]config.Override](), reflect.TypeFor[*config.Fallback]():
		return false
	}
	return t.Kind() != reflect.Struct
}

func TestDocumentHasEveryKey(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := documentRows(string(document))
	for _, k := range schema(t) {
		row, ok := rows[k.heading+" "+k.name]
		if !ok {
			t.Errorf("docs/configuration.md has no row for %s under %q", k.name, k.heading)
			continue
		}
		delete(rows, k.heading+" "+k.name)
		if variable := strings.TrimSuffix(row[2], "_NAME`"); variable != "`"+k.variable && row[2] != "`"+k.variable+"`" {
			t.Errorf("%s of %s: documented variable %s, want %s", k.name, k.heading, row[2], k.variable)
		}
		checkDocumentedDefault(t, k, row[1])
		for _, limit := range []string{"min", "max"} {
			if text := k.field.Tag.Get(limit); text != "" && strings.Contains(row[3], " to ") && !strings.Contains(row[3], text) {
				t.Errorf("%s of %s: the limit %s is not in %q", k.name, k.heading, text, row[3])
			}
		}
	}
	delete(rows, "## `[alert]` type")    // repeated there for the reader
	delete(rows, "## `[alert]` timeout") // likewise
	for row := range rows {
		t.Errorf("docs/configuration.md documents a key that does not exist: %s", row)
	}
}

// checkDocumentedDefault compares with the tag. Defaults that the packages of the
// actions have are not in a tag.
func checkDocumentedDefault(t *testing.T, k key, documented string) {
	t.Helper()
	want, ok := k.field.Tag.Lookup("default")
	if !ok || k.name == "timeout" {
		return
	}
	if documented != "`"+want+"`" && documented != "`\""+want+"\"`" {
		t.Errorf("%s of %s: documented default %s, it is %s", k.name, k.heading, documented, want)
	}
}

// documentRows are the table rows by heading and key: key, default, variable, meaning.
func documentRows(document string) map[string][]string {
	rows, heading := map[string][]string{}, ""
	for line := range strings.Lines(document) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			heading = line
		}
		if cells := strings.Split(strings.Trim(line, "|"), "|"); strings.HasPrefix(line, "| `") && len(cells) == 4 {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows[heading+" "+strings.Trim(cells[0], "`")] = cells
		}
	}
	return rows
}

// TestEveryVariableIsRead sets each variable alone to a text that the key of any
// type refuses, or that is found in the result, and sees the difference.
func TestEveryVariableIsRead(t *testing.T) {
	t.Parallel()
	for _, k := range schema(t) {
		name := strings.NewReplacer("_N_", "_0_", "_M_", "_0_").Replace(k.variable)
		if k.field.Type == reflect.TypeFor[map[string]string]() {
			name += "_X_TEST"
		}
		t.Run(k.heading+" "+name, func(t *testing.T) {
			t.Parallel()
			asked := false
			_, _ = config.Parse("observer.toml", []byte(everySection(k.heading)), func(asking string) (string, bool) {
				asked = asked || asking == name
				return "", false
			})
			if !asked {
				t.Errorf("%s is not looked up", name)
			}
		})
	}
}

// everySection is a configuration with an action of the type in the heading.
func everySection(heading string) string {
	kind := "log"
	if heading == "##### `tls`" {
		kind = "webhook"
	}
	if _, quoted, ok := strings.Cut(heading, `type = "`); ok {
		kind, _, _ = strings.Cut(quoted, `"`)
	}
	text := minimal + "type = \"" + kind + "\"\nfallback = { type = \"log\" }\n[alert]\ntype = \"log\"\n[[job_queue.queues]]\nname = \"reports\"\n[[endpoints.overrides]]\nendpoint = \"webhook https://example.com\"\n"
	for table, of := range map[string]string{"headers": "webhook", "data": "push"} {
		if kind == of {
			text = strings.Replace(text, "[alert]", table+" = { X-Test = \"1\" }\n[alert]", 1)
		}
	}
	return text
}

// TestTagsParse covers what the reader takes for granted: defaults and limits
// are values of their fields, and a default is within its limits.
func TestTagsParse(t *testing.T) {
	t.Parallel()
	for _, k := range schema(t) {
		for _, tag := range []string{"default", "min", "max"} {
			text, ok := k.field.Tag.Lookup(tag)
			if !ok || k.name == "timeout" && tag == "default" {
				continue // the default of a timeout stands for "unset"
			}
			name := strings.NewReplacer("_N_", "_0_", "_M_", "_0_").Replace(k.variable)
			vars := companions(k.name, text)
			vars[name] = text
			_, err := config.Parse("observer.toml", []byte(everySection(k.heading)), environ(vars))
			if err != nil {
				t.Errorf("%s of %s = %q: %v", tag, k.name, text, err)
			}
		}
	}
}

// companions are the variables without which a key cannot have the text: another
// that would contradict it, or that it depends on.
func companions(name, text string) map[string]string {
	switch name {
	case "ttl":
		return map[string]string{"FRAISEQL_ENABLE_CACHING": "true", "FRAISEQL_OBSERVERS_0_ACTIONS_0_CACHE_KEY": "all"}
	case "initial_delay_ms", "max_delay_ms":
		return map[string]string{
			"FRAISEQL_OBSERVERS_0_RETRY_INITIAL_DELAY_MS": text, "FRAISEQL_OBSERVERS_0_RETRY_MAX_DELAY_MS": text,
			"FRAISEQL_JOB_QUEUE_INITIAL_DELAY_MS": text, "FRAISEQL_JOB_QUEUE_MAX_DELAY_MS": text,
		}
	case "retention":
		return map[string]string{"FRAISEQL_DEAD_LETTERS_RETENTION": "0"}
	case "burst":
		return map[string]string{"FRAISEQL_LIMITS_RATE": "1"}
	case "on_dead":
		return map[string]string{"FRAISEQL_OBSERVERS_0_ORDER": "strict"}
	case "queue", "priority", "delay":
		return map[string]string{"FRAISEQL_OBSERVERS_0_ACTIONS_0_MODE": "queued"}
	}
	return map[string]string{}
}
