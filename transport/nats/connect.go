package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/internal/connection"
	"github.com/fraiseql/observer/internal/natsclient"
)

// Config says how to reach the servers.
type Config struct {
	// URL is the server, nats://host:4222 or tls://host:4222, or all servers of a
	// cluster, separated by commas and alike in their scheme. Required without
	// InProcess. It is a secret: a user and password may be in it.
	URL observer.Secret
	// User and Password, Token, NKeySeed or NKeySeedFile, Credentials (JWT and seed,
	// the content of a file) or CredentialsFile: one way to log in, at most.
	User            string
	Password, Token observer.Secret
	NKeySeed        observer.Secret
	NKeySeedFile    string
	Credentials     observer.Secret
	CredentialsFile string
	// CAFile verifies the server instead of the system's authorities. CertFile and
	// KeyFile are shown to it; all are PEM. ServerName is the name that the
	// certificate of the server must have; that of URL when "". Any of them encrypts
	// the connection, whatever the scheme of URL.
	CAFile, CertFile, KeyFile, ServerName string
	// AllowPlaintext permits nats:// to a host that is not this one.
	AllowPlaintext bool
	// Name is what the server calls the connection; "fraiseql-observer" when "".
	Name string
	// Dial connects; a plain dialer when nil.
	Dial connection.Dial
	// InProcess is a server of this process, instead of URL.
	InProcess InProcess
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

// InProcess is a server that takes connections within the process.
type InProcess interface {
	InProcessConn() (net.Conn, error)
}

// Conn is a connection to NATS. It is made with [Connect] and safe for concurrent
// use.
type Conn struct {
	nc       *client.Conn
	js       jetstream.JetStream
	place    string
	login    natsclient.Credentials
	redactor observer.Redactor
	logger   *slog.Logger
	closed   chan struct{}

	mu      sync.Mutex
	trouble *trouble
}

// trouble is what ends the wait for an answer that will not come.
type trouble struct {
	came chan struct{}
	err  error
}

var errLost = errors.New("the connection was lost")

// watch returns the next trouble. Taken before something is asked for, it covers
// all that happens to the answer.
func (c *Conn) watch() *trouble {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}

// attended gives a context that also ends at the next trouble, after which no
// answer comes. Its cause says which.
func (c *Conn) attended(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	trouble := c.watch()
	go func() {
		select {
		case <-trouble.came:
			cancel(trouble.err)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// interrupt ends what waits for an answer.
func (c *Conn) interrupt(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trouble.err = err
	close(c.trouble.came)
	c.trouble = &trouble{came: make(chan struct{})}
}

const (
	// connectTime bounds each step of connecting to one server, closeTime what is
	// waited for when a connection is closed.
	connectTime = 10 * time.Second
	closeTime   = 5 * time.Second
	// pingEvery finds out that a server is gone that does not say so: after two.
	pingEvery = 5 * time.Second
	// apiTime bounds a request that has no closer deadline.
	apiTime = 10 * time.Second
)

// Connect connects to a server. An invalid configuration gives
// [observer.FieldError]s, joined and [observer.Permanent]; other errors may pass.
// A connection that is lost later comes back by itself, however long that takes;
// what is asked for meanwhile fails at once. No error and no log has a secret.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Name == "" {
		cfg.Name = "fraiseql-observer"
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: connectTime}).DialContext
	}
	c := &Conn{place: "in process", closed: make(chan struct{}), logger: cfg.Logger, trouble: &trouble{came: make(chan struct{})}}
	c.redactor = observer.NewRedactor(cfg.URL, cfg.Password, cfg.Token, cfg.NKeySeed, cfg.Credentials)
	options, urls, err := c.options(cfg)
	if err != nil {
		return nil, observer.Permanent(observer.ReasonPermanent, err)
	}
	if c.nc, err = dial(ctx, cfg.Dial, urls, options); err != nil {
		return nil, c.explain(fmt.Errorf("connect: %w", err))
	}
	if c.js, err = jetstream.New(c.nc, jetstream.WithDefaultTimeout(apiTime)); err != nil {
		c.nc.Close()
		return nil, c.explain(err)
	}
	return c, nil
}

// dial connects. The library has no context for that, so the end of ctx ends the
// connections that it makes meanwhile.
func dial(ctx context.Context, dial connection.Dial, urls string, options []client.Option) (*client.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	life := context.WithoutCancel(ctx) // the library dials again when ctx is long over
	conns := connection.NewTracker(dial)
	var undialed atomic.Pointer[error] // which the library would not tell
	options = append(options, client.SetCustomDialer(dialer(func(network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(life, connectTime)
		defer cancel()
		conn, err := conns.DialContext(ctx, network, address)
		if err != nil {
			undialed.Store(&err)
		}
		return conn, err
	})))
	stop := context.AfterFunc(ctx, conns.Cut)
	nc, err := client.Connect(urls, options...)
	stopped := stop()
	switch {
	case err == nil && stopped:
		return nc, nil
	case err == nil:
		nc.Close()
		return nil, ctx.Err()
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	if cause := undialed.Load(); cause != nil && errors.Is(err, client.ErrNoServers) {
		return nil, *cause
	}
	return nil, err
}

// dialer is a [client.CustomDialer].
type dialer func(network, address string) (net.Conn, error)

// Dial connects.
func (d dialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

func (c *Conn) options(cfg Config) ([]client.Option, string, error) {
	retry := backoff.Policy{Initial: 100 * time.Millisecond, Max: 5 * time.Second}
	options := []client.Option{
		client.Name(cfg.Name), client.Timeout(connectTime), client.SkipHostLookup(), client.IgnoreDiscoveredServers(),
		client.MaxReconnects(-1), client.IgnoreAuthErrorAbort(),
		client.CustomReconnectDelay(func(attempts int) time.Duration { return retry.Delay(max(1, attempts)) }),
		// What is sent while there is no server fails, so that nothing is sent twice.
		client.ReconnectBufSize(-1),
		client.PingInterval(pingEvery), client.MaxPingsOutstanding(2), client.DrainTimeout(closeTime),
		client.DisconnectErrHandler(func(_ *client.Conn, err error) {
			c.interrupt(errLost)
			if err != nil {
				c.logger.Warn("connection to NATS lost; connecting again", "server", c.place, "error", c.redactor.Redact(err.Error()))
			}
		}),
		client.ReconnectHandler(func(*client.Conn) { c.logger.Info("connected to NATS again", "server", c.place) }),
		client.ErrorHandler(func(_ *client.Conn, _ *client.Subscription, err error) {
			if errors.Is(err, client.ErrPermissionViolation) {
				c.interrupt(err) // the server says so on the side, and nothing else
			}
			c.logger.Warn("NATS reports an error", "server", c.place, "error", c.redactor.Redact(c.login.Explain(err).Error()))
		}),
		client.ClosedHandler(func(*client.Conn) { close(c.closed) }),
	}
	if cfg.InProcess != nil {
		return append(options, client.InProcessServer(cfg.InProcess)), "", nil
	}
	servers, err := natsclient.Servers(cfg.URL)
	if err != nil {
		return nil, "", &observer.FieldError{Field: "url", Err: err}
	}
	var urls, places []string
	for _, s := range servers {
		c.redactor = c.redactor.With(s.Secret, observer.NewSecret(s.URL))
		urls, places = append(urls, s.URL), append(places, s.Place)
	}
	c.place = strings.Join(places, ",")
	encryption, err := natsclient.Files{CA: cfg.CAFile, Cert: cfg.CertFile, Key: cfg.KeyFile, ServerName: cfg.ServerName}.TLS()
	c.login = natsclient.Credentials{
		User: cfg.User, Password: cfg.Password, Token: cfg.Token, Seed: cfg.NKeySeed, SeedFile: cfg.NKeySeedFile,
		JWT: cfg.Credentials, JWTFile: cfg.CredentialsFile,
		Unreadable: func(err error) {
			c.logger.Warn("cannot log in to NATS", "server", c.place, "error", c.redactor.Redact(err.Error()))
		},
	}
	login, loginErr := c.login.Option()
	if err := errors.Join(checkEncryption(servers, cfg), err, loginErr); err != nil {
		return nil, "", err
	}
	options = append(options, natsclient.Encrypt(encryption, servers[0].TLS || cfg.encrypts()))
	if login != nil {
		options = append(options, login)
	}
	return options, strings.Join(urls, ","), nil
}

// checkEncryption refuses what would send passwords and events over a network
// that others can read.
func checkEncryption(servers []natsclient.Server, cfg Config) error {
	if exposed := natsclient.Exposed(servers, cfg.encrypts()); len(exposed) > 0 && !cfg.AllowPlaintext {
		return &observer.FieldError{Field: "url", Err: fmt.Errorf("nats:// to %s is not encrypted: "+
			"write tls://%s, or allow_plaintext = true where nobody else can read the network", exposed[0], exposed[0])}
	}
	return nil
}

// encrypts reports whether the connection is encrypted whatever the scheme of URL.
func (c Config) encrypts() bool {
	return c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" || c.ServerName != ""
}

// explain says which server an error is from, and which credentials it is about,
// and hides secrets in it.
func (c *Conn) explain(err error) error {
	if err == nil {
		return nil
	}
	err = c.login.Explain(err)
	if text := err.Error(); c.redactor.Contains(text) {
		err = errors.New(c.redactor.Redact(text))
	}
	return fmt.Errorf("nats server %s: %w", c.place, err)
}

// Close sends what is on its way, at most for some seconds, and closes the
// connection. Nothing of it runs afterwards.
func (c *Conn) Close() error {
	if err := c.nc.Drain(); err != nil { // there is no server now, or it is closed already
		c.nc.Close()
	}
	timer := time.NewTimer(2 * closeTime)
	defer timer.Stop()
	select {
	case <-c.closed:
	case <-timer.C:
		c.nc.Close()
		<-c.closed
	}
	return nil
}
