package middleware_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/store/memory"
)

func under(ctx context.Context, name string, term int64) context.Context {
	return observer.WithLease(ctx, observer.Lease{Name: name, Term: term})
}

// dies claims a delivery as the first pass of a reader does that is killed then.
func dies(ctx context.Context, t *testing.T, store observer.DedupStore) {
	t.Helper()
	run := dedupOver(keeping{store}, "dead", &middleware.Counters{}).Middleware()(&firstPass{errors: []error{errors.New("killed")}})
	if _, err := run.Execute(ctx, ofTenant("", "e")); err == nil {
		t.Fatal("it was not killed")
	}
}

// keeping is a store that releases nothing.
type keeping struct{ observer.DedupStore }

func (keeping) ReleaseDedup(context.Context, observer.DedupClaim) error { return nil }

// Whoever has taken the lease of a reader does not wait for what that one had
// claimed; everybody else does.
func TestClaimsEndWithTheLeaseOfTheirReader(t *testing.T) {
	t.Parallel()
	const shop = "database/shop"
	for name, test := range map[string]struct {
		dead, next func(context.Context) context.Context
		atOnce     bool
	}{
		"a later term":  {leased(shop, 7), leased(shop, 8), true},
		"many later":    {leased(shop, 9), leased(shop, 1_000_000), true},
		"the same term": {leased(shop, 8), leased(shop, 8), false},
		// It is the one that asks who has lost the lease.
		"an earlier term":   {leased(shop, 8), leased(shop, 7), false},
		"another lease":     {leased(shop, 7), leased("database/shop2", 8), false},
		"no lease before":   {leased("", 0), leased(shop, 8), false},
		"none, and no name": {leased("", 0), leased("", 8), false},
		"no lease now":      {leased(shop, 7), leased("", 0), false},
		"an odd name":       {leased("a#1@2:b", 7), leased("a#1@2:b", 8), true},
		"nearly that name":  {leased("a#1@2:b", 7), leased("a#1", 8), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, p, counters := memory.New(memory.Config{}), &firstPass{}, &middleware.Counters{}
				dies(test.dead(t.Context()), t, store)
				began := time.Now()
				run := dedupOver(store, "next", counters).Middleware()(p)
				if _, err := run.Execute(test.next(t.Context()), ofTenant("", "e")); err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				if atOnce := took == 0; atOnce != test.atOnce || !atOnce && took < 30*time.Second {
					t.Errorf("it waited for %s", took)
				}
				if len(p.keys) != 1 || counters.Read().DedupDetected != 1 {
					t.Errorf("handled %d times, %d were detected", len(p.keys), counters.Read().DedupDetected)
				}
			})
		})
	}
}

func leased(name string, term int64) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context { return under(ctx, name, term) }
}

// A reader that has lost its lease in the middle of an attempt neither takes the
// delivery back nor releases it, and what it has handled is handled.
func TestSupersededReaderTakesNothingBack(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]bool{"fails": true, "succeeds": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := memory.New(memory.Config{})
				old, next := &firstPass{takes: time.Minute}, &firstPass{takes: 5 * time.Minute}
				if fails {
					old.errors = []error{observer.ErrFenced}
				}
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					run := dedupOver(store, "old", &middleware.Counters{}).Middleware()(old)
					if _, err := run.Execute(leased("l", 7)(t.Context()), ofTenant("", "e")); fails != (err != nil) {
						t.Error(err)
					}
				}()
				<-time.After(time.Second)
				for _, who := range []string{"next", "again"} {
					go func() {
						_, _ = dedupOver(store, who, &middleware.Counters{}).Middleware()(next).Execute(leased("l", 8)(t.Context()), ofTenant("", "e"))
					}()
					synctest.Wait()
				}
				<-ended
				synctest.Wait()
				answer, err := store.ClaimDedup(t.Context(), observer.DedupClaim{Key: "0:/e/notify/0", Owner: "third"}, time.Second)
				want := observer.DedupDone
				if fails {
					want = observer.DedupBusy
				}
				if err != nil || answer.Standing != want {
					t.Errorf("it is %s, want %s (%v)", answer.Standing, want, err)
				}
				<-time.After(time.Hour)
				if len(old.keys) != 1 || len(next.keys) != 1 {
					t.Errorf("handled %d and %d times, want once each", len(old.keys), len(next.keys))
				}
			})
		})
	}
}

// A store that is away when the claim of the dead one is to be released is waited
// for.
func TestSupersededClaimIsReleasedWhenTheStoreIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, p := memory.New(memory.Config{}), &firstPass{}
		dies(leased("l", 7)(t.Context()), t, store)
		refusing := &refusing{DedupStore: store, left: 2}
		began := time.Now()
		run := dedupOver(refusing, "next", &middleware.Counters{}).Middleware()(p)
		if _, err := run.Execute(leased("l", 8)(t.Context()), ofTenant("", "e")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); len(p.keys) != 1 || refusing.left != 0 || took > 20*time.Second {
			t.Errorf("handled %d times after %s", len(p.keys), took)
		}
	})
}

// refusing is a store that fails to release a few times.
type refusing struct {
	observer.DedupStore

	left int
}

func (r *refusing) ReleaseDedup(ctx context.Context, c observer.DedupClaim) error {
	if r.left > 0 {
		r.left--
		return errStoreAway
	}
	return r.DedupStore.ReleaseDedup(ctx, c)
}
