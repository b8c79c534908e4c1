package push

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
)

// issuer counts the tokens it gives out, each after a while.
type issuer struct {
	mu       sync.Mutex
	asked    int
	lifetime time.Duration
	err      error
}

func (i *issuer) fetch(ctx context.Context) (observer.Secret, time.Duration, error) {
	i.mu.Lock()
	i.asked++
	n, err := i.asked, i.err
	i.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return observer.Secret{}, 0, ctx.Err()
	}
	return observer.NewSecret(fmt.Sprintf("token-%d", n)), i.lifetime, err
}

func want(t *testing.T, tk *tokens, token string) {
	t.Helper()
	got, err := tk.get(t.Context())
	if err != nil || got.Reveal() != token {
		t.Errorf("got %q, %v; want %q", got.Reveal(), err, token)
	}
}

func TestTokensAreKeptUntilShortlyBeforeTheirEnd(t *testing.T) {
	t.Parallel()
	for lifetime, kept := range map[time.Duration]time.Duration{time.Hour: 59 * time.Minute, 40 * time.Second: 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			i := &issuer{lifetime: lifetime}
			tk := &tokens{fetch: i.fetch}
			asked := time.Now()
			want(t, tk, "token-1")
			<-time.After(time.Until(asked.Add(kept)) - time.Millisecond)
			want(t, tk, "token-1")
			<-time.After(time.Millisecond)
			want(t, tk, "token-2")
		})
	}
}

func TestManyWhoAskShareOneRequest(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{nil, errors.New("refused")} {
		synctest.Test(t, func(t *testing.T) {
			i := &issuer{lifetime: time.Hour, err: failure}
			tk := &tokens{fetch: i.fetch}
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if _, err := tk.get(t.Context()); !errors.Is(err, failure) {
						t.Errorf("%v, want %v", err, failure)
					}
				})
			}
			wg.Wait()
			if i.asked != 1 {
				t.Errorf("asked %d times with failure %v", i.asked, failure)
			}
		})
	}
}

// TestWhoGivesUpHoldsNobody: the end of one attempt is not the failure of others.
func TestWhoGivesUpHoldsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{lifetime: time.Hour}
		tk := &tokens{fetch: i.fetch}
		hasty, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := tk.get(hasty); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the hasty one got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, err := tk.get(hasty); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("one as hasty, who waits, got %v", err)
			}
		})
		wg.Go(func() { want(t, tk, "token-2") })
		wg.Wait()
	})
}

func TestOnlyTheTokenInStoreIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{lifetime: time.Hour}
		tk := &tokens{fetch: i.fetch}
		want(t, tk, "token-1")
		tk.drop(observer.NewSecret("token-0"))
		want(t, tk, "token-1")
		tk.drop(observer.NewSecret("token-1"))
		want(t, tk, "token-2")
		tk.drop(observer.NewSecret("token-1")) // told late by a slow request
		want(t, tk, "token-2")
	})
}
