package topology

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/middleware"
	memorystore "github.com/fraiseql/observer/store/memory"
	"github.com/fraiseql/observer/store/otter"
	"github.com/fraiseql/observer/template"
)

// attempts is an action whose n-th attempt does the n-th step; the last repeats.
type attempts []func(ctx context.Context) error

func (a attempts) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	return observer.Result{}, a[min(len(d.Attempts), len(a)-1)](ctx)
}

func succeed(context.Context) error { return nil }
func refuse(context.Context) error  { return errors.New("refused") }
func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func crash(context.Context) error {
	var none *int
	*none++
	return nil
}

func gone(context.Context) error {
	return observer.Permanent(observer.ReasonGone, errors.New("410 Gone"))
}

// newLayers are those of a process over store, whose log goes to out.
func newLayers(t *testing.T, store observer.StateStore, out io.Writer) *layers {
	t.Helper()
	stored, err := middleware.ReadStored(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	endpoints := delivery.NewEndpoints(delivery.EndpointsConfig{Store: store, Logger: logger})
	return &layers{
		cfg: &config.Config{Performance: config.Performance{ConcurrentTimeout: time.Second}}, begun: t.Context(),
		store: store, stored: stored, endpoints: endpoints, traffic: middleware.NewTraffic(middleware.TrafficConfig{}), logger: logger,
		worker:  delivery.NewWorker(delivery.WorkerConfig{Store: store, Endpoints: endpoints, Owner: "test", Logger: logger}),
		observe: middleware.Observer{Logger: slog.New(slog.NewTextHandler(out, nil)), Counters: &middleware.Counters{}},
	}
}

// TestChainOrder shows for each layer that it stands inside the layers it must
// stand inside: with any two exchanged one of the cases fails.
func TestChainOrder(t *testing.T) {
	t.Parallel()
	fast := config.Retry{MaxAttempts: 3, InitialDelay: 10 * time.Millisecond, MaxDelay: time.Second, Backoff: "fixed", InlineBudget: 2 * time.Second}
	slow := config.Retry{MaxAttempts: 3, InitialDelay: time.Minute, MaxDelay: time.Hour, Backoff: "fixed", InlineBudget: 2 * time.Second}
	tests := map[string]struct {
		action   attempts
		retry    config.Retry
		state    observer.State
		reason   observer.Reason
		attempts int
	}{
		"each attempt has its own timeout":       {attempts{hang, succeed}, fast, observer.Done, "", 2},
		"a panic is an attempt":                  {attempts{crash, crash, succeed}, fast, observer.Done, "", 3},
		"what retry gives up is a dead letter":   {attempts{refuse}, fast, observer.Dead, observer.ReasonExhausted, 3},
		"what is permanent is not tried again":   {attempts{refuse, gone}, fast, observer.Dead, observer.ReasonGone, 2},
		"what waits long is scheduled, not dead": {attempts{refuse}, slow, observer.Scheduled, "", 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				store := memorystore.New(memorystore.Config{})
				l := newLayers(t, store, &out)
				d := observer.NewDelivery(&observer.Event{ID: "e", Operation: observer.Insert}, "o", 0, "test")
				run := l.firstPass(config.Observer{Name: "o", OnFailure: "dlq"}, config.Action{Type: "test", Retry: tt.retry}, tt.action, nil, func(*observer.Delivery) {}).Run
				if _, err := run.Execute(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				if d.State != tt.state || d.Reason != tt.reason || len(d.Attempts) != tt.attempts {
					t.Errorf("%s (%s) after %d attempts, want %s (%s) after %d", d.State, d.Reason, len(d.Attempts), tt.state, tt.reason, tt.attempts)
				}
				want := map[observer.State]int{tt.state: 1}
				if tt.state == observer.Done {
					want = nil
				}
				stats, err := store.DeliveryStats(t.Context())
				if err != nil || len(stats.States) != len(want) || stats.States[tt.state] != want[tt.state] {
					t.Errorf("stored %+v (%v), want %+v", stats, err, want)
				}
				if d := cmp.Diff(1, strings.Count(out.String(), "\n")); d != "" || !strings.Contains(out.String(), "state="+string(tt.state)) {
					t.Errorf("log: %s", out.String())
				}
			})
		})
	}
}

// TestCacheInTheChain shows that the cache stands inside defer and outside retry.
func TestCacheInTheChain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		memory, err := otter.New(otter.Config[middleware.CachedResult]{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = memory.Close() }()
		key, err := template.Compile("all", template.Text)
		if err != nil {
			t.Fatal(err)
		}
		l := newLayers(t, memorystore.New(memorystore.Config{}), io.Discard)
		l.cfg.Performance.EnableCaching = true
		l.results, l.caches = middleware.NewResults(memory, l.observe.Counters), &middleware.CacheStats{}
		a := config.Action{
			Type: "test", Cache: config.ActionCache{On: true, TTL: time.Hour, Template: key},
			Retry: config.Retry{MaxAttempts: 3, InitialDelay: time.Second, MaxDelay: time.Second, Backoff: "fixed", InlineBudget: time.Minute},
		}
		run := func(ctx context.Context, id string, act observer.Action) *observer.Delivery {
			d := observer.NewDelivery(&observer.Event{ID: id, Operation: observer.Insert}, "o", 0, "test")
			if _, err := compose(l.chain(config.Observer{}, a, act, middleware.DeadLetter{}, time.Minute))(act).Execute(ctx, d); err != nil {
				t.Error(err)
			}
			return d
		}
		first := make(chan *observer.Delivery)
		go func() { first <- run(t.Context(), "first", attempts{refuse, succeed}) }()
		synctest.Wait()
		stopping := make(chan struct{})
		close(stopping)
		if d := run(observer.WithDrain(t.Context(), stopping), "waiting", attempts{succeed}); d.State != observer.Scheduled || len(d.Attempts) != 0 {
			t.Errorf("what waits when the process stops is %s after %d attempts, want it scheduled: the cache is outside defer", d.State, len(d.Attempts))
		}
		if d := <-first; d.State != observer.Done || len(d.Attempts) != 2 {
			t.Errorf("the first is %s after %d attempts", d.State, len(d.Attempts))
		}
		if d := run(t.Context(), "hit", attempts{refuse}); d.State != observer.Done || len(d.Attempts) != 1 || !d.Attempts[0].Cached {
			t.Errorf("the next is %s, %+v, want one attempt: the cache is inside retry", d.State, d.Attempts)
		}
	})
}

// TestLookup: a stored delivery finds its action after the file was edited.
func TestLookup(t *testing.T) {
	t.Parallel()
	webhook := func(name string) storedAction {
		return storedAction{actionType: "webhook", print: name, run: attempts{succeed}}
	}
	email := storedAction{actionType: "email", print: "m", run: attempts{succeed}}
	tests := map[string]struct {
		before []string // fingerprints of the observer's actions, the delivery is of the first
		now    []storedAction
		want   string // fingerprint of the action found; "" none
	}{
		"unchanged":             {[]string{"a", "b"}, []storedAction{webhook("a"), webhook("b")}, "a"},
		"exchanged":             {[]string{"a", "b"}, []storedAction{webhook("b"), webhook("a")}, "a"},
		"one inserted before":   {[]string{"a"}, []storedAction{webhook("x"), webhook("a")}, "a"},
		"edited in place":       {[]string{"a", "b"}, []storedAction{webhook("a2"), webhook("b")}, "a2"},
		"removed, others moved": {[]string{"a", "b"}, []storedAction{webhook("b")}, ""},
		"of another type":       {[]string{"a"}, []storedAction{email}, ""},
		"observer removed":      {[]string{"a"}, nil, ""},
		"stored without":        {nil, []storedAction{webhook("x")}, "x"},
	}
	for name, tt := range tests {
		d := observer.NewDelivery(&observer.Event{ID: "e"}, "o", 0, "webhook")
		d.Prints = tt.before
		got, found := (&actions{stored: map[string][]storedAction{"o": tt.now}}).lookup(d)
		if found != (tt.want != "") || found && got.print != tt.want {
			t.Errorf("%s: %v, %q, want %q", name, found, got.print, tt.want)
		}
	}
}

// What a fallback keeps open ends with its configuration like that of an action.
func TestFallbacksAreClosed(t *testing.T) {
	t.Parallel()
	text := "[[databases]]\nname = 's'\nurl = 'sqlite:s.db'\n[[observers]]\nname = 'o'\nentity = '*'\n[[observers.actions]]\ntype = 'log'\n" +
		"fallback = { type = 'cache', url = 'redis://127.0.0.1:1/0', key_pattern = 'k' }\n"
	cfg, err := config.Parse("o.toml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	l := newLayers(t, memorystore.New(memorystore.Config{}), io.Discard)
	set, err := l.buildActions(cfg, config.Deps{Network: cfg.Network.Outbound(), Logger: l.logger})
	if err != nil {
		t.Fatal(err)
	}
	if len(set.closers) != 1 {
		t.Errorf("%d actions are closed at the end, want that of the fallback", len(set.closers))
	}
	if err := set.close(); err != nil {
		t.Error(err)
	}
}
