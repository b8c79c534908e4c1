package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// Redis returns the URL of an empty database, which this test alone uses, on the
// Redis server that the tests of this binary share, or on that of TEST_REDIS_URL.
// It is emptied when the test ends. FLUSHALL, CONFIG SET and the like would reach
// other tests too: a test that needs them takes [PrivateRedis]. The test is
// skipped where there is no Redis, and fails there under CI.
func Redis(t testing.TB) string {
	t.Helper()
	server, err := shared.redis(t.Context())
	if err != nil {
		unavailable(t, err)
	}
	number, err := claimRedis(t.Context(), server)
	if err != nil {
		t.Fatalf("take a Redis database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := releaseRedis(ctx, server, number); err != nil {
			t.Errorf("empty Redis database %d: %v", number, err)
		}
	})
	return withRedisDatabase(server, number)
}

// RedisCommand sends one command to the Redis server at a URL, on a connection of
// its own, and returns the answer: a string, an int64, nil or a []any of those.
// The test fails when the answer is an error.
func RedisCommand(t testing.TB, url string, args ...string) any {
	t.Helper()
	answer, err := redisDo(t.Context(), url, args...)
	if err != nil {
		t.Fatalf("redis %s: %v", args[0], err)
	}
	return answer
}

// claimRedis takes a database of a server for one test. Who has which is noted
// in database 0, so that the processes of several packages can share a server;
// one that holds anything belongs to somebody else.
func claimRedis(ctx context.Context, server string) (int, error) {
	count := 16 // what Redis has by default, should it not tell
	if answer, err := redisDo(ctx, server, "CONFIG", "GET", "databases"); err == nil {
		if pair, ok := answer.([]any); ok && len(pair) == 2 {
			count, _ = strconv.Atoi(fmt.Sprint(pair[1]))
		}
	}
	if count < 2 {
		return 0, errors.New("this server has one database only, and tests would meet in it")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for start := rand.IntN(count); ; {
		for i := range count - 1 {
			number := 1 + (start+i)%(count-1)
			if mine, err := tryRedis(ctx, server, number); mine || err != nil {
				return number, err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("each of the %d databases is in use: %w", count-1, ctx.Err())
		}
	}
}

// claimLease outlasts every test. It is what frees the databases of a process
// that was killed on a server that lives on.
const claimLease = "3600"

func tryRedis(ctx context.Context, server string, number int) (bool, error) {
	answer, err := redisDo(ctx, withRedisDatabase(server, 0), "SET", claimKey(number), "taken", "NX", "EX", claimLease)
	if answer == nil || err != nil {
		return false, err
	}
	size, err := redisDo(ctx, withRedisDatabase(server, number), "DBSIZE")
	// The note stays on one with foreign data, so that it is not tried again soon.
	return err == nil && size == int64(0), err
}

func releaseRedis(ctx context.Context, server string, number int) error {
	_, err := redisDo(ctx, withRedisDatabase(server, number), "FLUSHDB")
	if err != nil {
		return err
	}
	_, err = redisDo(ctx, withRedisDatabase(server, 0), "DEL", claimKey(number))
	return err
}

func claimKey(number int) string { return "testenv:database:" + strconv.Itoa(number) }

// withRedisDatabase returns a URL for another database. The URL was used already
// or made here: it can be read.
func withRedisDatabase(server string, number int) string {
	u, err := url.Parse(server)
	if err != nil {
		return server
	}
	u.Path = "/" + strconv.Itoa(number)
	return u.String()
}
