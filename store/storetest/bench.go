package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

// Bench measures what the daemon does most: saving checkpoints, and a delivery
// from insertion over the claim to its end, by one caller and by 16.
func Bench(b *testing.B, open func(b *testing.B) observer.StateStore) {
	b.Helper()
	for _, bench := range []struct {
		name    string
		callers int
		run     func(*testing.B, observer.StateStore, int) error
	}{
		{"checkpoint/1 caller", 1, benchCheckpoint(0)},
		{"checkpoint/1 caller, 1000 done ids", 1, benchCheckpoint(1000)},
		{"checkpoint/16 callers", 16, benchCheckpoint(0)},
		{"insert a batch of 100/1 caller", 1, benchBatch},
		{"insert, claim and finish a batch of 100, 20 endpoints/1 caller", 1, benchQueue},
		{"insert, claim, finish/1 caller", 1, benchCycle},
		{"insert, claim, finish/16 callers", 16, benchCycle},
		{"claim due and reschedule, 10000 stored/1 caller", 1, benchDue},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := open(b)
			defer s.Close() //nolint:errcheck // the figures are taken
			if bench.callers == 1 {
				measure(b, func(n int) error { return bench.run(b, s, n) })
				return
			}
			measureParallel(b, bench.callers, func(n int) error { return bench.run(b, s, n) })
		})
	}
}

func measure(b *testing.B, f func(n int) error) {
	b.Helper()
	n := 0
	for b.Loop() {
		if err := f(n); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

func measureParallel(b *testing.B, callers int, f func(n int) error) {
	b.Helper()
	var next, failed atomic.Int64
	together(callers, func(int) {
		for {
			n := int(next.Add(1))
			if n > b.N || failed.Load() > 0 {
				return
			}
			if err := f(n); err != nil {
				failed.Add(1)
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

func benchCheckpoint(done int) func(*testing.B, observer.StateStore, int) error {
	cp := observer.Checkpoint{}
	for i := range done {
		cp.Done = append(cp.Done, fmt.Sprintf("0190b5a4-0000-7000-8000-%012d", i))
	}
	return func(b *testing.B, s observer.StateStore, n int) error {
		b.Helper()
		saved := cp
		saved.Position = position(n)
		return s.SaveCheckpoint(b.Context(), fmt.Sprint("source-", n%16), saved)
	}
}

func benchCycle(b *testing.B, s observer.StateStore, n int) error {
	b.Helper()
	d := scheduled(n, time.Time{})
	if _, err := s.InsertDeliveries(b.Context(), d); err != nil {
		return err
	}
	claimed, err := s.ClaimDelivery(b.Context(), d.Key, "a", lease)
	if err != nil {
		return err
	}
	claimed.Succeed()
	return s.UpdateDelivery(b.Context(), claimed, "a")
}

// batch is the nth hundred deliveries, for 20 endpoints.
func batch(n int) []*observer.Delivery {
	var ds []*observer.Delivery
	for i := range 100 {
		d := queued(100*n+i, time.Time{})
		d.Endpoint = fmt.Sprint("https://example.com/", i%20)
		ds = append(ds, d)
	}
	return ds
}

func benchBatch(b *testing.B, s observer.StateStore, n int) error {
	b.Helper()
	_, err := s.InsertDeliveries(b.Context(), batch(n)...)
	return err
}

func benchQueue(b *testing.B, s observer.StateStore, n int) error {
	b.Helper()
	if err := benchBatch(b, s, n); err != nil {
		return err
	}
	room := func(string, string) int { return 100 }
	ds, err := s.ClaimDue(b.Context(), observer.Claim{Owner: "a", Lease: lease, Limit: 100, Room: room})
	if err != nil || len(ds) != 100 {
		return fmt.Errorf("claimed %d, want 100: %w", len(ds), err)
	}
	errs := make([]error, len(ds))
	together(len(ds), func(i int) {
		ds[i].Succeed()
		errs[i] = s.UpdateDelivery(b.Context(), ds[i], "a")
	})
	return errors.Join(errs...)
}

func benchDue(b *testing.B, s observer.StateStore, n int) error {
	b.Helper()
	if n == 0 {
		b.StopTimer()
		var ds []*observer.Delivery
		for i := range 10_000 {
			ds = append(ds, scheduled(i, time.Unix(int64(i), 0)))
		}
		if _, err := s.InsertDeliveries(b.Context(), ds...); err != nil {
			return err
		}
		b.StartTimer()
	}
	ds, err := s.ClaimDue(b.Context(), observer.Claim{Owner: "a", Lease: lease, Limit: 1})
	if err != nil || len(ds) != 1 {
		return fmt.Errorf("claimed %d, want 1: %w", len(ds), err)
	}
	ds[0].Retry(errors.New("status 503"), time.Unix(int64(10_000+n), 0))
	return s.UpdateDelivery(b.Context(), ds[0], "a")
}
