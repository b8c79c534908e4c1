// Package executor is the [observer.Handler] that runs actions: it finds the
// observers that match an event, evaluates their conditions, and runs all
// matching actions at the same time.
package executor

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
)

// Condition decides whether an observer wants an event.
type Condition interface {
	Match(ctx context.Context, e *observer.Event) (bool, error)
}

// Observer is one configured observer, ready to run.
type Observer struct {
	Name string
	// Entity is the entity type it observes; "*" means every one.
	Entity string
	// Operations it observes; empty means every one.
	Operations []observer.Operation
	// Condition is nil when there is none.
	Condition Condition
	Actions   []Action
}

// Action is one action of an observer with its whole chain of middleware.
type Action struct {
	// Type is the kind of action, such as "webhook".
	Type string
	// Run executes it. The chain handles failures: an error means that the
	// outcome could not be recorded.
	Run observer.Action
	// Bury records a delivery that failed before it could be tried, under the
	// same rule.
	Bury func(ctx context.Context, d *observer.Delivery, cause error) error
}

// Outcome is how one delivery ended.
type Outcome struct {
	Delivery *observer.Delivery
	Result   observer.Result
	// Duration is how long this delivery took, attempts and waits included.
	Duration time.Duration
	// Err is set when the outcome could not be recorded.
	Err error
}

// Config bounds an executor.
type Config struct {
	// MaxConcurrentActions is how many actions of one event run at a time; 10
	// when zero.
	MaxConcurrentActions int
}

// Executor runs the actions of events. Its observers can be replaced while it
// runs; it is safe for concurrent use.
type Executor struct {
	limit int
	index atomic.Pointer[index]
}

// New returns an executor of the given observers.
func New(cfg Config, observers []Observer) *Executor {
	if cfg.MaxConcurrentActions <= 0 {
		cfg.MaxConcurrentActions = 10
	}
	x := &Executor{limit: cfg.MaxConcurrentActions}
	x.Replace(observers)
	return x
}

// Replace puts other observers in place of the present ones. Events that are
// being handled finish with those they began with.
func (x *Executor) Replace(observers []Observer) { x.index.Store(newIndex(observers)) }

// Handle executes e and returns an error when an outcome could not be recorded.
// That happens only while the process stops: the chains wait for their store,
// because handling the event again would run its finished actions again.
func (x *Executor) Handle(ctx context.Context, e *observer.Event) error {
	var errs []error
	for _, o := range x.Execute(ctx, e) {
		if o.Err != nil {
			errs = append(errs, o.Err)
		}
	}
	return errors.Join(errs...)
}

// Execute runs every matching action of e, at most MaxConcurrentActions at a
// time, and returns their outcomes in the order the configuration declares them.
func (x *Executor) Execute(ctx context.Context, e *observer.Event) []Outcome {
	jobs := x.match(ctx, e)
	if len(jobs) == 0 {
		return nil // as for most events
	}
	outcomes := make([]Outcome, len(jobs))
	if len(jobs) == 1 {
		outcomes[0] = jobs[0].run(ctx)
		return outcomes
	}
	places := make(chan struct{}, x.limit)
	var running sync.WaitGroup
	for i := range jobs {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			outcomes[i] = jobs[i].run(ctx)
		})
	}
	running.Wait()
	return outcomes
}

// job is one delivery and what to do with it.
type job struct {
	action   Action
	delivery *observer.Delivery
	// unmatched is why the condition could not be evaluated.
	unmatched error
}

func (j job) run(ctx context.Context) Outcome {
	began := time.Now()
	out := Outcome{Delivery: j.delivery}
	if j.unmatched != nil {
		out.Err = j.action.Bury(ctx, j.delivery, j.unmatched)
	} else {
		out.Result, out.Err = j.action.Run.Execute(ctx, j.delivery)
	}
	out.Duration = time.Since(began)
	return out
}

// match lists the deliveries of e. A condition that fails to evaluate makes
// deliveries too: they go to the dead letters with the reason, and no other
// observer notices.
func (x *Executor) match(ctx context.Context, e *observer.Event) []job {
	var jobs []job
	for _, o := range x.index.Load().lookup(e.EntityType, e.Operation) {
		var unmatched error
		if o.Condition != nil {
			matched, err := o.Condition.Match(ctx, e)
			if err == nil && !matched {
				continue
			}
			unmatched = err
		}
		for i, a := range o.Actions {
			jobs = append(jobs, job{
				action: a, unmatched: unmatched,
				delivery: observer.NewDelivery(e, o.Name, i, a.Type),
			})
		}
	}
	return jobs
}
