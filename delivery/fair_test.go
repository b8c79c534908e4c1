package delivery_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

// One endpoint has thousands waiting, each of which takes a second. What is for
// 19 others does not wait for any of that.
func TestOneEndpointWithThousandsWaitingKeepsNobodyElseWaiting(t *testing.T) {
	t.Parallel()
	for name, long := range map[string]time.Duration{"slow": time.Second, "hanging": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, began := newStore(), time.Now()
				late := map[string]time.Duration{}
				r := newRan(func(ctx context.Context, d *observer.Delivery) error {
					if d.Endpoint == "big" {
						return takes(long)(ctx, d)
					}
					return takes(10*time.Millisecond)(ctx, d)
				})
				put(t, store, many(2000, "big")...)
				w, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Concurrency: 40, Lease: 2 * time.Hour})
				synctest.Wait()
				for round := range 10 {
					<-time.After(time.Until(began.Add(time.Duration(round)*time.Second + 300*time.Millisecond)))
					for i := range 19 {
						put(t, store, made(fmt.Sprint(round, "-", i), observer.Queued, to(fmt.Sprint("small", i))))
					}
					w.Wake()
				}
				<-time.After(500 * time.Millisecond)
				stop()
				for i := range 19 {
					name := fmt.Sprint("small", i)
					for round, at := range r.timesOf(name) {
						late[name] = max(late[name], at-time.Duration(round)*time.Second-300*time.Millisecond)
					}
					if len(r.timesOf(name)) != 10 || late[name] > 20*time.Millisecond {
						t.Errorf("%s ran %d times of 10 and waited up to %s", name, len(r.timesOf(name)), late[name])
					}
				}
				if n := r.atOnce("big"); n != 30 {
					t.Errorf("the big endpoint had %d places of 40, want 30", n)
				}
			})
		})
	}
}

func TestShareOfAnEndpoint(t *testing.T) {
	t.Parallel()
	for places, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3, 5: 3, 8: 6, 50: 37} {
		t.Run(strconv.Itoa(places), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, r := newStore(), newRan(takes(time.Second))
				put(t, store, many(2*places, "e")...)
				_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Concurrency: places})
				<-time.After(500 * time.Millisecond)
				if n := r.atOnce("all"); n != want {
					t.Errorf("%d of %d places, want %d", n, places, want)
				}
				<-time.After(10 * time.Second)
				stop()
				if n := len(r.all()); n != 2*places || r.atOnce("all") != want {
					t.Errorf("%d ran, up to %d at once", n, r.atOnce("all"))
				}
			})
		})
	}
}

// A limit holds for the whole queue, whatever its endpoints are.
func TestQueueLimits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := newStore(), newRan(takes(time.Second))
		for i := range 5 {
			endpoint := fmt.Sprint("e", i)
			put(t, store, many(4, endpoint+"-reports", in("reports"), to(endpoint))...)
			put(t, store, many(4, endpoint+"-mails", in("mails"), to(endpoint))...)
			put(t, store, many(4, endpoint+"-others", in("others"), to(endpoint))...)
		}
		_, stop := begin(t, delivery.WorkerConfig{
			Store: store, Run: r.run, Concurrency: 30, Queues: map[string]int{"reports": 2, "mails": 3, "others": 0},
		})
		<-time.After(10500 * time.Millisecond)
		stop()
		got := map[string]int{}
		for _, queue := range []string{"reports", "mails", "others"} {
			got[queue] = r.atOnce("queue " + queue)
		}
		if d := cmp.Diff(map[string]int{"reports": 2, "mails": 3, "others": 20}, got); d != "" {
			t.Errorf("at once (-want +got):\n%s", d)
		}
		if d := cmp.Diff(map[observer.State]int{observer.Done: 60}, states(t, store)); d != "" {
			t.Errorf("after 10 s, which 20 reports take two at a time:\n%s", d)
		}
	})
}

// With one place the queues take turns.
func TestQueuesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := newStore(), newRan(takes(time.Second))
		for _, queue := range []string{"", "a", "b"} {
			put(t, store, many(10, "e"+queue, in(queue))...)
		}
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Concurrency: 1, Queues: map[string]int{"a": 1, "b": 1}})
		<-time.After(8500 * time.Millisecond)
		stop()
		if a, b, c := len(r.timesOf("e")), len(r.timesOf("ea")), len(r.timesOf("eb")); a != 3 || b != 3 || c != 3 {
			t.Errorf("of nine they had %d, %d and %d", a, b, c)
		}
	})
}

// An endpoint in several queues has no larger share, though the store bounds
// each queue of it alone.
func TestShareHoldsOverQueues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := newStore(), newRan(takes(time.Minute))
		for _, queue := range []string{"", "x", "y"} {
			put(t, store, many(10, "e"+queue, in(queue), to("e"))...)
		}
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Concurrency: 8, DrainTimeout: time.Hour})
		<-time.After(30 * time.Second)
		if n := r.atOnce("all"); n != 6 {
			t.Errorf("%d at once, want 6", n)
		}
		stop()
		for _, d := range everything(t, store) {
			if d.State == observer.Queued && (d.Lost != 0 || len(d.Attempts) != 0) {
				t.Errorf("what was given back counts as tried: %+v", d)
			}
		}
	})
}

func everything(t *testing.T, store observer.DeliveryStore) []*observer.Delivery {
	t.Helper()
	ds, err := store.Deliveries(t.Context(), observer.DeliveryFilter{})
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// A strict lane leaves one by one, each as soon as the one before it is done,
// and what failed is waited for.
func TestStrictLaneLeavesInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		r := newRan(func(ctx context.Context, d *observer.Delivery) error {
			if d.Event.ID == "e-1" && len(d.Attempts) == 0 {
				d.Attempts = append(d.Attempts, observer.Attempt{Number: 1})
				d.Retry(context.DeadlineExceeded, time.Now().Add(10*time.Second))
				return nil
			}
			return takes(100*time.Millisecond)(ctx, d)
		})
		put(t, store, many(4, "e", strict)...)
		_, stop := work(t, store, r)
		<-time.After(20 * time.Second)
		stop()
		want := []string{"e-0 at 0s", "e-1 at 10.1s", "e-1 at 100ms", "e-2 at 10.2s", "e-3 at 10.3s"}
		if d := cmp.Diff(want, r.all()); d != "" {
			t.Error(d)
		}
	})
}

func TestPriorityGoesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := newStore(), newRan(takes(time.Second))
		for i, priority := range []int{4, 0, 1, 3} {
			put(t, store, made(fmt.Sprint("p", priority), observer.Queued, func(d *observer.Delivery) {
				d.Priority, d.RunAt = priority, time.Now().Add(-time.Duration(10-i)*time.Minute)
			}))
		}
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Concurrency: 1})
		<-time.After(10 * time.Second)
		stop()
		if want := []string{"p0 at 1s", "p1 at 0s", "p3 at 2s", "p4 at 3s"}; !slices.Equal(r.all(), want) {
			t.Errorf("ran %v, want %v", r.all(), want)
		}
	})
}
