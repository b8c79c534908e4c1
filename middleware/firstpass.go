package middleware

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/internal/failpoint"
)

// Held is a delivery that is in the store while its first attempt runs.
type Held interface {
	// Context ends when the attempt must stop.
	Context() context.Context
	// Settle stores how the delivery ended and then, before the process may
	// end, calls then.
	Settle(d *observer.Delivery, then ...func()) error
}

// Begin stores a delivery as running. It gives nil when its key is there
// already, and then somebody else runs it. After an error the delivery may be
// stored all the same, which the next call finds out; after one that is permanent
// there is no use in one.
type Begin func(ctx context.Context, d *observer.Delivery) (Held, error)

// Endpoints says which receivers a lane may wait for.
type Endpoints interface {
	// Ready reports whether a delivery to endpoint may be tried in its lane.
	Ready(endpoint string) bool
	// Outlasted notes that an attempt at endpoint took longer than a lane waits.
	Outlasted(endpoint string)
}

// FirstPass begins a delivery: in its lane while that is quick, and in the
// store as soon as it is not. Outside of it are only [Known] and [Dedup]; its
// fields are required unless they say otherwise. Whatever it stores with success
// is handled, so the lane goes on.
type FirstPass struct {
	// Queued has a worker make the first attempt too, after Delay.
	Queued bool
	Delay  time.Duration
	// Record stores every delivery before its first attempt, so that a crash
	// leaves a trace of what may have been sent.
	Record bool
	// Budget is how long the lane waits for the attempts it makes. Crowd ends
	// the waiting earlier when too many lanes wait for the endpoint; nil does not.
	Budget time.Duration
	Crowd  *Crowd
	// Preparer is the action, if it is one. An action that is none runs in its
	// lane however long it takes.
	Preparer observer.Preparer
	// Lanes, Endpoints, Keep and Begin are the rest of the process.
	Lanes     *Lanes
	Endpoints Endpoints
	// Traffic is what else may keep a lane from trying; nil is nothing. Degrades
	// says that the action has a fallback for the time that the breaker of the
	// endpoint is open: the chain then hands over what would else wait.
	Traffic  *Traffic
	Degrades bool
	Keep     Keep
	Begin    Begin
	// Wake tells the workers that something was stored for them.
	Wake func()
	// Bury decides what becomes of a delivery that cannot even be prepared.
	Bury func(ctx context.Context, d *observer.Delivery, cause error)
	// Dead is told of a dead letter once it is stored; nil tells nobody.
	Dead func(ctx context.Context, d *observer.Delivery)
	// Logger is for what goes wrong here and not in the delivery.
	Logger *slog.Logger
}

// Middleware stands around the chain that decides how a delivery ends.
func (f FirstPass) Middleware() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			d.Endpoint = f.endpoint(ctx, d)
			behind, err := f.behind(ctx, d)
			wait, ready := f.ready(d.Endpoint)
			switch {
			case err != nil:
				return observer.Result{}, err
			case behind || f.Queued || !ready:
				return observer.Result{}, f.enqueue(ctx, d, wait)
			case f.Record:
				return f.recorded(ctx, d, next)
			case f.Preparer == nil:
				result, err := next.Execute(ctx, d)
				return result, errors.Join(err, f.Stored(ctx, d))
			}
			return f.inLane(ctx, d, next)
		})
	}
}

// ready reports whether a delivery may be tried in its lane, and else how long it
// has to wait at least.
func (f FirstPass) ready(endpoint string) (wait time.Duration, ready bool) {
	if f.Degrades && f.Traffic.Degraded(endpoint) {
		return 0, true
	}
	wait, ready = f.Traffic.InLane(endpoint)
	return wait, ready && f.Endpoints.Ready(endpoint)
}

// Invariant 4: behind reports whether an earlier delivery of the lane has to go
// first. The store may be away, and then the answer is waited for: order is a
// promise.
func (f FirstPass) behind(ctx context.Context, d *observer.Delivery) (bool, error) {
	lane := d.Lane()
	for failures := 1; ; failures++ {
		behind, err := f.blocked(ctx, d, lane)
		if err == nil {
			return behind, nil
		}
		wait := backoff.Policy{Max: keepPause}.Delay(failures)
		f.Logger.Error("cannot find out what has to go before a delivery; intake of its entity waits",
			"delivery", d.Key, "error", err, "wait", wait)
		if !backoff.Wait(ctx, observer.Drain(ctx), wait) {
			return false, err
		}
	}
}

// blocked asks the store about every strict delivery: another process may have
// a dead letter of the lane run again.
func (f FirstPass) blocked(ctx context.Context, d *observer.Delivery, lane string) (bool, error) {
	if d.Order == observer.OrderStrict && lane != "" {
		return f.Lanes.blocked(ctx, lane, eventID(d))
	}
	return f.Lanes.Blocked(ctx, lane, eventID(d))
}

func eventID(d *observer.Delivery) string {
	if d.Event == nil {
		return ""
	}
	return d.Event.ID
}

// enqueue leaves the delivery to the workers, after wait. The store parks it when
// something has to go before it.
func (f FirstPass) enqueue(ctx context.Context, d *observer.Delivery, wait time.Duration) error {
	if err := f.prepare(ctx, d); err != nil {
		f.Bury(ctx, d, err)
	} else {
		d.Enqueue(time.Now().Add(max(f.Delay, wait)))
	}
	return f.Stored(ctx, d)
}

// prepare renders the request. A panic is the action's error here as well.
func (f FirstPass) prepare(ctx context.Context, d *observer.Delivery) (err error) {
	if f.Preparer == nil {
		return nil
	}
	defer recovered(&err)
	return f.Preparer.Prepare(ctx, d)
}

// endpoint is "" for an action that panics: the attempt will, too, and be
// recorded.
func (f FirstPass) endpoint(ctx context.Context, d *observer.Delivery) (name string) {
	if f.Preparer == nil {
		return ""
	}
	defer recovered(new(error))
	return f.Preparer.Endpoint(ctx, d)
}

// Stored keeps a delivery unless there is nothing to keep of it, or the lease
// under which it was begun is lost.
func (f FirstPass) Stored(ctx context.Context, d *observer.Delivery) error {
	if d.State == observer.Done || d.State == observer.Dropped {
		return nil
	}
	// Whoever has the lease now may be handling the event already, and would not
	// know of what is stored here.
	if err := observer.Fence(ctx); err != nil {
		return err
	}
	if err := f.Keep.Store(ctx, d, f.Logger); err != nil {
		return err
	}
	if d.Blocks() {
		f.Lanes.Add(d.Lane())
	}
	failpoint.Hit(failpoint.Stored)
	f.tell(ctx, d)
	return nil
}

// tell has others act on what was stored.
func (f FirstPass) tell(ctx context.Context, d *observer.Delivery) {
	switch {
	case d.State.Due():
		f.Wake()
	case d.State == observer.Dead && f.Dead != nil:
		f.Dead(ctx, d)
	}
}

// outcome is how the chain ended.
type outcome struct {
	result observer.Result
	err    error
}

// attempt is a first pass under way, on a delivery of its own.
type attempt struct {
	d    *observer.Delivery
	pass *pass
	done chan outcome
	// detach lets the attempt outlive the lane.
	detach func() bool
	cancel context.CancelFunc
}

func begin(ctx context.Context, d *observer.Delivery, next observer.Action, recorded bool) *attempt {
	state := &pass{left: recorded}
	running, cancel := context.WithCancel(withPass(context.WithoutCancel(ctx), state))
	a := &attempt{d: d, pass: state, done: make(chan outcome, 1), detach: context.AfterFunc(ctx, cancel), cancel: cancel}
	go func() {
		defer cancel()
		defer a.detach() // the context of the lane lives as long as the process, and would keep every attempt there was
		grow(0)
		result, err := next.Execute(running, d)
		a.done <- outcome{result, err}
	}()
	return a
}

// grow makes the stack of a new goroutine as large as a chain needs while there is
// next to nothing on it to copy. Without it the stack grows in steps, each with
// more layers on it, which is a quarter of what the first pass costs
// (BenchmarkEveryLayer in topology). n keeps the compiler from leaving it out.
//
//go:noinline
func grow(n int) byte {
	var room [4500]byte
	return room[n]
}

// under has the attempt end with the claim instead of with the lane.
func (a *attempt) under(held Held) {
	if a.detach() {
		context.AfterFunc(held.Context(), a.cancel)
	}
}

// settle waits for the end of the attempt and stores it. What cannot be stored
// is found by whoever claims the delivery after the lease.
func (f FirstPass) settle(ctx context.Context, a *attempt, held Held) outcome {
	out := <-a.done
	tell := func() { f.tell(context.WithoutCancel(ctx), a.d) }
	err := errors.Join(out.err, held.Settle(a.d, tell))
	switch {
	case errors.Is(err, observer.ErrBusy):
		f.Logger.Warn("a delivery is somebody else's by now; how it ended here counts for nothing", "delivery", a.d.Key, "error", err)
	case err != nil:
		f.Logger.Error("outcome of a delivery cannot be stored; it counts as unknown when its lease ends",
			"delivery", a.d.Key, "error", err)
	}
	return out
}

// inLane makes the first attempts here. One that outlasts the budget goes on in
// the background, stored as running, and the lane does not wait for it.
func (f FirstPass) inLane(ctx context.Context, d *observer.Delivery, next observer.Action) (observer.Result, error) {
	a := begin(ctx, d.Clone(), next, false)
	if out, ended := f.patience(d.Endpoint, a.done); ended {
		return f.finished(ctx, d, a, out)
	}
	f.Endpoints.Outlasted(d.Endpoint)
	d.Attempts = a.pass.leave()
	held := f.handOver(ctx, d)
	if held == nil {
		return f.finished(ctx, d, a, <-a.done)
	}
	a.under(held)
	go f.settle(ctx, a, held)
	return observer.Result{}, nil
}

// finished takes over how the attempts in the lane ended.
func (f FirstPass) finished(ctx context.Context, d *observer.Delivery, a *attempt, out outcome) (observer.Result, error) {
	*d = *a.d
	return out.result, errors.Join(out.err, f.Stored(ctx, d))
}

// handOver stores d as running, and keeps trying: what is stored and held by
// nobody is sent again after its lease, beside this attempt or although it was
// done. Where that cannot be done the lane waits for the attempt.
func (f FirstPass) handOver(ctx context.Context, d *observer.Delivery) Held {
	err := f.prepare(ctx, d) // renders what the attempt has rendered for itself
	if err != nil {
		f.Logger.Warn("a long attempt cannot be handed over; its lane waits for it", "delivery", d.Key, "error", err)
		return nil
	}
	held, err := f.tryToBegin(ctx, nil, d)
	if err != nil || held == nil {
		return nil
	}
	f.begun(d)
	return held
}

// begun notes that d is in the store and runs.
func (f FirstPass) begun(d *observer.Delivery) {
	failpoint.Hit(failpoint.Begun)
	d.State = observer.Running
	if d.Blocks() {
		f.Lanes.Add(d.Lane())
	}
}

// recorded stores d before its first attempt. Without that it is not tried, and
// a retry is the workers'.
func (f FirstPass) recorded(ctx context.Context, d *observer.Delivery, next observer.Action) (observer.Result, error) {
	if err := f.prepare(ctx, d); err != nil {
		f.Bury(ctx, d, err)
		return observer.Result{}, f.Stored(ctx, d)
	}
	held, err := f.tryToBegin(ctx, observer.Drain(ctx), d)
	if held == nil || err != nil {
		return observer.Result{}, err
	}
	f.begun(d)
	c := d.Clone()
	c.State = ""
	a := begin(ctx, c, next, true)
	a.under(held)
	settled := make(chan outcome, 1)
	go func() { settled <- f.settle(ctx, a, held) }()
	out, ended := f.patience(d.Endpoint, settled)
	if ended {
		*d = *a.d
	} else {
		f.Endpoints.Outlasted(d.Endpoint)
	}
	return out.result, nil
}

// patience waits as long as a lane may.
func (f FirstPass) patience(endpoint string, done <-chan outcome) (out outcome, ended bool) {
	timer := time.NewTimer(min(f.Budget, moment))
	defer timer.Stop()
	select {
	case out := <-done:
		return out, true
	case <-timer.C:
	}
	if !f.Endpoints.Ready(endpoint) {
		return outcome{}, false // others have waited for it in vain meanwhile
	}
	var crowded <-chan struct{}
	if f.Crowd != nil {
		var leave func()
		crowded, leave = f.Crowd.linger(endpoint)
		defer leave()
	}
	timer.Reset(max(f.Budget-moment, 0))
	select {
	case out := <-done:
		return out, true
	case <-crowded:
	case <-timer.C:
	}
	return outcome{}, false
}

// tryToBegin begins d with patience for a store that is away, until stop.
func (f FirstPass) tryToBegin(ctx context.Context, stop <-chan struct{}, d *observer.Delivery) (Held, error) {
	for failures := 1; ; failures++ {
		if err := observer.Fence(ctx); err != nil {
			return nil, err
		}
		held, err := f.Begin(ctx, d)
		if err == nil {
			return held, nil
		}
		wait := backoff.Policy{Max: keepPause}.Delay(failures)
		f.Logger.Error("delivery cannot be stored as running; intake of its entity waits",
			"delivery", d.Key, "error", err, "wait", wait)
		if !observer.Retryable(err) || !backoff.Wait(ctx, stop, wait) {
			return nil, err
		}
	}
}
