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

func drawn(t *rapid.T) (p backoff.Policy, failures int) {
	p = backoff.Policy{
		Kind:    rapid.SampledFrom([]backoff.Kind{backoff.Exponential, backoff.Linear, backoff.Fixed}).Draw(t, "kind"),
		Initial: time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "initial")),
		Max:     time.Duration(rapid.Int64Range(0, int64(48*time.Hour)).Draw(t, "max")),
	}
	return p, rapid.IntRange(1, 1<<40).Draw(t, "failures")
}

func TestDelayStaysBetweenHalfAndAllOfItsCeiling(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, failures := drawn(t)
		ceiling, delay := p.Ceiling(failures), p.Delay(failures)
		if ceiling <= 0 || delay < ceiling/2 || delay > ceiling {
			t.Fatalf("delay %s of ceiling %s", delay, ceiling)
		}
	})
}

func TestRetryStaysWithinItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, failures := drawn(t)
		ceiling, wait := p.Ceiling(failures), p.Retry(failures)
		least, most := time.Duration(0), ceiling
		if p.Kind == backoff.Fixed {
			least, most = ceiling, ceiling+ceiling/5
		}
		if p.Max > 0 {
			most = min(most, p.Max)
		}
		if wait < least || wait > most {
			t.Fatalf("%s wait %s of ceiling %s", p.Kind, wait, ceiling)
		}
	})
}

// Each tenth of the range is drawn about as often as the others: with 20,000
// draws, a tenth that got 1,700 or 2,300 is seven standard deviations away.
func TestDrawsAreUniform(t *testing.T) {
	t.Parallel()
	const draws = 20_000
	for name, tt := range map[string]struct {
		wait           func() time.Duration
		least, longest time.Duration
	}{
		"exponential": {func() time.Duration { return backoff.Policy{Initial: time.Second, Max: time.Hour}.Retry(3) }, 0, 4 * time.Second},
		"linear": {
			func() time.Duration {
				return backoff.Policy{Kind: backoff.Linear, Initial: time.Second, Max: time.Hour}.Retry(3)
			}, 0, 3 * time.Second,
		},
		"fixed": {
			func() time.Duration {
				return backoff.Policy{Kind: backoff.Fixed, Initial: time.Second, Max: time.Hour}.Retry(3)
			}, time.Second, 1200 * time.Millisecond,
		},
		"written down": {func() time.Duration { return backoff.AtLeast(5 * time.Minute) }, 5 * time.Minute, 6 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tenths [10]int
			for range draws {
				wait := tt.wait()
				if wait < tt.least || wait > tt.longest {
					t.Fatalf("%s is not between %s and %s", wait, tt.least, tt.longest)
				}
				tenths[min(9, 10*(wait-tt.least)/(tt.longest-tt.least))]++
			}
			for _, n := range tenths {
				if n < 1700 || n > 2300 {
					t.Fatalf("draws by tenth of the range: %v", tenths)
				}
			}
		})
	}
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
