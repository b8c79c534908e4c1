// Package redis keeps in Redis what may be forgotten: which deliveries are being
// handled and which were, results, and how much of the limit of an endpoint is
// used.
//
// One [Client] serves a process. Its connections carry the commands of all
// callers together, so there are few of them. Every call has a deadline.
//
// # What Redis forgets
//
// Claims and marks belong to an epoch, which [Client.NewEpoch] begins. Every
// script checks that nothing can have been forgotten since: that the marker of
// the epoch is there (nobody flushed the database, nor did it start empty), that
// the server is the same life of the same server (it did not restart from an old
// snapshot, and no replica took its place), and that it has evicted nothing.
// Otherwise, and whenever Redis fails or does not answer in time, the answer is
// an error, and whoever asked has to ask a store that forgets nothing.
package redis

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/rueidis"

	observer "github.com/fraiseql/observer"
)

// The defaults of [Config].
const (
	DefaultPoolSize       = 10
	DefaultConnectTimeout = 5 * time.Second
	DefaultCommandTimeout = 2 * time.Second
)

// Config says how to reach a server. URL is required; the zero value of every
// other field is its default.
type Config struct {
	// URL has the form redis://user:password@host:6379/0, with rediss for TLS.
	URL observer.Secret
	// PoolSize bounds the connections that are held for commands that block.
	PoolSize int
	// ConnectTimeout bounds connecting, CommandTimeout an answer.
	ConnectTimeout, CommandTimeout time.Duration
}

// Client is a connection to a server that may be away: it connects when it is
// asked for something, and again whenever it has to. Make one with [New]; it may
// be used by any number of goroutines.
type Client struct {
	options rueidis.ClientOption
	timeout time.Duration
	place   string
	link    *link
	scripts scripts
}

// New reads a configuration. It connects to nobody.
func New(cfg Config) (*Client, error) {
	options, err := rueidis.ParseURL(cfg.URL.Reveal())
	if err != nil || cfg.URL.IsZero() {
		// What was read may have a password in it.
		return nil, errors.New("the URL of Redis cannot be read; it has the form redis://user:password@host:6379/0 (rediss with TLS)")
	}
	if cfg.PoolSize <= 0 {
		cfg.PoolSize = DefaultPoolSize
	}
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = DefaultConnectTimeout
	}
	if cfg.CommandTimeout <= 0 {
		cfg.CommandTimeout = DefaultCommandTimeout
	}
	options.Dialer.Timeout = cfg.ConnectTimeout
	options.ConnWriteTimeout = cfg.CommandTimeout
	options.BlockingPoolSize = cfg.PoolSize
	options.ClientName = "fraiseql-observer"
	options.ForceSingleClient = true
	// A script may have run although its answer was lost: who asked decides.
	options.DisableRetry = true
	options.DialCtxFn = dial
	return &Client{options: options, timeout: cfg.CommandTimeout, place: placeOf(cfg.URL.Reveal()), link: newLink(), scripts: newScripts()}, nil
}

// Close ends the connections. Calls under way fail.
func (c *Client) Close() error {
	c.link.close()
	return nil
}

// String says where the server is, without the password.
func (c *Client) String() string { return c.place }

func placeOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "Redis"
	}
	return "Redis at " + u.Host + strings.TrimSuffix(u.Path, "/")
}

// attempts is how often a call is made whose connection turns out to be gone:
// each of those that were idle finds out by itself.
const attempts = 4

// do has a call made within the time for a command. It may be made several
// times.
func (c *Client) do(ctx context.Context, call func(ctx context.Context, client rueidis.Client) error) error {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	client, err := c.link.client(limited, c.options)
	if err == nil {
		for range attempts {
			err = call(limited, client)
			if _, told := rueidis.IsRedisErr(err); err == nil || told || limited.Err() != nil {
				break
			}
		}
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return c.explain(err)
}

// explain says what happened, where, and what to do about it.
func (c *Client) explain(err error) error {
	answer, told := rueidis.IsRedisErr(err)
	switch {
	case told && strings.HasPrefix(answer.Error(), forgot):
		return fmt.Errorf("%s has forgotten what it was told: %s", c.place, strings.TrimPrefix(answer.Error(), forgot+" "))
	case told:
		return fmt.Errorf("%s refuses: %s", c.place, answer.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s gave no answer within %s", c.place, c.timeout)
	}
	return fmt.Errorf("%s cannot be reached: %w", c.place, err)
}
