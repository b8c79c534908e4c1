package cache

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/connection"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// answerTime is how long a server may take for anything while others wait on the
// same connection: a net below the timeout of each attempt.
const answerTime = 30 * time.Second

// Dial connects to the Redis server.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// New makes an action that connects by dial when it first runs. An invalid
// configuration gives [observer.FieldError]s, joined.
func New(cfg Config, dial Dial) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	option, urlErr := clientOption(cfg.URL)
	kind := cmp.Or(cfg.Action, invalidate)
	var actionErr error
	if kind != invalidate && kind != invalidatePattern {
		actionErr = fmt.Errorf("%q is neither %s nor %s", cfg.Action, invalidate, invalidatePattern)
	}
	key, keyErr := compileKey(templates, cfg.KeyPattern, kind)
	err = errors.Join(outbound.Invalid("url", urlErr), outbound.Invalid("key_pattern", keyErr), outbound.Invalid("action", actionErr))
	if err != nil {
		return nil, err
	}
	redactor := cfg.Redactor.With(cfg.URL, observer.NewSecret(option.Password))
	place := option.InitAddress[0]
	return &Action{
		key: key, pattern: kind == invalidatePattern, redactor: redactor, place: place,
		endpoint: outbound.Endpoint(redactor, "cache", place, "", false),
		client:   connection.New(opener{option, dial}.open, rueidis.Client.Close, nil),
	}, nil
}

// clientOption never repeats the URL in its errors: it is a secret.
func clientOption(secret observer.Secret) (rueidis.ClientOption, error) {
	if secret.IsZero() {
		return rueidis.ClientOption{}, errors.New("is required")
	}
	u, err := url.Parse(secret.Reveal())
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" {
		return rueidis.ClientOption{}, errors.New("is not the URL of a Redis server (redis://user:password@host:port/database, or rediss:// for TLS)")
	}
	option, err := rueidis.ParseURL(secret.Reveal())
	if err != nil || len(option.InitAddress) == 0 {
		return rueidis.ClientOption{}, errors.New("is not the URL of a Redis server: a database or a parameter in it cannot be read")
	}
	if option.TLSConfig != nil {
		option.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	}
	option.DisableCache = true
	option.DisableRetry = true // attempts are counted and paced by others
	option.ConnWriteTimeout = answerTime
	option.ClientName = "fraiseql-observer"
	return option, nil
}

func compileKey(templates *template.Compiler, src, kind string) (*template.Template, error) {
	switch {
	case src == "":
		return nil, errors.New("is required")
	case kind == invalidatePattern:
		return templates.CompileEscaped(src, "key pattern", escapeGlob)
	}
	return templates.Compile(src, template.Text)
}

// escapeGlob makes a value match itself only. An empty one is refused: it would
// let a pattern such as "{{ data.tenant }}*" match what is not meant.
func escapeGlob(value string) (string, error) {
	if value == "" {
		return "", errors.New("the value is empty, and the pattern would match more than is meant")
	}
	var b strings.Builder
	for i := range len(value) {
		if strings.IndexByte(`*?[]^-\`, value[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(value[i])
	}
	return b.String(), nil
}

// opener makes clients.
type opener struct {
	option rueidis.ClientOption
	dial   Dial
}

// open connects. The library has no context for that, so the end of ctx ends
// the connections that it makes meanwhile.
func (o opener) open(ctx context.Context) (rueidis.Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	option := o.option
	conns := connection.NewTracker(connection.Dial(o.dial))
	option.DialCtxFn = func(dialing context.Context, address string, _ *net.Dialer, encrypted *tls.Config) (net.Conn, error) {
		merged, cancel := context.WithTimeout(dialing, answerTime)
		defer cancel()
		conn, err := conns.DialContext(merged, "tcp", address)
		if err != nil {
			return nil, &dialError{err}
		}
		if encrypted != nil {
			conn = tls.Client(conn, encrypted)
		}
		return conn, nil
	}
	stop := context.AfterFunc(ctx, conns.Cut)
	defer stop()
	client, err := rueidis.NewClient(option)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return client, err
}

// dialError is a failure to connect: nothing was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }
