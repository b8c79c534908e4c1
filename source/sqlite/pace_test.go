package sqlite

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A write is seen before its commit becomes visible. The looks after a wake-up
// cover a commit that takes up to a second, and then there is silence.
func TestPaceAfterAWakeUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pace{idle: time.Hour}
		wake := make(chan struct{}, 1)
		wake <- struct{}{}
		var waits []time.Duration
		for range 13 {
			began := time.Now()
			if err := p.wait(t.Context(), wake); err != nil {
				t.Fatal(err)
			}
			waits = append(waits, time.Since(began))
		}
		const ms = time.Millisecond
		want := []time.Duration{0, ms, 2 * ms, 4 * ms, 8 * ms, 16 * ms, 32 * ms, 64 * ms, 128 * ms, 256 * ms, 512 * ms, time.Hour, time.Hour}
		if diff := cmp.Diff(want, waits); diff != "" {
			t.Errorf("waits (-want +got):\n%s", diff)
		}
	})
}

// Under a stream of writes there is one look each millisecond, not one for each
// write.
func TestPaceUnderManyWakeUps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pace{idle: time.Hour}
		wake := make(chan struct{})
		close(wake)
		began, looks := time.Now(), 0
		for ; time.Since(began) < time.Second && looks < 10_000; looks++ {
			if err := p.wait(t.Context(), wake); err != nil {
				t.Fatal(err)
			}
		}
		// Every second wait is cut short by a wake-up, the one after it is not.
		if looks > 2001 {
			t.Errorf("%d looks in a second", looks)
		}
	})
}

func TestPaceHonoursContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, step := range []time.Duration{0, time.Hour} {
		p := pace{idle: time.Hour, step: step}
		if err := p.wait(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("wait with a context that ended: %v", err)
		}
	}
}
