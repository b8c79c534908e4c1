package middleware_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/store/otter"
)

// shop is an action whose requests are equal when their entities are. It
// answers with what answer gives, a second later.
type shop struct {
	calls  atomic.Int64
	answer func(call int64) error
}

func (r *shop) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	call := r.calls.Add(1)
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return observer.Result{}, ctx.Err()
	}
	d.Attempts = append(d.Attempts, observer.Attempt{Number: len(d.Attempts) + 1})
	if r.answer != nil {
		if err := r.answer(call); err != nil {
			return observer.Result{Status: 500}, err
		}
	}
	return observer.Result{Status: 200, Detail: "thanks"}, nil
}

func (r *shop) Prepare(context.Context, *observer.Delivery) error { return nil }

func (r *shop) Endpoint(context.Context, *observer.Delivery) string { return "https://shop.example" }

func (r *shop) Identity(_ context.Context, d *observer.Delivery) (string, error) {
	switch d.Event.EntityID {
	case "unrenderable":
		return "", observer.Permanent(observer.ReasonTemplate, errors.New("no such field"))
	case "panics":
		panic("identity") //nolint:forbidigo // what an action may do
	}
	return d.Event.EntityID, nil
}

// broken is a store that is away while its error is set.
type broken struct {
	observer.Cache[middleware.CachedResult]

	err error
	// slow is how long after looking the next answer is given.
	slow atomic.Int64
}

func (b *broken) Get(ctx context.Context, key string) (middleware.CachedResult, bool, error) {
	if b.err != nil {
		return middleware.CachedResult{}, false, b.err
	}
	r, found, err := b.Cache.Get(ctx, key)
	<-time.After(time.Duration(b.slow.Swap(0)))
	return r, found, err
}

func (b *broken) Set(ctx context.Context, key string, r middleware.CachedResult, ttl time.Duration) error {
	if b.err != nil {
		return b.err
	}
	return b.Cache.Set(ctx, key, r, ttl)
}

// cached is a cache under test with what it stands around.
type cached struct {
	*shop
	store    *broken
	counters *middleware.Counters
	actions  *middleware.CacheStats
	config   middleware.Cache
}

func newCached(t *testing.T, answer func(call int64) error) *cached {
	t.Helper()
	memory, err := otter.New(otter.Config[middleware.CachedResult]{Size: middleware.CachedResult.Size})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = memory.Close() })
	c := &cached{shop: &shop{answer: answer}, store: &broken{Cache: memory}, counters: &middleware.Counters{}, actions: &middleware.CacheStats{}}
	c.config = middleware.Cache{
		Results: middleware.NewResults(c.store, c.counters), TTL: time.Minute, Identify: c.shop, Patience: 10 * time.Second,
		Stats: c.actions, Logger: quiet(),
	}
	return c
}

func (c *cached) run(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	return c.config.Middleware()(c.shop).Execute(ctx, d)
}

// sent runs d and reports whether it was sent.
func (c *cached) sent(t *testing.T, d *observer.Delivery) bool {
	t.Helper()
	before := c.calls.Load()
	if _, err := c.run(t.Context(), d); err != nil {
		t.Errorf("%s: %v", d.Key, err)
	}
	return c.calls.Load() != before
}

func deliveryOf(entity string) *observer.Delivery {
	e := &observer.Event{ID: rand.Text(), EntityType: "Order", EntityID: entity, TenantID: "a"}
	d := observer.NewDelivery(e, "notify", 0, "webhook")
	d.Endpoint = "https://shop.example"
	return d
}

func TestAnEqualRequestIsNotSentTwiceWithinTheTTL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		if !c.sent(t, deliveryOf("7")) || !c.sent(t, deliveryOf("8")) {
			t.Error("the first was not sent")
		}
		at := time.Now().Add(-time.Second).UTC()
		<-time.After(30 * time.Second)
		d := deliveryOf("7")
		result, err := c.run(t.Context(), d)
		want := "cached result of " + at.Format(time.RFC3339) + ", nothing was sent: status 200: thanks"
		if err != nil || result.Status != 0 || result.Detail != want {
			t.Errorf("%+v, error %v, want %q", result, err, want)
		}
		if diff := cmp.Diff([]observer.Attempt{{Number: 1, At: time.Now(), Detail: want, Cached: true}}, d.Attempts); diff != "" {
			t.Error(diff)
		}
		<-time.After(29*time.Second - 1)
		if c.sent(t, deliveryOf("7")) {
			t.Error("it was sent again within the TTL")
		}
		<-time.After(1)
		if !c.sent(t, deliveryOf("7")) {
			t.Error("it was not sent again after the TTL")
		}
		counts := middleware.CacheCounts{Hits: 2, Misses: 3}
		if diff := cmp.Diff(counts, c.counters.Read().Cache); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]middleware.ActionCacheCounts{{Observer: "notify", CacheCounts: counts}}, c.actions.Read()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOnlySuccessIsCached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, func(call int64) error {
			return []error{errTransient, observer.Permanent(observer.ReasonGone, errors.New("410")), observer.OutcomeUnknown(errTransient), nil}[min(call-1, 3)]
		})
		for range 3 {
			if _, err := c.run(t.Context(), deliveryOf("7")); err == nil {
				t.Error("a failure was taken for a success")
			}
		}
		if !c.sent(t, deliveryOf("7")) || c.sent(t, deliveryOf("7")) {
			t.Error("the success was not the first to be cached")
		}
	})
}

func TestWhatKeepsRequestsApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.sent(t, deliveryOf("7"))
		for what, change := range map[string]func(*observer.Delivery){
			"tenant": func(d *observer.Delivery) { d.Event.TenantID = "b" }, "no tenant": func(d *observer.Delivery) { d.Event.TenantID = "" },
			"type": func(d *observer.Delivery) { d.ActionType = "slack" }, "endpoint": func(d *observer.Delivery) { d.Endpoint = "https://other.example" },
			"a tenant that looks like another": func(d *observer.Delivery) { d.Event.TenantID, d.ActionType = "aw", "ebhook" },
		} {
			d := deliveryOf("7")
			change(d)
			if !c.sent(t, d) {
				t.Errorf("%s: a result was shared", what)
			}
		}
		other := deliveryOf("7")
		other.Observer, other.Action = "other", 3
		if c.sent(t, other) {
			t.Error("the equal request of another observer was sent")
		}
	})
}

// key is a template that renders the entity.
type key struct{}

func (key) Render(_ context.Context, e *observer.Event) (string, error) {
	switch e.EntityID {
	case "unrenderable":
		return "", errors.New("no such field")
	case "none":
		return "", nil
	}
	return e.EntityID[:1], nil
}

func TestKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.config.Key, c.config.Scope, c.config.Identify = key{}, "one", nil
		c.sent(t, deliveryOf("7a"))
		if c.sent(t, deliveryOf("7b")) {
			t.Error("one key, and it was sent again")
		}
		for _, entity := range []string{"none", "none", "unrenderable", "unrenderable"} {
			if !c.sent(t, deliveryOf(entity)) {
				t.Errorf("%s: it has no key, and was not sent", entity)
			}
		}
		other := deliveryOf("7a")
		other.Event.TenantID = "b"
		if !c.sent(t, other) {
			t.Error("tenants share a key")
		}
		c.config.Scope = "two"
		if !c.sent(t, deliveryOf("7a")) {
			t.Error("actions share a key")
		}
	})
}

func TestWhatAPersonHasRunAgainIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.sent(t, deliveryOf("7"))
		at, queued := deliveryOf("7"), deliveryOf("7")
		at.ClaimedFrom, queued.Redrives = observer.Dead, 1
		<-time.After(50 * time.Second)
		if !c.sent(t, at) || !c.sent(t, queued) {
			t.Error("a redrive took a cached result")
		}
		<-time.After(50 * time.Second)
		if c.sent(t, deliveryOf("7")) {
			t.Error("the success of a redrive was not cached")
		}
	})
}

func TestWhatHasNoIdentityIsSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		for _, entity := range []string{"unrenderable", "unrenderable", "panics", "panics"} {
			if !c.sent(t, deliveryOf(entity)) {
				t.Errorf("%s: it was not sent", entity)
			}
		}
	})
}

// Invariant 8: a store that is away has no results, and delays nothing.
func TestCacheThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		c := newCached(t, nil)
		c.config.Logger = textLogger(&log)
		c.store.err = errors.New("connection refused")
		for range 3 {
			if !c.sent(t, deliveryOf("7")) {
				t.Error("it was not sent")
			}
		}
		c.store.err = nil
		if !c.sent(t, deliveryOf("7")) || c.sent(t, deliveryOf("7")) {
			t.Error("it does not cache after it came back")
		}
		if diff := cmp.Diff(middleware.CacheCounts{Hits: 1, Misses: 4, Failures: 9}, c.counters.Read().Cache); diff != "" {
			t.Error(diff)
		}
		if n := strings.Count(log.String(), "is away"); n != 1 || strings.Count(log.String(), "is back") != 1 {
			t.Errorf("it was told %d times:\n%s", n, log.String())
		}
	})
}

func TestEqualRequestsAtTheSameTimeAreOne(t *testing.T) {
	t.Parallel()
	for _, away := range []error{nil, errors.New("connection refused")} {
		synctest.Test(t, func(t *testing.T) {
			c := newCached(t, nil)
			c.store.err = away
			var wg sync.WaitGroup
			var hits atomic.Int64
			began := time.Now()
			for range 50 {
				wg.Go(func() {
					d := deliveryOf("7")
					if _, err := c.run(t.Context(), d); err != nil {
						t.Error(err)
					}
					if d.Attempts[len(d.Attempts)-1].Cached {
						hits.Add(1)
					}
				})
			}
			wg.Wait()
			if c.calls.Load() != 1 || hits.Load() != 49 || time.Since(began) != time.Second {
				t.Errorf("%d calls, %d hits, in %s", c.calls.Load(), hits.Load(), time.Since(began))
			}
		})
	}
}

// A look that found nothing may be older than a success.
func TestALookThatTookLongIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.store.slow.Store(int64(time.Minute / 2))
		slow := make(chan *observer.Delivery)
		go func() {
			d := deliveryOf("7")
			_, _ = c.run(t.Context(), d)
			slow <- d
		}()
		synctest.Wait()
		c.sent(t, deliveryOf("7"))
		if d := <-slow; c.calls.Load() != 1 || !d.Attempts[0].Cached {
			t.Errorf("%d calls, want 1", c.calls.Load())
		}
	})
}

// One that waits for a request that fails makes its own, and the others wait for
// that.
func TestWaitersOfAFailureGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, func(call int64) error {
			if call <= 3 {
				return errTransient
			}
			return nil
		})
		var wg sync.WaitGroup
		var failed atomic.Int64
		for range 50 {
			wg.Go(func() {
				if _, err := c.run(t.Context(), deliveryOf("7")); err != nil {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if c.calls.Load() != 4 || failed.Load() != 3 {
			t.Errorf("%d calls, %d failed; want 4 and 3", c.calls.Load(), failed.Load())
		}
	})
}

func TestPatienceOfWaitersEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, func(int64) error { return errTransient })
		var wg sync.WaitGroup
		began := time.Now()
		for range 50 {
			wg.Go(func() { _, _ = c.run(t.Context(), deliveryOf("7")) })
		}
		wg.Wait()
		// Ten one after the other, one more, and the rest beside one another.
		if took := time.Since(began); c.calls.Load() != 50 || took > 12*time.Second {
			t.Errorf("%d calls in %s", c.calls.Load(), took)
		}
	})
}

func TestTheEndOfAWaiterEndsItsWaitingOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		leader := make(chan error, 1)
		go func() {
			_, err := c.run(t.Context(), deliveryOf("7"))
			leader <- err
		}()
		synctest.Wait()
		drain := make(chan struct{})
		close(drain)
		gone, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		for _, ctx := range []context.Context{gone, observer.WithDrain(t.Context(), drain)} {
			d, began := deliveryOf("7"), time.Now()
			_, err := c.run(ctx, d)
			until, deferred := observer.DeferredUntil(err)
			if !deferred || !until.Equal(time.Now()) || len(d.Attempts) != 0 || time.Since(began) > time.Millisecond {
				t.Errorf("%v after %s, deferred to %s, %d attempts", err, time.Since(began), until, len(d.Attempts))
			}
		}
		if err := <-leader; err != nil || c.calls.Load() != 1 {
			t.Errorf("the request that was waited for: %v, %d calls", err, c.calls.Load())
		}
	})
}

func TestTheEndOfTheFirstLeavesItToTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		gone, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() {
			_, err := c.run(gone, deliveryOf("7"))
			first <- err
		}()
		synctest.Wait()
		next := make(chan bool, 1)
		go func() { next <- c.sent(t, deliveryOf("7")) }()
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if !<-next {
			t.Error("nobody sent it")
		}
	})
}

// A panic below must not leave others waiting for ever.
func TestPanicOfTheFirstLeavesItToTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, func(call int64) error {
			if call == 1 {
				panic("below") //nolint:forbidigo // what a layer may do
			}
			return nil
		})
		go func() {
			defer func() { _ = recover() }()
			_, _ = c.run(t.Context(), deliveryOf("7"))
		}()
		synctest.Wait()
		if !c.sent(t, deliveryOf("7")) {
			t.Error("it was not sent")
		}
	})
}

// Another action of the process may have kept it for longer.
func TestTheTTLIsThatOfWhoAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCached(t, nil)
		c.sent(t, deliveryOf("7"))
		c.config.TTL = 10 * time.Second
		<-time.After(10 * time.Second)
		if !c.sent(t, deliveryOf("7")) {
			t.Error("a result older than the TTL of the action was taken")
		}
	})
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
