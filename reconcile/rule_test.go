package reconcile_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/reconcile"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// onRead is a store that does something after each time that receipts were read.
type onRead struct {
	*memorystore.Store
	then func()
}

func (s onRead) Receipts(ctx context.Context, group, database string, after int64, limit int) ([]observer.ReceiptBatch, error) {
	found, err := s.Store.Receipts(ctx, group, database, after, limit)
	s.then()
	return found, err
}

// Workers who finish between two questions of the verifier have handled it.
func TestPositionsAreReadBeforeReceipts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.change(func() { w.handles = 0 })
		cfg := w.config()
		start := time.Now()
		cfg.Receipts = onRead{w.store, func() {
			if time.Since(start) < 10*time.Minute {
				return
			}
			w.change(func() { w.handles = 1000; w.work(); w.handles = 0 })
		}}
		v, stop := w.verify(cfg)
		w.commit(100)
		<-time.After(20 * time.Minute)
		w.wantEnd(v, 0)
		stop(false)
	})
}

// A worker may hold for a while what it fetched from a stream that is no more.
func TestWhatWasFetchedGetsTimeToFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.change(func() { w.handles = 0 })
		v, stop := w.verify(w.config())
		w.commit(1)
		<-time.After(5 * time.Minute)
		w.change(func() { w.remake(0) })
		<-time.After(10 * time.Second)
		w.change(func() {
			w.handled[w.events[0].ID], w.lost = 1, map[string]int{}
			if err := w.store.SaveReceipts(t.Context(), group, map[string][]string{"shop": {w.events[0].ID}}); err != nil {
				t.Error(err)
			}
		})
		<-time.After(5 * time.Minute)
		w.wantEnd(v, 0)
		stop(false)
	})
}

// The same when the new stream goes further than the old one soon.
func TestWhatWasFetchedGetsTimeInALongNewLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.change(func() { w.handles = 0 })
		v, stop := w.verify(w.config())
		w.commit(1)
		<-time.After(5*time.Minute + tick/2) // between two looks at it
		w.change(func() { w.remake(0); w.handles = 100 })
		w.commit(100)
		<-time.After(10 * time.Second)
		w.change(func() {
			w.handled[w.events[0].ID], w.lost = 1, map[string]int{}
			if err := w.store.SaveReceipts(t.Context(), group, map[string][]string{"shop": {w.events[0].ID}}); err != nil {
				t.Error(err)
			}
		})
		<-time.After(5 * time.Minute)
		w.wantEnd(v, 0)
		stop(false)
	})
}

// Who lost the lease publishes nothing, and ends.
func TestInvariant5FencedVerifierPublishesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.change(func() { w.handles = 0 })
		w.commit(10)
		<-time.After(time.Second)
		w.change(func() { w.remake(0) })
		asked := 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		ctx = observer.WithFence(ctx, func(context.Context) error { asked++; return observer.ErrFenced })
		err := reconcile.New(w.config()).HandleBatch(ctx, w.events)
		if !errors.Is(err, observer.ErrFenced) || asked != 1 || len(w.again) > 0 || len(w.alerts) > 0 {
			t.Errorf("error %v after %d questions, published again %v, alerts %v, want none of it", err, asked, w.again, w.alerts)
		}
	})
}

// A verifier that waits stops at once.
func TestStopsWhileItWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.change(func() { w.handles = 0 })
		v, stop := w.verify(w.config())
		w.commit(10)
		<-time.After(time.Hour + time.Millisecond)
		since := time.Now()
		if s := v.Stats(); s.Waiting != 10 || since.Sub(s.Since) < time.Hour-time.Second || s.Verified != 0 {
			t.Errorf("got %+v, want 10 that have waited for an hour", s)
		}
		stop(false)
		if took := time.Since(since); took > 0 {
			t.Errorf("stopping took %s, want no time", took)
		}
		if err := reconcile.New(w.config()).HandleBatch(ended(t), w.events); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want that the context ended", err)
		}
	})
}

func ended(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// Receipts of what the log never shows stay for the retention, and no longer than
// events that were recorded later are verified.
func TestReceiptsOfOthersAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorldOf(t, time.Second)
		stray := func(ids ...string) {
			if err := w.store.SaveReceipts(t.Context(), group, map[string][]string{"shop": ids}); err != nil {
				t.Error(err)
			}
		}
		held := func(want int) {
			t.Helper()
			w.commit(1)
			<-time.After(time.Minute)
			w.commit(1) // with which the old ones are removed
			<-time.After(time.Minute)
			left, err := w.store.Receipts(t.Context(), group, "shop", 0, 100)
			if n := w.held; err != nil || n() != want || len(left) != want {
				t.Errorf("%d ids are held and %d batches stored (error %v), want %d", n(), len(left), err, want)
			}
		}
		cfg := w.config()
		cfg.Retention = time.Hour
		v, stop := w.verify(cfg)
		w.held = func() int { return v.Stats().Held }
		stray("a")
		<-time.After(50 * time.Minute)
		stray("b")
		held(2)
		<-time.After(15 * time.Minute)
		held(1)
		// Hours in which one event holds up the others make no receipt too old.
		w.change(func() { w.handles = 0 })
		w.commit(1)
		<-time.After(time.Minute)
		first := len(w.events) - 1
		w.commit(400)
		<-time.After(3 * time.Second)
		w.change(func() {
			for _, e := range w.events[first:] {
				w.handled[e.ID] = 1
				if e != w.events[first] {
					stray(e.ID)
				}
			}
		})
		<-time.After(2 * time.Hour)
		stray(w.events[first].ID)
		<-time.After(time.Hour)
		w.wantEnd(v, 0)
		stop(false)
	})
}

// Two ways in which an id may come twice.
func TestReceiptsMayComeTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.change(func() { w.handles = 0 })
		v, stop := w.verify(w.config())
		w.commit(2)
		a, b := w.events[0].ID, w.events[1].ID
		for _, ids := range [][]string{{a, a}, {a}, {a, "stray"}, {b, a}} {
			if err := w.store.SaveReceipts(t.Context(), group, map[string][]string{"shop": ids}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute)
		left, err := w.store.Receipts(t.Context(), group, "shop", 0, 100)
		if s := v.Stats(); err != nil || s.Verified != 2 || s.Held != 1 || len(left) != 1 || left[0].IDs[1] != "stray" {
			t.Errorf("got %+v and %v (error %v), want both verified and the stray one left", s, left, err)
		}
		stop(false)
	})
}

// Verifying takes no time when everything is there, however much that is.
func TestManyReceiptsAreReadAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.change(func() { w.publishes = 0 })
		w.commit(50_000)
		ids := make([]string, 0, len(w.events))
		for _, e := range w.events {
			ids = append(ids, e.ID)
		}
		for part := range slices.Chunk(ids, 23) {
			if err := w.store.SaveReceipts(t.Context(), group, map[string][]string{"shop": part}); err != nil {
				t.Fatal(err)
			}
		}
		v, start := reconcile.New(w.config()), time.Now()
		if err := v.HandleBatch(t.Context(), w.events); err != nil || time.Since(start) > 0 {
			t.Errorf("got error %v after %s", err, time.Since(start))
		}
		v.Saved(t.Context(), ids)
		w.wantNoReceipts(v)
		if err := v.Handle(ended(t), w.events[0]); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want that the context ended", err)
		}
	})
}

func TestBegin(t *testing.T) {
	t.Parallel()
	const name = "reconcile/shop"
	store := memorystore.New(memorystore.Config{})
	load := func() observer.Checkpoint {
		t.Helper()
		cp, err := store.LoadCheckpoint(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return cp
	}
	save := func(name, at string) {
		t.Helper()
		if err := store.SaveCheckpoint(t.Context(), name, observer.Checkpoint{Position: observer.Position(at), Done: []string{"x"}}); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(lease observer.Lease) error { return reconcile.Begin(t.Context(), store, name, "shop", lease) }
	if err := begin(observer.Lease{Name: "database/shop", Term: 7}); !errors.Is(err, observer.ErrFenced) {
		t.Errorf("got error %v under a lease that nobody has, want ErrFenced", err)
	}
	if err := begin(observer.Lease{}); err != nil || load().Position != "" {
		t.Errorf("got error %v and %+v, want the beginning", err, load())
	}
	save("shop", "17")
	if err := begin(observer.Lease{}); err != nil || load().Position != "" {
		t.Errorf("got error %v and %+v, want the beginning still", err, load())
	}
	store = memorystore.New(memorystore.Config{})
	save("shop", "17")
	l, err := store.AcquireLease(t.Context(), "database/shop", "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := begin(l); err != nil || load().Position != "17" || len(load().Done) != 1 {
		t.Errorf("got error %v and %+v, want where the bridge is", err, load())
	}
}
