package lease_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer/lease"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// Members may list different names, as bridges of different databases on one state
// do. What only one of them lists is above its share, and run all the same.
func TestNamesThatOnlySomeMembersList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memorystore.New(memorystore.Config{})
		var mu sync.Mutex
		held, runs := map[string]bool{}, 0
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, names := range [][]string{{"shop"}, {"crm", "erp", "hr"}} {
			g := lease.New(lease.Config{
				Store: store, Holder: "h", Prefix: "database/", Names: func() []string { return names }, Logger: slog.New(slog.DiscardHandler),
			})
			all.Go(func() {
				_ = g.Run(ctx, func(ctx context.Context, name string, _ *lease.Held) error {
					mu.Lock()
					held[name] = true
					runs++
					mu.Unlock()
					<-ctx.Done()
					mu.Lock()
					defer mu.Unlock()
					delete(held, name)
					return nil
				})
			})
		}
		<-time.After(time.Hour)
		mu.Lock()
		if len(held) != 4 || runs > 8 {
			t.Errorf("after an hour these are run: %v, after %d runs; want all four, without a change all the time", held, runs)
		}
		mu.Unlock()
		stop()
		all.Wait()
	})
}
