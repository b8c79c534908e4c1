package config

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// The values of [Transport.Kind].
const (
	// TransportPostgres and TransportMemory hand events over within the process,
	// whatever kind of database they come from.
	TransportPostgres = "postgres"
	TransportMemory   = "in_memory"
	// TransportNATS has bridges publish them to a JetStream stream, from which
	// workers read them.
	TransportNATS = "nats"
)

// Transport says how events get from the databases to the actions, and which half
// of it this process runs.
type Transport struct {
	// Kind is [TransportPostgres], [TransportMemory] or [TransportNATS].
	Kind string `toml:"transport" default:"postgres" choice:"postgres,in_memory,nats"`
	// RunBridge publishes what the databases record, RunExecutors runs actions.
	// Both are true unless Kind is [TransportNATS].
	RunBridge    bool `toml:"run_bridge" default:"true"`
	RunExecutors bool `toml:"run_executors" default:"true"`
	// NATS is the server and the stream, Bridge what publishes to it.
	NATS   NATS   `toml:"nats"`
	Bridge Bridge `toml:"bridge"`
}

// Distributed reports whether events go through NATS.
func (t Transport) Distributed() bool { return t.Kind == TransportNATS }

// NATS is a server with JetStream, the stream on it, and who reads that.
type NATS struct {
	// URL is one or more addresses, separated by commas, or [Embedded].
	URL observer.Secret `toml:"url" default:"nats://127.0.0.1:4222"`
	// StoreDir is where an embedded server keeps its stream.
	StoreDir string `toml:"store_dir" default:"fraiseql-observer.nats"`
	// User and Password, Token, NKeySeed, and CredentialsFile, which has a JWT and
	// its seed, say who connects: one of the four, or a user in URL, or none.
	User            string          `toml:"user"`
	Password        observer.Secret `toml:"password"`
	Token           observer.Secret `toml:"token"`
	NKeySeed        observer.Secret `toml:"nkey_seed"`
	CredentialsFile string          `toml:"credentials_file"`
	// AllowPlaintext permits a connection without TLS to another machine.
	AllowPlaintext bool `toml:"allow_plaintext" default:"false"`
	// TLS is what verifies the server, and what it verifies.
	TLS outbound.TLS `toml:"tls"`
	// StreamName and SubjectPrefix name the stream and begin its subjects.
	StreamName    string `toml:"stream_name" default:"fraiseql_events"`
	SubjectPrefix string `toml:"subject_prefix" default:"fraiseql.mutation"`
	// Partitions is how many logs the stream has, of which each is read by one
	// worker at a time. A stream keeps the count it was made with.
	Partitions int `toml:"partitions" default:"32" min:"1" max:"1024"`
	// ConsumerName is that of the workers that share the work.
	ConsumerName string `toml:"consumer_name" default:"fraiseql_observer_worker"`
	// Databases, Entities and Tenants are what the workers look at; nil is all, and
	// no other list is empty.
	Databases []string `toml:"databases"`
	Entities  []string `toml:"entities"`
	Tenants   []string `toml:"tenants"`
	// JetStream bounds the stream.
	JetStream JetStream `toml:"jetstream"`
}

// Embedded is the URL of a server inside the process.
const Embedded = "embedded"

// IsEmbedded reports whether the server is one inside the process.
func (n NATS) IsEmbedded() bool { return n.URL.Reveal() == Embedded }

// JetStream bounds what a stream holds.
type JetStream struct {
	// DedupWindow is how long the server knows the ids of what was published.
	DedupWindow time.Duration `toml:"dedup_window_minutes" default:"5" min:"1" max:"1440"`
	// MaxAge, MaxMsgs and MaxBytes bound the stream. What is older goes; what is
	// more has the bridges wait.
	MaxAge   time.Duration `toml:"max_age_days" default:"7" min:"1" max:"3650"`
	MaxMsgs  int64         `toml:"max_msgs" default:"10000000" min:"1" max:"1000000000000"`
	MaxBytes int64         `toml:"max_bytes" default:"10737418240" min:"1048576" max:"1000000000000000"`
	// PurgeHandled has bridges remove what the workers have handled while the stream is
	// nearly full.
	PurgeHandled bool `toml:"purge_handled" default:"true"`
	// Replicas is how many servers of a cluster keep the stream.
	Replicas int `toml:"replicas" default:"1" min:"1" max:"5"`
	// AckWait and MaxDeliver are words of consumers that acknowledge each message.
	// Ours keep checkpoints, and no message is ever given up by the server.
	AckWait    time.Duration `toml:"ack_wait_secs" default:"30" min:"1" max:"86400"`
	MaxDeliver int           `toml:"max_deliver" default:"-1" min:"-1" max:"1000000"`
}

// Bridge is what publishes the changes of a database.
type Bridge struct {
	// TransportName is part of the name of its checkpoint, which is that of the
	// database when it is empty: a change of the transport goes on where the other one
	// was.
	TransportName string `toml:"transport_name" default:""`
	// BatchSize is how many events are published at once, if the server takes as many;
	// by default servers take 1000.
	BatchSize int `toml:"batch_size" default:"1000" min:"1" max:"4000"`
	// PollInterval is how often an idle database is looked at; that of the database
	// when zero.
	PollInterval time.Duration `toml:"poll_interval_secs" default:"0" min:"0" max:"3600"`
	// NotifyChannel is the one that wakes it.
	NotifyChannel string `toml:"notify_channel" default:"fraiseql_events" choice:"fraiseql_events"`
	// Reconcile compares the change logs with what the workers have handled, and
	// publishes again what is missing, once it was missing for Grace.
	Reconcile bool          `toml:"reconcile" default:"true"`
	Grace     time.Duration `toml:"reconcile_grace" default:"30s" min:"1s" max:"24h"`
}

func (t *Transport) read(s *scope) {
	s.fields(t)
	t.checkHalves(s)
	// Who only might use NATS one day is not kept from starting.
	if nats := s.inner("nats"); t.Distributed() && !nats.failed("url") {
		t.NATS.checkPlaintext(nats)
	}
}

// checkHalves reports halves that are left out where nothing would do their work.
func (t *Transport) checkHalves(s *scope) {
	const bridge, executors = "run_bridge", "run_executors"
	if s.failed("transport") || s.failed(bridge) || s.failed(executors) {
		return
	}
	off := executors
	switch {
	case t.RunBridge && t.RunExecutors:
		return
	case !t.RunBridge && !t.RunExecutors:
		s.failKey(executors, "is false like run_bridge, so that this process would do nothing: leave one of them out")
		return
	case t.RunExecutors:
		off = bridge
	}
	switch {
	case !t.Distributed():
		s.failKey(off, `is for transport = "nats": without it, one process reads the changes and runs the actions`)
	case t.NATS.IsEmbedded():
		s.failKey(off, `must be true with url = "embedded": no other process can reach that server`)
	}
}

func (b *Bridge) read(s *scope) {
	const key = "transport_name"
	s.fields(b)
	if !s.failed(key) && b.TransportName != "" && !validName.MatchString(b.TransportName) {
		s.failKey(key, nameRule)
	}
}

// checkTransport reports what a process lacks for the half that it runs, and
// notes what has no effect on it.
func (s *scope) checkTransport(c *Config) {
	c.idle = s.idle(c.Transport)
	if c.ReadsDatabases() || len(c.Databases) > 0 || s.failed("databases") {
		return
	}
	if state := s.inner("state"); !state.given("url") {
		state.failKey("url", "is missing: workers share the state of the bridges, and this one has no database to find it in; "+
			`write the url that the bridges have, such as "postgres://user@host:5432/database"`)
	}
}

// ReadsDatabases reports whether this process reads change logs. One that does not
// needs no access to the databases.
func (c *Config) ReadsDatabases() bool { return !c.Transport.Distributed() || c.Transport.RunBridge }

// idle are sentences about keys that are given and have no effect.
func (s *scope) idle(t Transport) []string {
	transport := s.inner("transport")
	nats := transport.inner("nats")
	if !t.Distributed() {
		keys := append(nats.givenBelow(reflect.TypeFor[NATS]()), transport.inner("bridge").givenBelow(reflect.TypeFor[Bridge]())...)
		return ineffective(keys, `for transport = "nats", and this is "`+t.Kind+`"`)
	}
	var warnings []string
	if t.NATS.IsEmbedded() {
		keys := nats.givenAmong("user", "password", "token", "nkey_seed", "credentials_file", "allow_plaintext")
		keys = append(keys, nats.inner("tls").givenBelow(reflect.TypeFor[outbound.TLS]())...)
		warnings = ineffective(keys, `for a server elsewhere, and url is "embedded"`)
	} else {
		warnings = ineffective(nats.givenAmong("store_dir"), `for url = "embedded"`)
	}
	return append(warnings, ineffective(nats.inner("jetstream").givenAmong("ack_wait_secs", "max_deliver"),
		"for consumers that acknowledge each message: ours keep checkpoints, and max_attempts of the retries decides about deliveries")...)
}

// ineffective is the sentence that says so, none without keys.
func ineffective(keys []string, reason string) []string {
	switch len(keys) {
	case 0:
		return nil
	case 1:
		return []string{keys[0] + " has no effect: it is " + reason}
	}
	return []string{strings.Join(keys, ", ") + " have no effect: they are " + reason}
}

// givenAmong are the paths of those keys that the file or the environment has.
func (s *scope) givenAmong(keys ...string) []string {
	var paths []string
	for _, key := range keys {
		if s.given(key) {
			paths = append(paths, join(s.path, key))
		}
	}
	return paths
}

// givenBelow are those of all keys of a section, in the order of its fields.
func (s *scope) givenBelow(section reflect.Type) []string {
	var paths []string
	for field := range section.Fields() {
		if key := field.Tag.Get("toml"); isTable(field.Type) {
			paths = append(paths, s.inner(key).givenBelow(field.Type)...)
		} else {
			paths = append(paths, s.givenAmong(key)...)
		}
	}
	return paths
}

// CheckpointName is the name of the checkpoint of a database.
func (c *Config) CheckpointName(database string) string {
	if name := c.Transport.Bridge.TransportName; c.Transport.Distributed() && name != "" {
		return name + "/" + database
	}
	return database
}

// Looks reports whether the workers look at the changes of a database.
func (n NATS) Looks(database string) bool {
	return len(n.Databases) == 0 || slices.Contains(n.Databases, database)
}
