package batch_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer/internal/batch"
)

// recorder answers each number with its double after a second.
type recorder struct {
	mu      sync.Mutex
	batches [][]int
	err     error
}

func (r *recorder) run(ctx context.Context, numbers []int) ([]int, error) {
	r.mu.Lock()
	r.batches = append(r.batches, slices.Sorted(slices.Values(numbers)))
	r.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Second):
	}
	doubles := make([]int, len(numbers))
	for i, n := range numbers {
		doubles[i] = 2 * n
	}
	return doubles, r.err
}

// askAll asks for all numbers, one every millisecond, and gives the answers.
func askAll(t *testing.T, b *batch.Batcher[int, int], numbers ...int) []int {
	t.Helper()
	answers := make([]int, len(numbers))
	var asking sync.WaitGroup
	for i, n := range numbers {
		asking.Go(func() {
			answer, err := b.Do(t.Context(), n)
			if err != nil {
				t.Errorf("%d: %v", n, err)
			}
			answers[i] = answer
		})
		<-time.After(time.Millisecond)
	}
	asking.Wait()
	return answers
}

func TestCallsShareTheNextTrip(t *testing.T) {
	t.Parallel()
	mod := func(n int) string { return string(rune('a' + n%10)) }
	for name, tt := range map[string]struct {
		cfg  batch.Config[int, int]
		want [][]int
	}{
		"together": {batch.Config[int, int]{Size: 10, AtOnce: 1}, [][]int{{1}, {2, 3, 11, 21}}},
		"bounded":  {batch.Config[int, int]{Size: 3, AtOnce: 1}, [][]int{{1}, {2, 3, 11}, {21}}},
		"at once":  {batch.Config[int, int]{Size: 10, AtOnce: 2}, [][]int{{1}, {2}, {3, 11, 21}}},
		"apart":    {batch.Config[int, int]{Size: 10, AtOnce: 1, Key: mod}, [][]int{{1}, {2, 3, 11}, {21}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{}
			tt.cfg.Run, tt.cfg.Timeout = r.run, time.Minute
			answers := askAll(t, batch.New(tt.cfg), 1, 2, 3, 11, 21)
			if d := cmp.Diff([]int{2, 4, 6, 22, 42}, answers); d != "" {
				t.Errorf("%s: answers (-want +got):\n%s", name, d)
			}
			if d := cmp.Diff(tt.want, r.batches); d != "" {
				t.Errorf("%s: batches (-want +got):\n%s", name, d)
			}
		})
	}
}

func TestWhatEndsACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		b := batch.New(batch.Config[int, int]{Run: (&recorder{err: broken}).run, Size: 1, AtOnce: 1, Timeout: time.Minute})
		if _, err := b.Do(t.Context(), 1); !errors.Is(err, broken) {
			t.Errorf("got error %v, want that of the batch", err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.Do(short, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want the end of the caller's patience", err)
		}
		slow := batch.New(batch.Config[int, int]{Run: (&recorder{}).run, Size: 1, AtOnce: 1, Timeout: time.Millisecond})
		if _, err := slow.Do(t.Context(), 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want the end of the batch's time", err)
		}
		if _, err := b.Do(short, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want that of the context", err)
		}
		<-time.After(time.Minute) // what nobody waited for ends, too
	})
}
