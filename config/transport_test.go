package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/outbound"
)

// plainTransport and plainNATS print their values, as those of the package do not.
type plainTransport struct {
	Kind                    string
	RunBridge, RunExecutors bool
	NATS                    plainNATS
	Bridge                  config.Bridge
}

type plainNATS config.NATS

func (t plainTransport) lines() string {
	t.NATS.URL, t.NATS.Password = observer.Secret{}, observer.Secret{}
	return strings.ReplaceAll(fmt.Sprintf("%+v", t), " ", "\n")
}

func plainly(t config.Transport) plainTransport {
	return plainTransport{t.Kind, t.RunBridge, t.RunExecutors, plainNATS(t.NATS), t.Bridge}
}

// TestTransportDefaults: a configuration that says nothing of it has one process,
// and one that only names NATS has the stream that FraiseQL has.
func TestTransportDefaults(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	want := plainTransport{
		Kind: config.TransportPostgres, RunBridge: true, RunExecutors: true,
		NATS: plainNATS{
			StoreDir: filepath.Join("dir", "fraiseql-observer.nats"), StreamName: "fraiseql_events", SubjectPrefix: "fraiseql.mutation",
			Partitions: 32, ConsumerName: "fraiseql_observer_worker",
			JetStream: config.JetStream{
				DedupWindow: 5 * time.Minute, MaxAge: 7 * day, MaxMsgs: 10_000_000, MaxBytes: 10 << 30, PurgeHandled: true, Replicas: 1,
				AckWait: 30 * time.Second, MaxDeliver: -1,
			},
		},
		Bridge: config.Bridge{BatchSize: 1000, NotifyChannel: "fraiseql_events", Reconcile: true, Grace: 30 * time.Second},
	}
	c := parse(t, onlyDatabase, nil)
	equal(t, "transport", plainly(c.Transport).lines(), want.lines())
	equal(t, "url", c.Transport.NATS.URL.Reveal(), "nats://127.0.0.1:4222")
	equal(t, "leases", c.Leases, config.Leases{TTL: 10 * time.Second})
	equal(t, "distributed", c.Transport.Distributed(), false)

	c = parse(t, onlyDatabase, map[string]string{"FRAISEQL_OBSERVER_TRANSPORT": "nats"})
	want.Kind = config.TransportNATS
	equal(t, "with nats", plainly(c.Transport).lines(), want.lines())
	equal(t, "distributed", c.Transport.Distributed(), true)
	equal(t, "embedded", c.Transport.NATS.IsEmbedded(), false)
}

func TestTransportIsRead(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/good/nats.toml")
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, string(text), fileEnviron(string(text)))
	want := plainTransport{
		Kind: config.TransportNATS, RunExecutors: true,
		NATS: plainNATS{
			StoreDir: "/var/lib/nats", User: "observer", AllowPlaintext: true,
			TLS: outbound.TLS{
				CA: filepath.Join("dir", "tls", "ca.pem"), Cert: "/etc/observer/client.pem", Key: "/etc/observer/client.key", ServerName: "nats.internal",
			},
			StreamName: "events", SubjectPrefix: "shop.changes", Partitions: 8, ConsumerName: "mailers",
			Databases: []string{"shop"}, Entities: []string{"Order", "Line item"}, Tenants: []string{"b7e9d7c6-0000-4000-8000-000000000001"},
			JetStream: config.JetStream{
				DedupWindow: 10 * time.Minute, MaxAge: 720 * time.Hour, MaxMsgs: 500, MaxBytes: 2_000_000, PurgeHandled: true, Replicas: 3,
				AckWait: time.Minute, MaxDeliver: 5,
			},
		},
		Bridge: config.Bridge{TransportName: "to-nats", BatchSize: 100, PollInterval: 2 * time.Second, NotifyChannel: "fraiseql_events", Grace: time.Minute},
	}
	equal(t, "transport", plainly(c.Transport).lines(), want.lines())
	equal(t, "secrets", []string{c.Transport.NATS.URL.Reveal(), c.Transport.NATS.Password.Reveal()},
		[]string{"tls://one.example.com:4222, tls://two.example.com", "s3cret pass"})
	equal(t, "leases", c.Leases, config.Leases{TTL: 5 * time.Second})
	equal(t, "state", c.State.Place(), "db.example.com:5432/state, schema fraiseql_observer")
	equal(t, "databases", len(c.Databases), 0)
}

// TestVariablesOfTransport sets one variable at a time over a file that has another
// value.
func TestVariablesOfTransport(t *testing.T) {
	t.Parallel()
	nats := func(read func(n config.NATS) any) func(*config.Config) any {
		return func(c *config.Config) any { return read(c.Transport.NATS) }
	}
	overriding(t, onlyDatabase+`[transport]
transport = "nats"
[transport.nats]
url = "tls://file.example.com"
stream_name = "file"
subject_prefix = "file"
consumer_name = "file"
[transport.nats.jetstream]
dedup_window_minutes = 3
max_age_days = 3
max_msgs = 3
max_bytes = 3000000
ack_wait_secs = 3
max_deliver = 3
[transport.bridge]
transport_name = "file"
batch_size = 3
poll_interval_secs = 3
`, []override{
		{"FRAISEQL_OBSERVER_TRANSPORT", "in_memory", func(c *config.Config) any { return c.Transport.Kind }, "in_memory"},
		{"FRAISEQL_NATS_ENABLE_BRIDGE", "false", func(c *config.Config) any { return c.Transport.RunBridge }, false},
		{"FRAISEQL_NATS_RUN_EXECUTORS", "false", func(c *config.Config) any { return c.Transport.RunExecutors }, false},
		{"FRAISEQL_NATS_URL", "tls://u:p@env.example.com", nats(func(n config.NATS) any { return n.URL.Reveal() }), "tls://u:p@env.example.com"},
		{"FRAISEQL_NATS_TOKEN", "env", nats(func(n config.NATS) any { return n.Token.Reveal() }), "env"},
		{"FRAISEQL_NATS_NKEY_SEED", "SUenv", nats(func(n config.NATS) any { return n.NKeySeed.Reveal() }), "SUenv"},
		{"FRAISEQL_NATS_CREDENTIALS_FILE", "env.creds", nats(func(n config.NATS) any { return n.CredentialsFile }), filepath.Join("dir", "env.creds")},
		{"FRAISEQL_NATS_TLS_CA", "env.pem", nats(func(n config.NATS) any { return n.TLS.CA }), filepath.Join("dir", "env.pem")},
		{"FRAISEQL_NATS_SUBJECT_PREFIX", "env.x", nats(func(n config.NATS) any { return n.SubjectPrefix }), "env.x"},
		{"FRAISEQL_NATS_CONSUMER_NAME", "env", nats(func(n config.NATS) any { return n.ConsumerName }), "env"},
		{"FRAISEQL_NATS_STREAM_NAME", "env", nats(func(n config.NATS) any { return n.StreamName }), "env"},
		{"FRAISEQL_NATS_ENTITIES", "Order, Line", nats(func(n config.NATS) any { return strings.Join(n.Entities, "|") }), "Order|Line"},
		{"FRAISEQL_NATS_TENANTS", "", nats(func(n config.NATS) any { return n.Tenants == nil }), true},
		{"FRAISEQL_NATS_DEDUP_WINDOW_MINUTES", "7", nats(func(n config.NATS) any { return n.JetStream.DedupWindow }), 7 * time.Minute},
		{"FRAISEQL_NATS_MAX_AGE_DAYS", "3650", nats(func(n config.NATS) any { return n.JetStream.MaxAge }), 87600 * time.Hour},
		{"FRAISEQL_NATS_MAX_MSGS", "7", nats(func(n config.NATS) any { return n.JetStream.MaxMsgs }), int64(7)},
		{"FRAISEQL_NATS_MAX_BYTES", "7000000", nats(func(n config.NATS) any { return n.JetStream.MaxBytes }), int64(7_000_000)},
		{"FRAISEQL_NATS_ACK_WAIT_SECS", "7", nats(func(n config.NATS) any { return n.JetStream.AckWait }), 7 * time.Second},
		{"FRAISEQL_NATS_MAX_DELIVER", "-1", nats(func(n config.NATS) any { return n.JetStream.MaxDeliver }), -1},
		{"FRAISEQL_BRIDGE_TRANSPORT_NAME", "env", func(c *config.Config) any { return c.Transport.Bridge.TransportName }, "env"},
		{"FRAISEQL_BRIDGE_BATCH_SIZE", "7", func(c *config.Config) any { return c.Transport.Bridge.BatchSize }, 7},
		{"FRAISEQL_BRIDGE_POLL_INTERVAL_SECS", "7", func(c *config.Config) any { return c.Transport.Bridge.PollInterval }, 7 * time.Second},
		{"FRAISEQL_BRIDGE_NOTIFY_CHANNEL", "fraiseql_events", func(c *config.Config) any { return c.Transport.Bridge.NotifyChannel }, "fraiseql_events"},
		{"FRAISEQL_LEASES_TTL", "7s", func(c *config.Config) any { return c.Leases.TTL }, 7 * time.Second},
	})
}

// TestTwinsOfNATS: every credential can stay out of the file.
func TestTwinsOfNATS(t *testing.T) {
	t.Parallel()
	for key, c := range map[string]struct {
		value string
		got   func(n config.NATS) string
	}{
		"url":              {"tls://u:p@env.example.com", func(n config.NATS) string { return n.URL.Reveal() }},
		"token":            {"canary", func(n config.NATS) string { return n.Token.Reveal() }},
		"nkey_seed":        {"SUcanary", func(n config.NATS) string { return n.NKeySeed.Reveal() }},
		"credentials_file": {"/run/secrets/creds", func(n config.NATS) string { return n.CredentialsFile }},
		"user":             {"canary", func(n config.NATS) string { return n.User }},
		"tls.server_name":  {"canary", func(n config.NATS) string { return n.TLS.ServerName }},
	} {
		got := parse(t, onlyDatabase+"[transport.nats]\n"+key+"_env = \"X\"\n", map[string]string{"X": c.value}).Transport.NATS
		equal(t, key, c.got(got), c.value)
	}
	got := parse(t, onlyDatabase+"[transport.nats]\nuser = \"u\"\npassword_env = \"X\"\n", map[string]string{"X": "canary"}).Transport.NATS
	equal(t, "password", got.Password.Reveal(), "canary")
}

// TestPlaintext: what leaves the machine is encrypted, or permitted by name.
func TestPlaintext(t *testing.T) {
	t.Parallel()
	const permitted = "allow_plaintext = true\n"
	for _, c := range []struct {
		url, more string
		hosts     string // of the refusal or the warning, "" when there is none
	}{
		{"nats://127.0.0.1", "", ""},
		{"nats://127.8.8.8:4223", "", ""},
		{"nats://[::1]:4222", "", ""},
		{"nats://LocalHost:80", "", ""},
		{"embedded", "", ""},
		{"tls://nats.example.com", "", ""},
		{"nats://nats.example.com", "tls.ca = \"ca.pem\"\n", ""},
		{"nats://nats.example.com", "tls.server_name = \"x\"\n", ""},
		{"nats://u:p@nats.example.com:4222", "", "nats.example.com:4222"},
		{"nats://nats.example.com", "", "nats.example.com:4222"},
		{"nats://10.0.0.1", "", "10.0.0.1:4222"},
		{"nats://[fd00::1]:4222", "", "[fd00::1]:4222"},
		{"nats://localhost.example.com", "", "localhost.example.com:4222"},
		{"nats://localhost, nats://a.example.com , nats://c.example.com", "", "a.example.com:4222, c.example.com:4222"},
	} {
		text := onlyDatabase + "[transport.nats]\nurl = \"" + c.url + "\"\n" + c.more
		_, err := config.Parse("f", []byte("[transport]\ntransport = \"nats\"\n"+text), nil)
		want := "transport.nats.url: leads to " + c.hosts + " without TLS"
		if (err == nil) != (c.hosts == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", c.url, err, want)
		}
		// Nothing is sent there unless transport says so.
		parse(t, text, nil)
		warned := ""
		for _, w := range parse(t, "[transport]\ntransport = \"nats\"\n"+text+permitted, nil).Warnings() {
			if rest, ok := strings.CutPrefix(w, "transport.nats.allow_plaintext: every change crosses the network to "); ok {
				warned = strings.TrimSuffix(rest, " unencrypted")
			}
		}
		equal(t, "warned of "+c.url, warned, c.hosts)
	}
}

// TestWorkersAndDatabases: who reads no database needs none, but must know where
// the state is that it shares.
func TestWorkersAndDatabases(t *testing.T) {
	t.Parallel()
	const worker, bridge = "[transport]\ntransport = \"nats\"\nrun_bridge = false\n", "[transport]\ntransport = \"nats\"\nrun_executors = false\n"
	for _, c := range []struct {
		name, text, want string
		vars             map[string]string
	}{
		{"worker with a state", worker + "[state]\nurl = \"sqlite:/s.db\"\n", "", nil},
		{"worker with a state of the environment", worker, "", map[string]string{"FRAISEQL_STATE_URL": "sqlite:/s.db"}},
		{"worker with the file of all", worker + onlyDatabase, "", nil},
		{"worker with DATABASE_URL", worker, "", map[string]string{"DATABASE_URL": "postgres://db/shop"}},
		{"worker without nats", "[transport]\nrun_bridge = false\n", "f:2:14: transport.run_bridge: is for", nil},
		{"worker with nothing", worker, "f: state.url: is missing", nil},
		{"worker with a schema only", worker + "[state]\nschema = \"x\"\n", "f:4:2: state.url: is missing", nil},
		{"worker with broken databases", "databases = 3\n" + worker, "f:1:13: databases: must be an array", nil},
		{"bridge without databases", bridge + "[state]\nurl = \"sqlite:/s.db\"\n", "f: databases: there is no database", nil},
		{"bridge", bridge + onlyDatabase, "", nil},
	} {
		_, err := config.Parse("f", []byte(c.text), environ(c.vars))
		if (err == nil) != (c.want == "") || err != nil && (!strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q alone", c.name, err, c.want)
		}
	}
}

// TestKeysWithoutEffect: they are accepted, and it is said.
func TestKeysWithoutEffect(t *testing.T) {
	t.Parallel()
	const nats = "[transport]\ntransport = \"nats\"\n"
	for _, c := range []struct {
		name, text string
		vars       map[string]string
		want       []string
	}{
		{"nothing", "", nil, nil},
		{"one process", "[transport]\ntransport = \"in_memory\"\nrun_bridge = true\n[leases]\nttl = \"1s\"\n", nil, nil},
		{"all is used", nats + "[transport.nats]\nurl = \"nats://localhost\"\ntoken = \"x\"\njetstream.replicas = 3\n[transport.bridge]\nbatch_size = 1\n", nil, nil},
		{
			"without nats", "[transport.bridge]\nbatch_size = 1\n[transport.nats]\ntoken_env = \"X\"\nurl = \"nats://a.example.com\"\njetstream.max_deliver = 3\ntls.ca = \"x\"\n",
			map[string]string{"X": "canary", "FRAISEQL_NATS_STREAM_NAME": "canary"},
			[]string{`transport.nats.url, transport.nats.token, transport.nats.tls.ca, transport.nats.stream_name, transport.nats.jetstream.max_deliver, ` +
				`transport.bridge.batch_size have no effect: they are for transport = "nats", and this is "postgres"`},
		},
		{
			"switched off", nats + "[transport.nats]\nurl = \"tls://a.example.com\"\n", map[string]string{"FRAISEQL_OBSERVER_TRANSPORT": "in_memory"},
			[]string{`transport.nats.url has no effect: it is for transport = "nats", and this is "in_memory"`},
		},
		{
			"acknowledgements", nats, map[string]string{"FRAISEQL_NATS_ACK_WAIT_SECS": "30", "FRAISEQL_NATS_MAX_DELIVER": "-1"},
			[]string{"transport.nats.jetstream.ack_wait_secs, transport.nats.jetstream.max_deliver have no effect: they are for consumers that acknowledge " +
				"each message: ours keep checkpoints, and max_attempts of the retries decides about deliveries"},
		},
		{
			"max_deliver", nats + "[transport.nats.jetstream]\nmax_deliver = -1\n", nil,
			[]string{"transport.nats.jetstream.max_deliver has no effect: it is for consumers that acknowledge each message: ours keep checkpoints, " +
				"and max_attempts of the retries decides about deliveries"},
		},
		{
			"a directory", nats + "[transport.nats]\nstore_dir = \"x\"\n", nil,
			[]string{`transport.nats.store_dir has no effect: it is for url = "embedded"`},
		},
		{
			"embedded", nats + "[transport.nats]\nurl = \"embedded\"\nstore_dir = \"x\"\nuser = \"x\"\ntls.ca = \"x\"\n", nil,
			[]string{`transport.nats.user, transport.nats.tls.ca have no effect: they are for a server elsewhere, and url is "embedded"`},
		},
	} {
		got := parse(t, minimal+"type = \"log\"\n"+c.text, c.vars).Warnings()
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: warnings %q", c.name, got)
		}
	}
	// Observers are for those who run actions.
	if w := parse(t, onlyDatabase+nats+"run_executors = false\n", nil).Warnings(); len(w) != 0 {
		t.Errorf("a bridge without observers: %q", w)
	}
}

// TestErrorsHaveOneOrder: what is wrong is said in the same words each time.
func TestErrorsHaveOneOrder(t *testing.T) {
	t.Parallel()
	vars := map[string]string{
		"FRAISEQL_NATS_TOKEN": "a", "FRAISEQL_NATS_NKEY_SEED": "b", "FRAISEQL_NATS_CREDENTIALS_FILE": "c", "FRAISEQL_NATS_USER": "d",
		"FRAISEQL_NATS_STREAM_NAME": ".", "FRAISEQL_NATS_CONSUMER_NAME": ".", "FRAISEQL_NATS_ENABLE_BRIDGE": "0", "FRAISEQL_NATS_RUN_EXECUTORS": "0",
	}
	first := ""
	for range 50 {
		_, err := config.Parse("f", []byte(onlyDatabase), environ(vars))
		if err == nil || first != "" && err.Error() != first {
			t.Fatalf("%v\nwas before\n%s", err, first)
		}
		first = err.Error()
	}
}
