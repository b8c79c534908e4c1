package topology

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/dedup"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/store/redis"
)

const (
	// dedupLease is how long a delivery waits whose process died, where nobody took
	// over the lease under which that one read. It is longer than a process may go
	// on without the state store.
	dedupLease = 30 * time.Second
	// redeliveryHorizon is how long after it was handled an event may be handed
	// over again at least: a process that was killed starts again, and a source
	// that lost its place reads the latest part of its log once more.
	redeliveryHorizon = 10 * time.Minute
)

// OpenRedis makes the connection to the Redis of a configuration; nil when it
// has none. It does not connect, and Redis may be away.
func OpenRedis(cfg *config.Config) (*redis.Client, error) {
	if !cfg.Redis.Configured() {
		return nil, nil //nolint:nilnil // there may be none
	}
	client, err := redis.New(redis.Config{
		URL: cfg.Redis.URL, PoolSize: cfg.Redis.PoolSize,
		ConnectTimeout: cfg.Redis.ConnectTimeout, CommandTimeout: cfg.Redis.CommandTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return client, nil
}

// front is Redis as deduplication sees it.
type front struct{ *redis.Client }

func (f front) Dedup(epoch string) observer.DedupStore { return f.Client.Dedup(epoch) }

// dedupOf is the layer that has deliveries handled once; nil when it is turned
// off. Redis answers where there is one, and else the state store does.
func (t *Topology) dedupOf(cfg *config.Config) *middleware.Dedup {
	if !cfg.Performance.EnableDedup {
		return nil
	}
	session := t.Owner + "/" + rand.Text()
	m := &middleware.Dedup{
		Store: t.Store, Owner: session, Lease: dedupLease, Keep: dedupKeep(cfg),
		Open: cfg.Dedup.OnError == config.DedupOpen, Counters: t.Counters, Logger: t.logger,
	}
	if t.redis != nil {
		t.dedup = dedup.New(dedup.Config{
			State: t.Store, Front: front{t.redis}, Session: session, Keep: m.Keep, Bypassed: t.Counters.Bypassed, Logger: t.logger,
		})
		m.Store = t.dedup
	}
	return m
}

// dedupKeep is how long it is remembered that a delivery was handled.
func dedupKeep(cfg *config.Config) time.Duration {
	return max(cfg.Redis.DedupWindow, redeliveryHorizon)
}

// dedupLayer is the layer of deduplication; none when it is turned off.
func (l *layers) dedupLayer() Layer {
	if !l.cfg.Performance.EnableDedup {
		return Layer{}
	}
	return Layer{"dedup", aboutDedup(l.cfg), func() observer.Middleware[observer.Action] { return l.dedup.Middleware() }}
}

// closeAll releases what Build opened, in the order in which it is needed.
func (t *Topology) closeAll() []error {
	var errs []error
	if t.dedup != nil {
		errs = append(errs, t.dedup.Close())
	}
	if t.cache != nil {
		errs = append(errs, t.cache.Close())
	}
	if t.limiter != nil {
		errs = append(errs, t.limiter.Close())
	}
	if t.redis != nil {
		errs = append(errs, t.redis.Close())
	}
	if t.stream != nil {
		errs = append(errs, t.stream.close())
	}
	return append(errs, t.Store.Close())
}
