package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// shared is what the tests of one binary have in common. A server belongs to
// the process and the tests of a package share nothing else.
var shared = &environment{} //nolint:gochecknoglobals // the tests of a binary share nothing but the process to hand a server around

// environment finds a server when it is first asked for one, and remembers what
// came of it, so that a hundred tests without a server look for one once.
type environment struct {
	mu     sync.Mutex
	server once[*Postgres]
	place  once[*workspace]
	docker *container

	redisMu     sync.Mutex
	redisServer once[string] // the URL
	redisPlace  once[*redisWorkspace]
	redisShared *redisNode // nil when the server is not ours

	natsMu sync.Mutex
	nats   once[*natsWorkspace]
}

// once is a result that is found out once, also when it is an error.
type once[T any] struct {
	known bool
	value T
	err   error
}

func (o *once[T]) get(find func() (T, error)) (T, error) {
	if !o.known {
		o.value, o.err = find()
		o.known = true
	}
	return o.value, o.err
}

// postgres returns the shared server.
func (e *environment) postgres(ctx context.Context) (*Postgres, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server.get(func() (*Postgres, error) {
		// The first test that asks must not end the search for all of them.
		return e.findServer(context.WithoutCancel(ctx))
	})
}

// workspace returns where private servers are made.
func (e *environment) workspace(ctx context.Context) (*workspace, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.findPlace(context.WithoutCancel(ctx))
}

func (e *environment) findServer(ctx context.Context) (*Postgres, error) {
	if url := os.Getenv("TEST_DATABASE_URL"); url != "" {
		return &Postgres{url: url, keeps: true}, nil
	}
	w, err := e.findPlace(ctx)
	if err == nil {
		return w.sharedServer(ctx)
	}
	c, dockerErr := runContainer(ctx)
	if dockerErr != nil {
		return nil, errors.Join(err, dockerErr)
	}
	e.docker = c
	return &Postgres{url: c.url, keeps: true}, nil
}

func (e *environment) findPlace(ctx context.Context) (*workspace, error) {
	return e.place.get(func() (*workspace, error) {
		bin, err := findBinaries(ctx)
		if err != nil {
			return nil, err
		}
		return newWorkspace(ctx, bin)
	})
}

// redis returns the URL of the shared Redis.
func (e *environment) redis(ctx context.Context) (string, error) {
	e.redisMu.Lock()
	defer e.redisMu.Unlock()
	return e.redisServer.get(func() (string, error) {
		if url := os.Getenv("TEST_REDIS_URL"); url != "" {
			return url, nil
		}
		w, err := e.findRedisPlace(context.WithoutCancel(ctx))
		if err != nil {
			return "", err
		}
		if e.redisShared, err = w.newNode(context.WithoutCancel(ctx), nil); err != nil {
			return "", err
		}
		return e.redisShared.url(), nil
	})
}

// redisWorkspace returns where private Redis servers are made.
func (e *environment) redisWorkspace(ctx context.Context) (*redisWorkspace, error) {
	e.redisMu.Lock()
	defer e.redisMu.Unlock()
	return e.findRedisPlace(context.WithoutCancel(ctx))
}

func (e *environment) findRedisPlace(ctx context.Context) (*redisWorkspace, error) {
	return e.redisPlace.get(func() (*redisWorkspace, error) {
		binary, err := findRedis(ctx)
		if err != nil {
			return nil, err
		}
		return newRedisWorkspace(ctx, binary)
	})
}

// natsWorkspace returns where private NATS servers are made.
func (e *environment) natsWorkspace(ctx context.Context) (*natsWorkspace, error) {
	e.natsMu.Lock()
	defer e.natsMu.Unlock()
	return e.nats.get(func() (*natsWorkspace, error) {
		ctx := context.WithoutCancel(ctx)
		binary, err := findNATS(ctx)
		if err != nil {
			return nil, err
		}
		return newNATSWorkspace(ctx, binary)
	})
}

func (e *environment) endNATS() {
	e.natsMu.Lock()
	defer e.natsMu.Unlock()
	if e.nats.value != nil {
		report(e.nats.value.remove())
	}
}

func (e *environment) endRedis() {
	e.redisMu.Lock()
	defer e.redisMu.Unlock()
	if e.redisShared != nil {
		report(e.redisShared.remove())
	}
	if e.redisPlace.value != nil {
		report(e.redisPlace.value.remove())
	}
}

// end stops what was started. Nobody may ask for a server afterwards.
func (e *environment) end() {
	e.endNATS()
	e.endRedis()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server.value != nil && e.server.value.cluster != nil {
		report(e.server.value.cluster.remove())
	}
	if e.place.value != nil {
		report(e.place.value.remove())
	}
	if e.docker != nil {
		report(e.docker.remove())
	}
}

// report tells of trouble at the end, when there is no test to fail any more.
func report(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
	}
}

// tail returns the last lines of a log.
func tail(log string) string {
	lines := strings.Split(strings.TrimRight(log, "\n"), "\n")
	if limit := 200; len(lines) > limit {
		lines = append([]string{"..."}, lines[len(lines)-limit:]...)
	}
	return strings.Join(lines, "\n")
}
