package topology

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/executor"
	"github.com/fraiseql/observer/middleware"
	memorystore "github.com/fraiseql/observer/store/memory"
	"github.com/fraiseql/observer/store/redis"
)

// hook is an action with an endpoint, that is down when it is said to be.
type hook struct {
	endpoint string
	takes    time.Duration

	mu        sync.Mutex
	down      error
	came      []time.Duration
	began     time.Time
	now, most int
}

func (h *hook) Prepare(context.Context, *observer.Delivery) error   { return nil }
func (h *hook) Endpoint(context.Context, *observer.Delivery) string { return h.endpoint }
func (h *hook) Execute(ctx context.Context, _ *observer.Delivery) (observer.Result, error) {
	h.mu.Lock()
	h.came = append(h.came, time.Since(h.began))
	h.now++
	h.most = max(h.most, h.now)
	h.mu.Unlock()
	var err error
	select {
	case <-time.After(h.takes):
	case <-ctx.Done():
		err = ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now--
	return observer.Result{}, errors.Join(err, h.down)
}

func (h *hook) set(down error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// calls are how many came since the last time.
func (h *hook) calls() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.came)
	h.came = nil
	return n
}

// counting is a store that counts what is written to deliveries it has.
type counting struct {
	*memorystore.Store
	mu      sync.Mutex
	updates int
}

func (c *counting) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	c.mu.Lock()
	c.updates++
	c.mu.Unlock()
	return c.Store.UpdateDelivery(ctx, d, owner)
}

// written are the updates since the last time.
func (c *counting) written() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.updates
	c.updates = 0
	return n
}

// daemon is a process with one observer whose action is a hook.
type daemon struct {
	top   *Topology
	store *counting
	hook  *hook
	run   executor.Action
	n     int
	stop  func()
	// patience is that with Redis.
	patience time.Duration
}

// testBreaker opens after half of ten calls, for half a minute.
func testBreaker() config.Breaker {
	return config.Breaker{Enabled: true, FailureRate: 50, MinCalls: 10, Window: 30 * time.Second, OpenFor: 30 * time.Second, Probes: 3}
}

func startDaemon(t *testing.T, rules config.Config, a config.Action, other *hook) *daemon {
	t.Helper()
	m := &daemon{store: &counting{Store: memorystore.New(memorystore.Config{})}, hook: &hook{endpoint: "e", takes: time.Millisecond, began: time.Now()}}
	m.start(t, rules, a, other, nil)
	return m
}

// start starts a process on the store of m that calls the hook of m. It shares
// its limits where there is a client.
func (m *daemon) start(t *testing.T, rules config.Config, a config.Action, other *hook, client *redis.Client) {
	t.Helper()
	l := newLayers(t, m.store, io.Discard)
	m.top = &Topology{Store: m.store, layers: l, logger: l.logger, redis: client, Counters: l.observe.Counters}
	rules.Performance = l.cfg.Performance
	l.cfg = &rules
	l.endpoints, l.traffic = m.top.trafficOf(&rules, m.top.shareLimits(redis.LimiterConfig{Patience: m.patience}))
	l.worker = delivery.NewWorker(delivery.WorkerConfig{
		Store: m.store, Run: m.top.RunStored, MayRepeat: m.top.MayRepeat, Bury: m.top.giveUp, Owner: "test",
		Endpoints: l.endpoints, Traffic: l.traffic, Logger: l.logger,
	})
	l.traffic.OnChange(l.worker.Wake)
	a.Type = "test"
	o := config.Observer{Name: "o", OnFailure: "dlq", Order: observer.OrderEntity, Actions: []config.Action{a}}
	set := &actions{stored: map[string][]storedAction{"o": {l.storedAction(o, a, m.hook, nil)}}}
	if a.Fallback != nil {
		set.stored[fallbackName("o")] = []storedAction{l.storedAction(o, a.Fallback.Action, other, nil)}
	}
	m.top.actions.Store(set)
	m.run = l.firstPass(o, a, m.hook, nil, planOf(o, a, nil))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.worker.Run(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
}

// handle hands n events of entities of their own over, in lanes of their own.
func (m *daemon) handle(t *testing.T, n int) []*observer.Delivery {
	t.Helper()
	var all sync.WaitGroup
	var ds []*observer.Delivery
	for range n {
		m.n++
		e := &observer.Event{ID: fmt.Sprintf("%04d", m.n), Operation: observer.Insert, EntityType: "Order", EntityID: strconv.Itoa(m.n)}
		d := observer.NewDelivery(e, "o", 0, "test")
		ds = append(ds, d)
		all.Go(func() {
			if _, err := m.run.Run.Execute(t.Context(), d); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return ds
}

func (m *daemon) states(t *testing.T) map[observer.State]int {
	t.Helper()
	stats, err := m.store.DeliveryStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stats.States
}

func (m *daemon) want(t *testing.T, when string, want map[observer.State]int) {
	t.Helper()
	if d := cmp.Diff(want, m.states(t)); d != "" {
		t.Errorf("%s: %s", when, d)
	}
}

// attempts checks that nothing stored took more attempts than most.
func (m *daemon) attempts(t *testing.T, most int) {
	t.Helper()
	all, err := m.store.Deliveries(t.Context(), observer.DeliveryFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if len(d.Attempts) > most || d.Lost != 0 {
			t.Errorf("%s took %d attempts, %d lost", d.Key, len(d.Attempts), d.Lost)
		}
	}
}

func retrying() config.Action {
	return config.Action{Retry: config.Retry{MaxAttempts: 5, InitialDelay: 10 * time.Second, MaxDelay: 10 * time.Second, Backoff: "fixed", InlineBudget: 2 * time.Second}}
}

// An open breaker costs nothing: no attempt, no call, no writing to and fro. After
// it, the backlog leaves with the ramp, which is the slow start.
func TestReceiverThatIsDownForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := startDaemon(t, config.Config{Breaker: testBreaker()}, retrying(), nil)
		defer m.stop()
		m.hook.set(errors.New("503"))
		m.handle(t, 10)
		if b := m.top.Breakers(); len(b) != 1 || b[0].State != middleware.BreakerOpen || b[0].Failures != 10 {
			t.Fatalf("after ten failures: %+v", b)
		}
		m.hook.calls()
		m.handle(t, 200)
		m.store.written()
		<-time.After(29 * time.Second)
		if n, writes := m.hook.calls(), m.store.written(); n != 0 || writes != 0 {
			t.Errorf("while it is open: %d calls, %d writes", n, writes)
		}
		m.want(t, "open", map[observer.State]int{observer.Scheduled: 10, observer.Queued: 200})
		<-time.After(2 * time.Second)
		if n := m.hook.calls(); n < 2 || n > 3 {
			t.Errorf("%d probes", n)
		}
		if b := m.top.Breakers(); b[0].State != middleware.BreakerOpen {
			t.Errorf("after the probes failed: %+v", b)
		}
		m.hook.set(nil)
		<-time.After(30 * time.Second) // half-open again after 29, closed at once
		if b := m.top.Breakers(); b[0].State != middleware.BreakerClosed {
			t.Errorf("after it came back: %+v", b)
		}
		if ds := m.handle(t, 1); ds[0].State != observer.Queued {
			t.Errorf("a lane joins in while the backlog leaves: %s", ds[0].State)
		}
		<-time.After(20 * time.Second)
		m.want(t, "afterwards", map[observer.State]int{observer.Done: 211})
		m.attempts(t, 3)
		if ds := m.handle(t, 1); ds[0].State != observer.Done || len(m.states(t)) != 1 {
			t.Errorf("after the ramp lanes send again: %s", ds[0].State)
		}
	})
}

// A person who resumes an endpoint need not wait for its breaker, too. What came
// while that was open keeps the time it was given.
func TestResumedEndpointHasANewBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rules := config.Config{Breaker: testBreaker()}
		rules.Breaker.OpenFor = 24 * time.Hour
		m := startDaemon(t, rules, retrying(), nil)
		defer m.stop()
		m.hook.set(errors.New("503"))
		m.handle(t, 10)
		m.hook.set(nil)
		if err := delivery.Pause(t.Context(), m.store, "e"); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		const kept = 5
		m.handle(t, kept)
		if b := m.top.Breakers(); len(b) != 1 || b[0].State != middleware.BreakerOpen {
			t.Fatalf("while it is paused: %+v", b)
		}
		m.hook.calls()
		if err := delivery.Resume(t.Context(), m.store, "e"); err != nil {
			t.Fatal(err)
		}
		<-time.After(20 * time.Second)
		if b := m.top.Breakers(); len(b) != 1 || b[0].State != middleware.BreakerClosed {
			t.Errorf("after it was resumed: %+v", b)
		}
		if ds := m.handle(t, 1); ds[0].State != observer.Done {
			t.Errorf("what came then is %s", ds[0].State)
		}
		m.want(t, "afterwards", map[observer.State]int{observer.Done: 10, observer.Queued: kept})
		if n := m.hook.calls(); n != 11 {
			t.Errorf("%d calls, want 11", n)
		}
	})
}

// The slow start follows every closing of a breaker, also where the endpoint never
// failed ten times in a row.
func TestSlowStartAfterTheBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rules := config.Config{Breaker: testBreaker()}
		rules.Breaker.MinCalls = 4
		m := startDaemon(t, rules, retrying(), nil)
		defer m.stop()
		m.hook.set(errors.New("503"))
		m.handle(t, 4)
		m.hook.set(nil)
		m.handle(t, 200)
		m.hook.calls()
		<-time.After(31 * time.Second)
		if n := m.hook.calls(); n < 5 || n > 35 {
			t.Errorf("%d calls in the first second", n)
		}
		<-time.After(10 * time.Second)
		m.want(t, "afterwards", map[observer.State]int{observer.Done: 204})
	})
}

// What comes faster than the limit is sent at the limit, in the order in which it
// came, each claimed once.
func TestLimitsAreKeptByLanesAndWorkersTogether(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limits config.Limits
		takes  time.Duration
		within time.Duration // all 200
	}{
		"rate":        {config.Limits{Rate: 10, Burst: 5}, time.Millisecond, 21 * time.Second},
		"one by one":  {config.Limits{MaxConcurrent: 1}, 50 * time.Millisecond, 12 * time.Second},
		"concurrency": {config.Limits{MaxConcurrent: 4}, 100 * time.Millisecond, 6 * time.Second},
		"both":        {config.Limits{MaxConcurrent: 2, Rate: 10, Burst: 1}, 150 * time.Millisecond, 21 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := startDaemon(t, config.Config{Breaker: testBreaker(), Limits: tt.limits}, retrying(), nil)
				defer m.stop()
				m.hook.takes = tt.takes
				for range 20 { // 100 a second
					m.handle(t, 10)
					<-time.After(100 * time.Millisecond)
				}
				<-time.After(tt.within)
				states := m.states(t)
				if d := cmp.Diff(map[observer.State]int{observer.Done: states[observer.Done]}, states); d != "" || len(m.hook.came) != 200 {
					t.Errorf("%d calls; %s", len(m.hook.came), d)
				}
				if c := tt.limits.MaxConcurrent; c > 0 && m.hook.most > c {
					t.Errorf("%d at once", m.hook.most)
				}
				if tt.limits.Rate > 0 {
					checkRate(t, m.hook.came, tt.limits)
				}
				if done, writes := states[observer.Done], m.store.written(); writes > done+done/10+2 {
					t.Errorf("%d writes for %d that were stored", writes, done)
				}
			})
		})
	}
}

// checkRate: in no time does more begin than the burst and what the rate allows.
func checkRate(t *testing.T, came []time.Duration, l config.Limits) {
	t.Helper()
	for i := range came {
		for j := range came[:i] {
			if n := float64(i - j + 1); n > float64(l.Burst)+l.Rate*(came[i]-came[j]).Seconds()+0.001 {
				t.Fatalf("%v calls within %s", n, came[i]-came[j])
			}
		}
	}
}

// What is stored does not starve beside lanes that are always busy, and lanes send
// again when it is gone.
func TestStoredDeliveriesDoNotStarve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := startDaemon(t, config.Config{Limits: config.Limits{Rate: 10, Burst: 1}}, retrying(), nil)
		defer m.stop()
		stored := observer.NewDelivery(&observer.Event{ID: "stored", Operation: observer.Insert}, "o", 0, "test")
		stored.Endpoint = "e"
		stored.Enqueue(time.Now())
		if _, err := m.store.InsertDeliveries(t.Context(), stored); err != nil {
			t.Fatal(err)
		}
		for range 50 { // just what the limit lets pass
			m.handle(t, 1)
			<-time.After(100 * time.Millisecond)
		}
		d, err := m.store.Delivery(t.Context(), stored.Key)
		if err != nil || d.State != observer.Done || d.Attempts[0].At.After(d.CreatedAt.Add(2*time.Second)) {
			t.Errorf("%+v (%v)", d, err)
		}
		<-time.After(5 * time.Second)
		if ds := m.handle(t, 1); ds[0].State != observer.Done {
			t.Errorf("a lane when nothing waits: %s", ds[0].State)
		}
	})
}

// What waits for its turn and was not sent yet keeps later changes of its entity
// behind it.
func TestWaitingForATurnKeepsTheOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := startDaemon(t, config.Config{Breaker: testBreaker()}, retrying(), nil)
		defer m.stop()
		m.hook.set(errors.New("503"))
		m.handle(t, 10)
		for i := range 3 {
			e := &observer.Event{ID: fmt.Sprint("same ", i), Operation: observer.Update, EntityType: "Order", EntityID: "same"}
			d := observer.NewDelivery(e, "o", 0, "test")
			if _, err := m.run.Run.Execute(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if want := []observer.State{observer.Queued, observer.Parked, observer.Parked}[i]; d.State != want {
				t.Errorf("change %d is %s, want %s", i, d.State, want)
			}
		}
	})
}

func withFallback(when string) config.Action {
	a := retrying()
	a.Fallback = &config.Fallback{When: when, Action: config.Action{Type: "mail", Retry: a.Retry}}
	return a
}

func TestFallbackOfADeadLetter(t *testing.T) {
	t.Parallel()
	permanent := func(r observer.Reason) error { return observer.Permanent(r, errors.New("refused")) }
	tests := map[string]struct {
		err  error
		want int
	}{
		"permanent":       {permanent(observer.ReasonPermanent), 1},
		"gone":            {permanent(observer.ReasonGone), 1},
		"exhausted":       {errors.New("503"), 1},
		"template":        {permanent(observer.ReasonTemplate), 0},
		"outcome unknown": {permanent(observer.ReasonOutcomeUnknown), 0},
		"success":         {nil, 0},
	}
	for name, tt := range tests {
		for _, when := range []string{config.WhenDead, config.WhenOpen} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					mail := &hook{endpoint: "mail", began: time.Now()}
					m := startDaemon(t, config.Config{Breaker: testBreaker()}, withFallback(when), mail)
					defer m.stop()
					m.hook.set(tt.err)
					d := m.handle(t, 1)[0]
					<-time.After(2 * time.Minute)
					if n := mail.calls(); n != tt.want {
						t.Errorf("%d fallbacks, want %d", n, tt.want)
					}
					if tt.want == 0 {
						return
					}
					stored, err := m.store.Delivery(t.Context(), d.Key)
					key := observer.DeliveryKey("0001", "@fallback.o", 0)
					if err != nil || stored.State != observer.Dead || !strings.Contains(stored.Error, "handed to its fallback "+key) {
						t.Fatalf("%+v (%v)", stored, err)
					}
					if other, err := m.store.Delivery(t.Context(), key); err != nil || other.State != observer.Done || other.Endpoint != "mail" {
						t.Errorf("the fallback: %+v (%v)", other, err)
					}
					if err := m.store.RemoveDelivery(t.Context(), key); err != nil {
						t.Fatal(err)
					}
					if _, err := delivery.Redrive(t.Context(), delivery.RedriveConfig{Store: m.store, Run: m.top.RunStored, Owner: "me"}, d.Key); err != nil {
						t.Fatal(err)
					}
					<-time.After(time.Minute)
					if n := mail.calls(); n != 0 {
						t.Errorf("%d fallbacks of what a person had redriven", n)
					}
				})
			})
		}
	}
}

// While the breaker is open the fallback runs at once, for what comes and for what
// waits, in place of the action and for good.
func TestFallbackWhileTheBreakerIsOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mail := &hook{endpoint: "mail", began: time.Now()}
		m := startDaemon(t, config.Config{Breaker: testBreaker()}, withFallback(config.WhenOpen), mail)
		defer m.stop()
		m.hook.set(errors.New("503"))
		m.handle(t, 10) // scheduled in ten seconds
		for _, d := range m.handle(t, 5) {
			if d.State != observer.Dropped || d.Reason != observer.ReasonFallback || len(d.Attempts) != 0 {
				t.Errorf("%s (%s) after %d attempts: %s", d.State, d.Reason, len(d.Attempts), d.Error)
			}
		}
		m.hook.calls()
		<-time.After(20 * time.Second)
		m.want(t, "open", map[observer.State]int{observer.Dropped: 10, observer.Done: 15})
		if n := mail.calls(); n != 15 || m.hook.calls() != 0 {
			t.Errorf("%d fallbacks", n)
		}
		dropped, err := m.store.Deliveries(t.Context(), observer.DeliveryFilter{State: observer.Dropped})
		for _, d := range dropped {
			if d.Reason != observer.ReasonFallback || !strings.Contains(d.Error, "@fallback.o/0") || len(d.Attempts) != 1 {
				t.Errorf("%s (%v): %d attempts, %s", d.Reason, err, len(d.Attempts), d.Error)
			}
		}
		m.hook.set(nil)
		<-time.After(11 * time.Second)
		m.handle(t, 3)
		<-time.After(20 * time.Second)
		if n, fallbacks := m.hook.calls(), mail.calls(); n != 3 || fallbacks != 0 {
			t.Errorf("after it came back: %d calls, %d fallbacks", n, fallbacks)
		}
	})
}

// An action beside it without a fallback shares the breaker, and waits.
func TestFallbackIsOfItsActionOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mail := &hook{endpoint: "mail", began: time.Now()}
		m := startDaemon(t, config.Config{Breaker: testBreaker()}, withFallback(config.WhenOpen), mail)
		defer m.stop()
		l, o := m.top.layers, config.Observer{Name: "plain", OnFailure: "dlq"}
		m.top.actions.Load().stored["plain"] = []storedAction{l.storedAction(o, retrying(), m.hook, nil)}
		m.hook.set(errors.New("503"))
		m.handle(t, 10)
		d := observer.NewDelivery(&observer.Event{ID: "p", Operation: observer.Insert}, "plain", 0, "")
		d.Endpoint = "e"
		d.Enqueue(time.Now())
		synctest.Wait()
		m.store.written()
		if err := l.keep(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		l.worker.Wake()
		<-time.After(9 * time.Second)
		stored, err := m.store.Delivery(t.Context(), d.Key)
		if n := m.store.written(); err != nil || stored.State != observer.Queued || len(stored.Attempts) != 0 || stored.Lost != 0 || n != 1 {
			t.Errorf("%+v (%v) after %d writes", stored, err, n)
		}
	})
}
