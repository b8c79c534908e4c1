package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
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
	// its seed, say who connects: one of the four, or none.
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
	// Databases, Entities and Tenants are what the workers look at; nil is all.
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
	// Replicas is how many servers of a cluster keep the stream.
	Replicas int `toml:"replicas" default:"1" min:"1" max:"5"`
	// AckWait and MaxDeliver are words of consumers that acknowledge each message.
	// Ours keep checkpoints, and no message is ever given up by the server.
	AckWait    time.Duration `toml:"ack_wait_secs" default:"30" min:"1" max:"86400"`
	MaxDeliver int           `toml:"max_deliver" default:"-1" min:"-1" max:"1000000"`
}

// Bridge is what publishes the changes of a database.
type Bridge struct {
	// TransportName is part of the names of its checkpoints and leases.
	TransportName string `toml:"transport_name" default:"bridge"`
	// BatchSize is how many events are published at once.
	BatchSize int `toml:"batch_size" default:"500" min:"1" max:"1000"`
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
	if !t.RunBridge && !t.RunExecutors && !s.failed("run_bridge") && !s.failed("run_executors") {
		s.failKey("run_executors", "is false like run_bridge, so that this process would do nothing: leave one of them out")
	}
	for key, runs := range map[string]bool{"run_bridge": t.RunBridge, "run_executors": t.RunExecutors} {
		switch {
		case runs || s.failed(key):
		case !t.Distributed() && !s.failed("transport"):
			s.failKey(key, `is for transport = "nats": without it, one process reads the changes and runs the actions`)
		case t.NATS.IsEmbedded():
			s.failKey(key, `must be true with url = "embedded": no other process can reach that server`)
		}
	}
}

func (n *NATS) read(s *scope) {
	s.fields(n)
	dir := filepath.Dir(s.doc.file)
	for _, file := range []*string{&n.StoreDir, &n.CredentialsFile} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
	n.checkNames(s)
	n.checkWho(s)
	if s.failed("url") || n.IsEmbedded() {
		return
	}
	if err := n.checkURL(); err != nil {
		s.failKey("url", "%s", err.Error())
	}
}

// checkNames reports names that NATS has no use for.
func (n *NATS) checkNames(s *scope) {
	for key, name := range map[string]string{"stream_name": n.StreamName, "consumer_name": n.ConsumerName} {
		if !s.failed(key) && (name == "" || strings.ContainsAny(name, " \t\r\n.*>/\\")) {
			s.failKey(key, "must not be empty, and has no spaces, dots, asterisks, slashes or >")
		}
	}
	tokens := strings.Split(n.SubjectPrefix, ".")
	if !s.failed("subject_prefix") && (slices.Contains(tokens, "") || strings.ContainsAny(n.SubjectPrefix, " \t\r\n*>")) {
		s.failKey("subject_prefix", "must be words with dots between them, such as fraiseql.mutation")
	}
}

// checkWho reports more than one way to say who connects.
func (n *NATS) checkWho(s *scope) {
	first := ""
	for key, given := range map[string]bool{
		"user": n.User != "" || !n.Password.IsZero(), "token": !n.Token.IsZero(), "nkey_seed": !n.NKeySeed.IsZero(), "credentials_file": n.CredentialsFile != "",
	} {
		switch {
		case !given:
		case first != "":
			s.failKey(max(first, key), "stands beside %s: write one of the two", min(first, key))
			return
		default:
			first = key
		}
	}
	if n.User == "" && !n.Password.IsZero() && !s.failed("password") {
		s.failKey("password", "stands without user")
	}
}

// checkURL reports addresses that cannot be, in words that do not repeat them: they
// may have a password.
func (n *NATS) checkURL() error {
	for text := range strings.SplitSeq(n.URL.Reveal(), ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return errors.New(`is no URL of NATS: write url = "nats://host:4222" (tls:// with TLS), several with commas, or "embedded"`)
		}
		encrypted := u.Scheme == "tls" || u.Scheme == "wss" || !n.TLS.IsZero()
		if !encrypted && !n.AllowPlaintext && !isLoopback(u.Hostname()) {
			return fmt.Errorf("leads to %s without TLS, and every change would be readable on the way: write tls://, "+
				"or allow_plaintext = true where the network is trusted", u.Host)
		}
	}
	return nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// checkTransport reports what a process lacks for the half that it runs.
func (s *scope) checkTransport(c *Config) {
	t := c.Transport
	if !t.Distributed() || t.RunBridge || len(c.Databases) > 0 || s.inner("state").given("url") {
		return
	}
	s.failKey("state", "has no url: workers share their state; write the url that the bridges have, such as %s",
		strconv.Quote("postgres://user@host:5432/database"))
}

// transportWarnings are about keys that mean nothing here.
func (t Transport) warnings() []string {
	if !t.Distributed() {
		return nil
	}
	var warnings []string
	if t.NATS.JetStream.MaxDeliver >= 0 {
		warnings = append(warnings, "transport.nats.jetstream.max_deliver has no effect: no message is given up by the server; "+
			"max_attempts of the retries decides about deliveries")
	}
	if host, _, err := net.SplitHostPort(strings.TrimPrefix(t.NATS.URL.Reveal(), "nats://")); err == nil && t.NATS.AllowPlaintext && !isLoopback(host) {
		warnings = append(warnings, "transport.nats.allow_plaintext: every change crosses the network unencrypted")
	}
	return warnings
}

// readsDatabases reports whether this process reads change logs.
func (c *Config) readsDatabases() bool { return !c.Transport.Distributed() || c.Transport.RunBridge }
