package topology

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/middleware"
	memorystore "github.com/fraiseql/observer/store/memory"
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

// TestChainOrder shows for each layer that it stands inside the layers it must
// stand inside: with any two exchanged one of the cases fails.
func TestChainOrder(t *testing.T) {
	t.Parallel()
	fast := config.Retry{MaxAttempts: 3, InitialDelay: 10 * time.Millisecond, MaxDelay: time.Second, Backoff: "fixed"}
	slow := config.Retry{MaxAttempts: 3, InitialDelay: time.Minute, MaxDelay: time.Hour, Backoff: "fixed"}
	tests := map[string]struct {
		action   attempts
		retry    config.Retry
		state    observer.State
		reason   observer.Reason
		attempts int
		stored   observer.DeliveryStats
	}{
		"each attempt has its own timeout":       {attempts{hang, succeed}, fast, observer.Done, "", 2, observer.DeliveryStats{}},
		"a panic is an attempt":                  {attempts{crash, crash, succeed}, fast, observer.Done, "", 3, observer.DeliveryStats{}},
		"what retry gives up is a dead letter":   {attempts{refuse}, fast, observer.Dead, observer.ReasonExhausted, 3, observer.DeliveryStats{Dead: 1}},
		"what is permanent is not tried again":   {attempts{refuse, gone}, fast, observer.Dead, observer.ReasonGone, 2, observer.DeliveryStats{Dead: 1}},
		"what waits long is scheduled, not dead": {attempts{refuse}, slow, observer.Scheduled, "", 1, observer.DeliveryStats{Scheduled: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				store := memorystore.New(memorystore.Config{})
				l := &layers{
					store: store, wake: func() {}, fallback: time.Second, logger: slog.New(slog.DiscardHandler),
					observe: middleware.Observer{Logger: slog.New(slog.NewTextHandler(&out, nil)), Counters: &middleware.Counters{}},
				}
				d := observer.NewDelivery(&observer.Event{ID: "e", Operation: observer.Insert}, "o", 0, "test")
				run := l.chain(config.Observer{Name: "o", OnFailure: "dlq", Retry: tt.retry}, config.Action{Type: "test"}, inlineBudget, l.keep)(tt.action)
				if _, err := run.Execute(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				if d.State != tt.state || d.Reason != tt.reason || len(d.Attempts) != tt.attempts {
					t.Errorf("%s (%s) after %d attempts, want %s (%s) after %d", d.State, d.Reason, len(d.Attempts), tt.state, tt.reason, tt.attempts)
				}
				stats, err := store.DeliveryStats(t.Context())
				if err != nil || stats.Dead != tt.stored.Dead || stats.Scheduled != tt.stored.Scheduled {
					t.Errorf("stored %+v (%v), want %+v", stats, err, tt.stored)
				}
				if d := cmp.Diff(1, strings.Count(out.String(), "\n")); d != "" || !strings.Contains(out.String(), "state="+string(tt.state)) {
					t.Errorf("log: %s", out.String())
				}
			})
		})
	}
}
