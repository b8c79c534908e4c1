package redis_test

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/deduptest"
	"github.com/fraiseql/observer/store/redis"
)

func newClient(t testing.TB, url string) *redis.Client {
	t.Helper()
	c, err := redis.New(redis.Config{URL: observer.NewSecret(url), CommandTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newEpoch(t testing.TB, c *redis.Client) string {
	t.Helper()
	epoch, err := c.NewEpoch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

func TestDedup(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	c, other := newClient(t, url), newClient(t, url)
	deduptest.Run(t, func(t *testing.T) deduptest.Subject {
		t.Helper()
		epoch := newEpoch(t, c)
		return deduptest.Subject{
			Store: c.Dedup(epoch), Again: func(*testing.T) observer.DedupStore { return other.Dedup(epoch) },
			Unit: 100 * time.Millisecond, Pass: func(d time.Duration) { <-time.After(d) },
		}
	})
}
