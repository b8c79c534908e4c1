package middleware_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/middleware"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// insert is how topology stores deliveries of the first pass.
func insert(store *memorystore.Store) middleware.Keep {
	return func(ctx context.Context, d *observer.Delivery) error {
		_, err := store.InsertDeliveries(ctx, d)
		return err
	}
}

// fullStore has no room for another dead letter.
func fullStore(t *testing.T) *memorystore.Store {
	t.Helper()
	store := memorystore.New(memorystore.Config{MaxDead: 1})
	other := newDelivery()
	other.Key, other.State = "other", observer.Dead
	if err := insert(store)(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	return store
}

// receivers are endpoints of which some are not ready.
type receivers struct {
	mu        sync.Mutex
	away      map[string]bool
	outlasted []string
}

func (r *receivers) Ready(endpoint string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.away[endpoint]
}

func (r *receivers) Outlasted(endpoint string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outlasted = append(r.outlasted, endpoint)
	if r.away != nil {
		r.away[endpoint] = true
	}
}

// held is a delivery that a store has as running.
type held struct {
	ctx   context.Context
	store *memorystore.Store
}

func (h held) Context() context.Context { return h.ctx }
func (h held) Settle(d *observer.Delivery, then ...func()) error {
	if err := h.store.UpdateDelivery(context.WithoutCancel(h.ctx), d, "me"); err != nil {
		return err
	}
	for _, f := range then {
		f()
	}
	return nil
}

// newPass is a first pass over store whose endpoints are all ready.
func newPass(t *testing.T, store *memorystore.Store) middleware.FirstPass {
	t.Helper()
	stored, err := middleware.ReadStored(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	return middleware.FirstPass{
		Budget: 2 * time.Second, Lanes: stored.Lanes(), Endpoints: &receivers{}, Keep: insert(store), Wake: func() {},
		Begin: func(ctx context.Context, d *observer.Delivery) (middleware.Held, error) {
			begun, err := store.BeginDelivery(ctx, d, "me", time.Hour)
			if err != nil || !begun {
				return nil, err
			}
			return held{context.WithoutCancel(ctx), store}, nil
		},
		Bury:   middleware.DeadLetter{}.Bury,
		Logger: quiet(),
	}
}

// passing is a first pass with the chain inside.
type passing struct{ observer.Action }

func with(pass middleware.FirstPass, act observer.Action) passing {
	pass.Preparer, _ = act.(observer.Preparer)
	chain := observer.Chain(
		pass.Middleware(), middleware.DeadLetter{}.Middleware(), middleware.Defer(),
		middleware.Retry(middleware.RetryConfig{MaxAttempts: 1, NeverRepeat: pass.Record}), middleware.Recover(),
	)
	return passing{chain(act)}
}

func failing(pass middleware.FirstPass) passing {
	return with(pass, &script{answers: []error{errTransient}})
}

func (p passing) handle(ctx context.Context, d *observer.Delivery) error {
	_, err := p.Execute(ctx, d)
	return err
}

// receiver is an action that reaches out: it renders "hello" and takes its time.
type receiver struct {
	takes    time.Duration
	answer   error
	prepare  error
	mu       sync.Mutex
	sent     []string // the body of each attempt
	prepared int
}

func (r *receiver) Prepare(_ context.Context, d *observer.Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prepared++
	if r.prepare != nil {
		return r.prepare
	}
	d.Request = json.RawMessage(`"hello"`)
	return nil
}

func (*receiver) Endpoint(context.Context, *observer.Delivery) string { return "test example.com" }

func (r *receiver) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	d.Request = json.RawMessage(`"hello"`)
	r.mu.Lock()
	r.sent = append(r.sent, string(d.Request))
	r.mu.Unlock()
	if r.takes > 0 {
		select {
		case <-time.After(r.takes):
		case <-ctx.Done():
			return observer.Result{}, observer.OutcomeUnknown(ctx.Err())
		}
	}
	return observer.Result{}, r.answer
}

func (r *receiver) attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sent)
}

func ordered(id string, order observer.Order) *observer.Delivery {
	d := observer.NewDelivery(&observer.Event{ID: id, EntityType: "Order", EntityID: "7"}, "notify", 0, "webhook")
	d.Order = order
	return d
}

func stateOf(t *testing.T, store *memorystore.Store, d *observer.Delivery) observer.State {
	t.Helper()
	stored, err := store.Delivery(t.Context(), d.Key)
	if errors.Is(err, observer.ErrNotFound) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return stored.State
}

func TestQuickDeliveryIsNeverStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memorystore.New(memorystore.Config{})
		d := newDelivery()
		act := &receiver{takes: 1900 * time.Millisecond}
		if err := with(newPass(t, store), act).handle(t.Context(), d); err != nil || d.State != observer.Done {
			t.Errorf("%v, %s", err, d.State)
		}
		if s := stateOf(t, store, d); s != "" || act.prepared != 0 {
			t.Errorf("stored as %s, prepared %d times", s, act.prepared)
		}
	})
}

// A receiver that takes long must not hold a lane, and a request that is under
// way must not be cut off or sent twice because of that.
func TestLongAttemptIsHandedOver(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer error
		state  observer.State
	}{"that succeeds": {nil, observer.Done}, "that fails": {errTransient, observer.Dead}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, dead := memorystore.New(memorystore.Config{}), 0
				pass := newPass(t, store)
				endpoints := &receivers{}
				pass.Endpoints, pass.Dead = endpoints, func(context.Context, *observer.Delivery) { dead++ }
				act, began := &receiver{takes: 10 * time.Second, answer: tt.answer}, time.Now()
				d := newDelivery()
				lane, cancel := context.WithCancel(t.Context())
				if err := with(pass, act).handle(lane, d); err != nil {
					t.Fatal(err)
				}
				cancel() // the lane has ended, too
				stored, err := store.Delivery(t.Context(), d.Key)
				if took := time.Since(began); err != nil || took != 2*time.Second || stored.State != observer.Running || string(stored.Request) != `"hello"` {
					t.Fatalf("after %s: %+v, %v", took, stored, err)
				}
				if diff := cmp.Diff([]string{"test example.com"}, endpoints.outlasted); diff != "" {
					t.Error(diff)
				}
				<-time.After(9 * time.Second)
				synctest.Wait()
				if s := stateOf(t, store, d); s != tt.state || act.attempts() != 1 || dead != map[observer.State]int{observer.Dead: 1}[tt.state] {
					t.Errorf("%s after %d attempts, told of %d dead letters", s, act.attempts(), dead)
				}
			})
		})
	}
}

// Without the store the lane waits, which delays others but loses nothing.
func TestLongAttemptThatCannotBeHandedOverIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memorystore.New(memorystore.Config{})
		pass := newPass(t, store)
		pass.Begin = func(context.Context, *observer.Delivery) (middleware.Held, error) {
			return nil, observer.Permanent(observer.ReasonPermanent, errors.New("stopped"))
		}
		d, began := newDelivery(), time.Now()
		if err := with(pass, &receiver{takes: 10 * time.Second}).handle(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 10*time.Second || d.State != observer.Done {
			t.Errorf("%s after %s", d.State, took)
		}
	})
}

// What was stored although nobody said so is held as soon as the store answers,
// so it is neither sent beside the attempt nor after it.
func TestLongAttemptThatMayHaveBeenHandedOverIsHeld(t *testing.T) {
	t.Parallel()
	for _, takes := range []time.Duration{5 * time.Second, 90 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			store, back := memorystore.New(memorystore.Config{}), time.Now().Add(15*time.Second)
			pass, begins := newPass(t, store), 0
			pass.Begin = func(ctx context.Context, d *observer.Delivery) (middleware.Held, error) {
				if begins++; begins == 1 {
					if _, err := store.BeginDelivery(ctx, d, "me", time.Hour); err != nil {
						t.Error(err)
					}
				}
				if time.Now().Before(back) {
					return nil, errors.New("connection refused")
				}
				return held{context.WithoutCancel(ctx), store}, nil
			}
			d := newDelivery()
			if err := with(pass, &receiver{takes: takes}).handle(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if late := time.Since(back); late < 0 || late > 5*time.Second {
				t.Errorf("handed over %s after the store was back", late)
			}
			<-time.After(takes)
			stored, err := store.Delivery(t.Context(), d.Key)
			if err != nil || stored.State != observer.Done || len(stored.Attempts) != 1 {
				t.Errorf("%+v (%v)", stored, err)
			}
		})
	}
}

func TestQueuedIsStoredAtOnceWithItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, woken := memorystore.New(memorystore.Config{}), 0
		pass := newPass(t, store)
		pass.Queued, pass.Delay, pass.Wake = true, time.Hour, func() { woken++ }
		act, d := &receiver{}, newDelivery()
		if err := with(pass, act).handle(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		stored, err := store.Delivery(t.Context(), d.Key)
		if err != nil || stored.State != observer.Queued || string(stored.Request) != `"hello"` || stored.Endpoint != "test example.com" ||
			!stored.RunAt.Equal(time.Now().Add(time.Hour).UTC()) || act.attempts() != 0 || woken != 1 {
			t.Errorf("%+v (%v) after %d attempts, %d wake-ups", stored, err, act.attempts(), woken)
		}
	})
}

func TestWhatCannotBePreparedIsADeadLetter(t *testing.T) {
	t.Parallel()
	for _, record := range []bool{true, false} {
		store := memorystore.New(memorystore.Config{})
		pass := newPass(t, store)
		pass.Record, pass.Queued = record, !record
		act, d := &receiver{prepare: observer.Permanent(observer.ReasonTemplate, errors.New("no such field"))}, newDelivery()
		if err := with(pass, act).handle(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if s := stateOf(t, store, d); s != observer.Dead || d.Reason != observer.ReasonTemplate || act.attempts() != 0 {
			t.Errorf("%s (%s) after %d attempts", s, d.Reason, act.attempts())
		}
	}
}

func TestEndpointThatIsNotReadyCostsNoLane(t *testing.T) {
	t.Parallel()
	store := memorystore.New(memorystore.Config{})
	pass := newPass(t, store)
	pass.Endpoints = &receivers{away: map[string]bool{"test example.com": true}}
	act, d := &receiver{}, newDelivery()
	if err := with(pass, act).handle(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if s := stateOf(t, store, d); s != observer.Queued || act.attempts() != 0 {
		t.Errorf("%s after %d attempts", s, act.attempts())
	}
}

// Invariant 4: what waits in the store is not overtaken, by order.
func TestOrder(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		order  observer.Order
		before observer.State // of an earlier delivery of the entity
		tries  int            // which it has behind it
		want   observer.State // of the next one; "" is tried at once
	}{
		"none, queued":      {observer.OrderNone, observer.Queued, 0, ""},
		"entity, queued":    {observer.OrderEntity, observer.Queued, 0, observer.Parked},
		"entity, tried":     {observer.OrderEntity, observer.Scheduled, 1, ""},
		"entity, dead":      {observer.OrderEntity, observer.Dead, 1, ""},
		"strict, queued":    {observer.OrderStrict, observer.Queued, 0, observer.Parked},
		"strict, tried":     {observer.OrderStrict, observer.Scheduled, 1, observer.Parked},
		"strict, unknown":   {observer.OrderStrict, observer.Unknown, 1, observer.Parked},
		"strict, dead":      {observer.OrderStrict, observer.Dead, 1, ""},
		"strict, not there": {observer.OrderStrict, "", 0, ""},
	} {
		for _, restarted := range []bool{false, true} {
			store := memorystore.New(memorystore.Config{})
			pass := newPass(t, store)
			if tt.before != "" {
				earlier := ordered("e1", tt.order)
				earlier.State, earlier.Attempts = tt.before, make([]observer.Attempt, tt.tries)
				if err := pass.Stored(t.Context(), earlier); err != nil {
					t.Fatal(err)
				}
			}
			if restarted {
				pass = newPass(t, store)
			}
			act, d := &receiver{}, ordered("e2", tt.order)
			if err := with(pass, act).handle(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if s := stateOf(t, store, d); s != tt.want || act.attempts() != map[observer.State]int{"": 1}[tt.want] {
				t.Errorf("%s (restarted %v): %q after %d attempts, want %q", name, restarted, s, act.attempts(), tt.want)
			}
		}
	}
}

// The actions of one event do not wait for each other, and a lane is free again
// once what blocked it is gone.
func TestLaneIsForgottenWhenItIsFree(t *testing.T) {
	t.Parallel()
	store := memorystore.New(memorystore.Config{})
	pass := newPass(t, store)
	first := ordered("e1", observer.OrderStrict)
	first.State = observer.Scheduled
	if err := pass.Stored(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	beside := ordered("e1", observer.OrderStrict)
	beside.Key, beside.Action = observer.DeliveryKey("e1", "notify", 1), 1
	act := &receiver{}
	if err := with(pass, act).handle(t.Context(), beside); err != nil || act.attempts() != 1 {
		t.Errorf("the other action of the event: %d attempts, %v", act.attempts(), err)
	}
	second := ordered("e2", observer.OrderStrict)
	if err := with(pass, act).handle(t.Context(), second); err != nil || stateOf(t, store, second) != observer.Parked {
		t.Errorf("the next event: %s, %v", stateOf(t, store, second), err)
	}
	for _, d := range []*observer.Delivery{first, second} {
		if err := store.RemoveDelivery(t.Context(), d.Key); err != nil {
			t.Fatal(err)
		}
	}
	third := ordered("e3", observer.OrderStrict)
	if err := with(pass, act).handle(t.Context(), third); err != nil || act.attempts() != 2 {
		t.Errorf("after both were removed: %d attempts, %v", act.attempts(), err)
	}
}

// What must not be repeated is in the store before it is sent.
func TestRecordedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		takes  time.Duration
		answer error
		state  observer.State
		reason observer.Reason
	}{
		"done":                   {time.Second, nil, observer.Done, ""},
		"done late":              {time.Minute, nil, observer.Done, ""},
		"refused":                {time.Second, errTransient, observer.Dead, observer.ReasonExhausted},
		"not answered":           {time.Second, observer.OutcomeUnknown(errTransient), observer.Dead, observer.ReasonOutcomeUnknown},
		"not answered, and late": {time.Minute, observer.OutcomeUnknown(errTransient), observer.Dead, observer.ReasonOutcomeUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := memorystore.New(memorystore.Config{})
				pass := newPass(t, store)
				pass.Record = true
				act, d, began := &receiver{takes: tt.takes, answer: tt.answer}, newDelivery(), time.Now()
				time.AfterFunc(time.Second/2, func() {
					if s := stateOf(t, store, newDelivery()); s != observer.Running {
						t.Errorf("while it is sent it is stored as %q", s)
					}
				})
				if err := with(pass, act).handle(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != min(tt.takes, pass.Budget) {
					t.Errorf("the lane waited %s", took)
				}
				<-time.After(time.Hour)
				synctest.Wait()
				stored, err := store.Delivery(t.Context(), d.Key)
				if err != nil || stored.State != tt.state || stored.Reason != tt.reason || len(stored.Attempts) != 1 || act.attempts() != 1 {
					t.Errorf("%+v, %v", stored, err)
				}
			})
		})
	}
}

// Another process that has it runs it.
func TestRecordedElsewhereIsNotSent(t *testing.T) {
	t.Parallel()
	store := memorystore.New(memorystore.Config{})
	pass := newPass(t, store)
	pass.Record = true
	act := &receiver{}
	for range 2 {
		if err := with(pass, act).handle(t.Context(), newDelivery()); err != nil {
			t.Fatal(err)
		}
	}
	if act.attempts() != 1 {
		t.Errorf("sent %d times", act.attempts())
	}
}

func TestOrderIsWaitedForWhenTheStoreIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &forgetful{Store: memorystore.New(memorystore.Config{}), back: time.Now().Add(time.Minute)}
		stored, err := middleware.ReadStored(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		pass := newPass(t, store.Store)
		pass.Lanes = stored.Lanes()
		earlier := ordered("e1", observer.OrderStrict)
		earlier.State = observer.Scheduled
		if err := pass.Stored(t.Context(), earlier); err != nil {
			t.Fatal(err)
		}
		act, d := &receiver{}, ordered("e2", observer.OrderStrict)
		if err := with(pass, act).handle(t.Context(), d); err != nil || stateOf(t, store.Store, d) != observer.Parked || act.attempts() != 0 {
			t.Errorf("%s after %d attempts, %v", d.State, act.attempts(), err)
		}
	})
}

// forgetful is a store that cannot tell about lanes for a while.
type forgetful struct {
	*memorystore.Store
	back time.Time
}

func (f *forgetful) Blocked(ctx context.Context, lane, eventID string) (bool, error) {
	if time.Now().Before(f.back) {
		return false, errors.New("no connection")
	}
	return f.Store.Blocked(ctx, lane, eventID)
}

// With strict order the next of the entity waits for an attempt that left its
// lane; without, it does not.
func TestNextAfterAHandedOverAttempt(t *testing.T) {
	t.Parallel()
	for order, want := range map[observer.Order]observer.State{observer.OrderStrict: observer.Parked, observer.OrderEntity: ""} {
		synctest.Test(t, func(t *testing.T) {
			store := memorystore.New(memorystore.Config{})
			pass := newPass(t, store)
			if err := with(pass, &receiver{takes: 10 * time.Second}).handle(t.Context(), ordered("e1", order)); err != nil {
				t.Fatal(err)
			}
			next := ordered("e2", order)
			if err := with(pass, &receiver{}).handle(t.Context(), next); err != nil || stateOf(t, store, next) != want {
				t.Errorf("%s: %q, %v; want %q", order, stateOf(t, store, next), err, want)
			}
			<-time.After(time.Minute)
			if want != "" && stateOf(t, store, next) != observer.Queued {
				t.Errorf("%s: %q after the first has ended", order, stateOf(t, store, next))
			}
		})
	}
}

// A receiver that hangs holds few lanes, and those not for long once there are
// too many of them.
func TestCrowdAtAnEndpointIsDispersed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memorystore.New(memorystore.Config{})
		pass := newPass(t, store)
		pass.Crowd = middleware.NewCrowd(2)
		pass.Endpoints = &receivers{away: map[string]bool{}}
		act, began := &receiver{takes: time.Minute}, time.Now()
		waited := make([]time.Duration, 4)
		var lanes sync.WaitGroup
		for i := range waited {
			lanes.Go(func() {
				<-time.After(time.Duration(i) * 100 * time.Millisecond)
				d := observer.NewDelivery(&observer.Event{ID: string(rune('a' + i))}, "notify", 0, "webhook")
				if err := with(pass, act).handle(t.Context(), d); err != nil {
					t.Error(err)
				}
				waited[i] = time.Since(began)
			})
		}
		lanes.Wait()
		// The third is held up at 450 ms. Then all go on, and the fourth when its
		// moment is over.
		want := []time.Duration{450 * time.Millisecond, 450 * time.Millisecond, 450 * time.Millisecond, 550 * time.Millisecond}
		if diff := cmp.Diff(want, waited); diff != "" {
			t.Error(diff)
		}
		if act.attempts() != 4 {
			t.Errorf("%d attempts", act.attempts())
		}
		<-time.After(time.Hour)
	})
}

// A claim counts as one attempt when its holder dies. So what has ended before
// is stored with it, and under it no other attempt begins.
func TestClaimOfAFirstPassIsOneAttempt(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		record   bool
		answers  []error        // of the attempts, the last of which hangs for 10 s
		stored   int            // attempts in the row while that runs
		state    observer.State // in the end
		attempts int
	}{
		"handed over in the first":  {false, []error{errTransient}, 0, observer.Scheduled, 1},
		"handed over in the second": {false, []error{errTransient, errTransient}, 1, observer.Scheduled, 2},
		"recorded":                  {true, []error{errTransient}, 0, observer.Scheduled, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := memorystore.New(memorystore.Config{})
				pass := newPass(t, store)
				pass.Record = tt.record
				act := &hanging{receiver: receiver{}, answers: tt.answers}
				pass.Preparer = act
				chain := observer.Chain(
					pass.Middleware(), middleware.DeadLetter{}.Middleware(), middleware.Defer(),
					middleware.Retry(middleware.RetryConfig{MaxAttempts: 9, InlineBudget: time.Hour, Backoff: backoff.Policy{Initial: time.Millisecond}}),
				)(act)
				d := newDelivery()
				if _, err := chain.Execute(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				running, err := store.Delivery(t.Context(), d.Key)
				if err != nil || running.State != observer.Running || len(running.Attempts) != tt.stored {
					t.Errorf("while it runs: %+v, %v", running, err)
				}
				<-time.After(time.Minute)
				ended, err := store.Delivery(t.Context(), d.Key)
				if err != nil || ended.State != tt.state || len(ended.Attempts) != tt.attempts {
					t.Errorf("in the end: %+v, %v", ended, err)
				}
			})
		})
	}
}

// hanging answers at once, but for the last answer.
type hanging struct {
	receiver
	answers []error
}

func (h *hanging) Execute(_ context.Context, d *observer.Delivery) (observer.Result, error) {
	n := len(d.Attempts)
	if n >= len(h.answers)-1 {
		<-time.After(10 * time.Second)
	}
	return observer.Result{}, h.answers[min(n, len(h.answers)-1)]
}
