package topology

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/executor"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/middleware"
)

// layers is what the chains of one process share.
type layers struct {
	// cfg is what the process began with: the sections that are not reloaded hold
	// until its end.
	cfg *config.Config
	// begun is for what is asked of actions before there is a delivery.
	begun context.Context

	store     observer.DeliveryStore
	observe   middleware.Observer
	alerts    map[string]*middleware.Alerts
	worker    *delivery.Worker
	endpoints *delivery.Endpoints
	traffic   *middleware.Traffic
	stored    *middleware.Stored  // what earlier processes left
	dedup     *middleware.Dedup   // nil when it is turned off
	results   *middleware.Results // nil when caching is turned off
	caches    *middleware.CacheStats
	logger    *slog.Logger
}

// chain lists what decides how a delivery ends, outermost first. The first pass
// and the workers run the same; storing the outcome is theirs.
//
//   - observe, because its line tells how the delivery ended, whichever layer decided it;
//   - dead letter, because it takes what every layer inside has given up;
//   - defer, because it takes what retry cannot wait for, and must not be buried;
//   - fallback, because it takes what retry has given up or cannot try, before the
//     dead letter and the deferral decide about it;
//   - cache, because what has a result needs no attempt, and what others wait for
//     is a success, in whichever attempt;
//   - retry, because each attempt asks for its turn and gets its own timeout, and what
//     is not tried is no attempt;
//   - breaker, because what it does not let pass takes no turn;
//   - limit, because waiting for its turn is not the receiver's time;
//   - report, because the endpoint's health is that of each attempt, a timeout included;
//   - timeout, which bounds one attempt;
//   - recover, so that a panic is an attempt like another.
//
// What the action or the configuration has no use for is not in the list, which is
// both what runs and what [Explain] shows. On the first pass the alert waits until
// the dead letter is stored.
func (l *layers) chain(o config.Observer, a config.Action, act observer.Action, dead middleware.DeadLetter, budget time.Duration) []Layer {
	to := l.receiverOf(act)
	return inForce(
		Layer{"observe", "a line in the log and a count of how the delivery ended", l.observe.Middleware},
		Layer{"dead letter", aboutFailure(o), dead.Middleware},
		Layer{"defer", "what cannot be done now is stored and tried again later", middleware.Defer},
		l.fallbackOf(o, a),
		l.cacheOf(a, act),
		Layer{"retry", aboutRetry(a, budget), func() observer.Middleware[observer.Action] { return middleware.Retry(retryOf(a, budget)) }},
		l.breakerOf(a, to),
		l.limitOf(a, to, min(lanePatience, budget/2)),
		l.reportOf(to),
		Layer{"timeout", span(l.timeoutOf(a)) + " for an attempt", func() observer.Middleware[observer.Action] { return middleware.Timeout(l.timeoutOf(a)) }},
		Layer{"recover", "a panic is a failed attempt", middleware.Recover},
	)
}

// first lists what stands around the chain on the first pass, outermost first:
//
//   - unrecorded, because it tells of what none of the others could store;
//   - known, because what an earlier process stored has left its line and goes its way;
//   - dedup, because whatever the first pass makes of the delivery, it is handled then;
//   - first pass, which decides where the delivery begins: in its lane or in the store.
func (l *layers) first(a config.Action, act observer.Action, pass func() observer.Middleware[observer.Action]) []Layer {
	known := func() observer.Middleware[observer.Action] {
		return middleware.Known{Stored: l.stored, Find: l.store.Delivery, Logger: l.logger}.Middleware()
	}
	return inForce(
		Layer{"unrecorded", "a line in the log when it could not be stored how the delivery ended", l.observe.Unrecorded},
		Layer{"known", "what an earlier process has stored is left to the workers", known},
		l.dedupLayer(),
		Layer{"first pass", aboutFirstPass(a, act), pass},
	)
}

// crowdShare is the part of all lanes that may wait for one endpoint for longer
// than a moment.
const crowdShare = 12

// crowdOf bounds how many lanes wait for one endpoint. Where there is but one,
// nobody else needs them.
func (l *layers) crowdOf(cfg *config.Config) *middleware.Crowd {
	receivers := 0
	for _, o := range cfg.Observers {
		for _, a := range o.Actions {
			if a.Type != "log" {
				receivers++
			}
		}
	}
	if receivers < 2 {
		return nil
	}
	return middleware.NewCrowd(max(2, l.cfg.Performance.MaxConcurrency/crowdShare))
}

func (l *layers) firstPassOf(o config.Observer, a config.Action, act observer.Action, crowd *middleware.Crowd) middleware.FirstPass {
	preparer, _ := act.(observer.Preparer)
	dead, unalerted := l.deadLetter(o), l.unalerted(o)
	return middleware.FirstPass{
		Queued: a.Mode == config.ModeQueued, Delay: a.Delay, Record: a.OnUnknown == config.OnUnknownDeadLetter,
		Budget: a.Retry.InlineBudget, Crowd: crowd, Preparer: preparer,
		Lanes: l.stored.Lanes(), Endpoints: l.endpoints, Keep: l.keep, Begin: l.begin, Wake: l.worker.Wake,
		Traffic: l.traffic, Degrades: degrades(a),
		Bury: func(ctx context.Context, d *observer.Delivery, cause error) {
			unalerted.Bury(ctx, d, cause)
			l.observe.Ended(ctx, d, 0, nil)
		},
		Dead: dead.Raise, Logger: l.logger,
	}
}

// unalerted is the dead letter layer of the first pass.
func (l *layers) unalerted(o config.Observer) middleware.DeadLetter {
	dead := l.deadLetter(o)
	dead.Alert = nil
	return dead
}

func (l *layers) deadLetter(o config.Observer) middleware.DeadLetter {
	dl := middleware.DeadLetter{OnFailure: middleware.OnFailure(o.OnFailure)}
	if alerts := l.alerts[alertNameOf(o)]; alerts != nil {
		dl.Alert = alerts.Raise
	}
	return dl
}

func (l *layers) timeoutOf(a config.Action) time.Duration {
	if a.Timeout > 0 {
		return a.Timeout
	}
	return l.cfg.Performance.ConcurrentTimeout
}

func retryOf(a config.Action, budget time.Duration) middleware.RetryConfig {
	r := a.Retry
	return middleware.RetryConfig{
		MaxAttempts:  r.MaxAttempts,
		Backoff:      backoff.Policy{Kind: backoff.Kind(r.Backoff), Initial: r.InitialDelay, Max: r.MaxDelay},
		Schedule:     r.Schedule,
		MaxAge:       r.MaxAge,
		InlineBudget: budget,
		NeverRepeat:  a.OnUnknown == config.OnUnknownDeadLetter,
	}
}

// keep stores a delivery of the first pass.
func (l *layers) keep(ctx context.Context, d *observer.Delivery) error {
	_, err := l.store.InsertDeliveries(ctx, d)
	return err
}

// begin stores a delivery of the first pass whose attempt runs.
func (l *layers) begin(ctx context.Context, d *observer.Delivery) (middleware.Held, error) {
	held, err := l.worker.Begin(ctx, d)
	if errors.Is(err, delivery.ErrStopped) {
		err = observer.Permanent(observer.ReasonPermanent, err) // no later call ends otherwise
	}
	if held == nil {
		return nil, err // not held, which would be a nil pointer in an interface
	}
	return held, err
}

// firstPass makes the executor's view of an action. plan fills in what the
// configuration says about its deliveries.
func (l *layers) firstPass(o config.Observer, a config.Action, act observer.Action, crowd *middleware.Crowd, plan func(*observer.Delivery)) executor.Action {
	pass := l.firstPassOf(o, a, act, crowd)
	run := compose(slices.Concat(
		l.first(a, act, pass.Middleware),
		l.chain(o, a, act, l.unalerted(o), a.Retry.InlineBudget),
	))(act)
	return executor.Action{
		Type: a.Type,
		Run: observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			plan(d)
			return run.Execute(ctx, d)
		}),
		Bury: func(ctx context.Context, d *observer.Delivery, cause error) error {
			plan(d)
			return l.bury(ctx, pass, d, cause)
		},
	}
}

// bury records a delivery of the first pass that failed before it could be
// tried.
func (l *layers) bury(ctx context.Context, pass middleware.FirstPass, d *observer.Delivery, cause error) error {
	pass.Bury(ctx, d, cause)
	err := pass.Stored(ctx, d)
	if err != nil {
		l.observe.Ended(ctx, d, 0, err)
	}
	return err
}

// planOf gives what fills in the deliveries of an action.
func planOf(o config.Observer, a config.Action, prints []string) func(*observer.Delivery) {
	return func(d *observer.Delivery) {
		d.Prints, d.Queue, d.Priority = prints, a.Queue, a.Priority
		d.Order, d.BlockWhenDead = o.Order, o.OnDead == config.OnDeadBlock
	}
}
