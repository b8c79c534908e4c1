package topology

import (
	"context"
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/executor"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/middleware"
)

// inlineBudget is how long the first pass may wait and try again in its lane
// before the delivery is deferred.
const inlineBudget = 2 * time.Second

// layers is what the chains of one process share.
type layers struct {
	store    observer.DeliveryStore
	observe  middleware.Observer
	alerts   map[string]*middleware.Alerts
	wake     func()
	fallback time.Duration      // timeout of an attempt of an action that names none
	stored   *middleware.Stored // what earlier processes left
	logger   *slog.Logger
}

// chain composes what stands around an action, outermost first:
//
//   - known, because what an earlier process stored has left its line;
//   - observe, because its line tells how the delivery ended, whichever layer decided it;
//   - dead letter, because it takes what every layer inside has given up;
//   - defer, because it takes what retry cannot wait for, and must not be buried;
//   - retry, because each attempt gets its own timeout;
//   - timeout, which bounds one attempt;
//   - recover, so that a panic is an attempt like another.
//
// keep stores what is not finished; nil leaves that to the caller, as for
// deliveries that are in the store already.
func (l *layers) chain(o config.Observer, a config.Action, budget time.Duration, keep middleware.Keep) observer.Middleware[observer.Action] {
	known := middleware.Known{Find: l.store.Delivery, Logger: l.logger}
	if keep != nil {
		known.Stored = l.stored
	}
	return observer.Chain(
		known.Middleware(),
		l.observe.Middleware(),
		l.deadLetter(o, keep).Middleware(),
		middleware.Defer(keep, l.logger),
		middleware.Retry(retryOf(o.Retry, budget)),
		middleware.Timeout(l.timeoutOf(a)),
		middleware.Recover(),
	)
}

func (l *layers) deadLetter(o config.Observer, keep middleware.Keep) middleware.DeadLetter {
	dl := middleware.DeadLetter{OnFailure: middleware.OnFailure(o.OnFailure), Keep: keep, Logger: l.logger}
	if alerts := l.alerts[alertNameOf(o)]; alerts != nil {
		dl.Alert = alerts.Raise
	}
	return dl
}

func (l *layers) timeoutOf(a config.Action) time.Duration {
	if a.Timeout > 0 {
		return a.Timeout
	}
	return l.fallback
}

func retryOf(r config.Retry, budget time.Duration) middleware.RetryConfig {
	return middleware.RetryConfig{
		MaxAttempts:  r.MaxAttempts,
		Backoff:      backoff.Policy{Kind: backoff.Kind(r.Backoff), Initial: r.InitialDelay, Max: r.MaxDelay},
		InlineBudget: budget,
	}
}

// keep stores a delivery of the first pass and tells the worker.
func (l *layers) keep(ctx context.Context, d *observer.Delivery) error {
	if err := l.store.InsertDelivery(ctx, d); err != nil {
		return err
	}
	if d.State == observer.Scheduled {
		l.wake()
	}
	return nil
}

// pass makes the executor's view of an action: first pass or stored.
func (l *layers) pass(o config.Observer, a config.Action, act observer.Action, budget time.Duration, keep middleware.Keep) executor.Action {
	dead := l.deadLetter(o, keep)
	return executor.Action{
		Type: a.Type,
		Run:  l.chain(o, a, budget, keep)(act),
		Bury: func(ctx context.Context, d *observer.Delivery, cause error) error {
			err := dead.Bury(ctx, d, cause)
			l.observe.Ended(ctx, d, 0, err)
			return err
		},
	}
}
