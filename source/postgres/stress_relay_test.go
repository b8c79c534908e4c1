package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/relay"
	"github.com/fraiseql/observer/source/postgres"
	"github.com/fraiseql/observer/store/memory"
)

// stressRelay is the reader as it runs in production: the source, a relay, and
// checkpoints, which are all that one run leaves to the next.
type stressRelay struct {
	store   *memory.Store
	logger  *slog.Logger
	poll    time.Duration // 30 ms when zero
	rewound atomic.Int64  // how often the source gave the alarm
	handled atomic.Int64
}

func newStressRelay(t testing.TB) *stressRelay {
	t.Helper()
	return &stressRelay{
		store:  memory.New(memory.Config{}),
		logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

func (r *stressRelay) source(url string) *postgres.Source {
	poll := 30 * time.Millisecond
	if r.poll > 0 {
		poll = r.poll
	}
	return postgres.New(postgres.Config{
		Name: "stress", URL: observer.NewSecret(url), PollInterval: poll, Logger: r.logger,
		Rewound: func(context.Context, string) { r.rewound.Add(1) },
	})
}

func (r *stressRelay) run(ctx context.Context, url string, deliver func(stressChange)) error {
	return relay.New(relay.Config{
		Source:      r.source(url),
		Handler:     observer.HandlerFunc(func(ctx context.Context, e *observer.Event) error { return r.handle(ctx, e, deliver) }),
		Malformed:   func(_ context.Context, m *observer.Malformed) error { return fmt.Errorf("not an event: %s", m.Reason) },
		Checkpoints: r.store,
		Reopen:      backoff.Policy{Initial: 10 * time.Millisecond, Max: 200 * time.Millisecond},
		Logger:      r.logger,
	}).Run(ctx)
}

// handle takes its time now and then, so that what comes later is done earlier
// and a checkpoint has to say so.
func (r *stressRelay) handle(ctx context.Context, e *observer.Event, deliver func(stressChange)) error {
	var data struct {
		Version int64 `json:"version"`
	}
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return err
	}
	deliver(stressChange{id: e.ID, entity: e.EntityID, version: data.Version})
	if r.handled.Add(1)%37 == 0 {
		stressPause(ctx, 20*time.Millisecond)
	}
	return nil
}

// position returns what the last run left.
func (r *stressRelay) position(ctx context.Context) (observer.Position, error) {
	cp, err := r.store.LoadCheckpoint(ctx, "stress")
	if errors.Is(err, observer.ErrNotFound) {
		err = nil
	}
	return cp.Position, err
}
