package backoff_test

import (
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fraiseql/observer/internal/backoff"
)

func TestCeilings(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	tests := map[string]struct {
		policy backoff.Policy
		want   []time.Duration
	}{
		"default":     {backoff.Policy{}, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms}},
		"exponential": {backoff.Policy{Kind: backoff.Exponential, Initial: time.Second, Max: 5 * time.Second}, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second}},
		"linear":      {backoff.Policy{Kind: backoff.Linear, Initial: time.Second, Max: 3 * time.Second}, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}},
		"fixed":       {backoff.Policy{Kind: backoff.Fixed, Initial: time.Second}, []time.Duration{time.Second, time.Second, time.Second}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, want := range tt.want {
				if got := tt.policy.Ceiling(i + 1); got != want {
					t.Errorf("after %d failures: %s, want %s", i+1, got, want)
				}
			}
		})
	}
}

func TestDelayStaysBetweenHalfAndAllOfItsCeiling(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := backoff.Policy{
			Kind:    rapid.SampledFrom([]backoff.Kind{backoff.Exponential, backoff.Linear, backoff.Fixed}).Draw(t, "kind"),
			Initial: time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "initial")),
			Max:     time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "max")),
		}
		failures := rapid.IntRange(1, 1<<40).Draw(t, "failures")
		ceiling, delay := p.Ceiling(failures), p.Delay(failures)
		if ceiling <= 0 || delay < ceiling/2 || delay > ceiling {
			t.Fatalf("delay %s of ceiling %s", delay, ceiling)
		}
	})
}

func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !backoff.Wait(t.Context(), nil, time.Minute) || time.Since(began) != time.Minute {
			t.Errorf("waited %s", time.Since(began))
		}
		stop := make(chan struct{})
		close(stop)
		if backoff.Wait(t.Context(), stop, time.Minute) || time.Since(began) != time.Minute {
			t.Error("waited although it was told to stop")
		}
	})
}
