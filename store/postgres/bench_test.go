package postgres_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
	"github.com/fraiseql/observer/store/storetest"
)

// BenchmarkStore runs against a server that writes through to the disk.
func BenchmarkStore(b *testing.B) {
	server := testenv.PrivatePostgres(b, testenv.Options{Durable: true})
	for _, mode := range []string{"cache_describe", "cache_statement"} {
		b.Run(mode, func(b *testing.B) {
			url := server.Database(b) + "&default_query_exec_mode=" + mode
			storetest.Bench(b, func(b *testing.B) observer.StateStore {
				b.Helper()
				return open(b, postgres.Config{URL: observer.NewSecret(url), Schema: rand.Text()})
			})
		})
	}
}

// BenchmarkWorker claims and finishes deliveries that do nothing, with 100
// places as a worker has them, and BenchmarkEnqueue stores them.
func BenchmarkWorker(b *testing.B) {
	server := testenv.PrivatePostgres(b, testenv.Options{Durable: true})
	for _, mode := range []string{"cache_describe", "cache_statement"} {
		b.Run(mode, func(b *testing.B) {
			s := opened(b, postgres.Config{URL: observer.NewSecret(server.Database(b) + "&default_query_exec_mode=" + mode)})
			enqueue(b, s, b.N)
			b.ResetTimer()
			work(b, s, 100, b.N)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

func BenchmarkEnqueue(b *testing.B) {
	server := testenv.PrivatePostgres(b, testenv.Options{Durable: true})
	for _, batch := range []int{1, 10, 1000} {
		for _, callers := range []int{1, 16, 100} {
			b.Run(fmt.Sprintf("%d by %d callers", batch, callers), func(b *testing.B) {
				s := opened(b, config(server.Database(b)))
				var next, stored atomic.Int64
				b.ResetTimer()
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for {
							n := int(next.Add(int64(batch))) - batch
							if n >= b.N {
								return
							}
							if _, err := s.InsertDeliveries(b.Context(), jobs(n, batch)...); err != nil {
								b.Error(err)
								return
							}
							stored.Add(int64(batch))
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(stored.Load())/b.Elapsed().Seconds(), "jobs/s")
			})
		}
	}
}

func jobs(from, n int) []*observer.Delivery {
	ds := make([]*observer.Delivery, n)
	for i := range ds {
		d := observer.NewDelivery(&observer.Event{
			ID: fmt.Sprintf("0190b5a4-0000-7000-8000-%012d", from+i), Operation: observer.Insert, EntityType: "Order", EntityID: strconv.Itoa(from + i),
			Data: json.RawMessage(`{"id": 1, "status": "paid", "total": 100.00, "customer": "somebody"}`), Timestamp: time.Now(),
		}, "notify", 0, "webhook")
		d.Request, d.Endpoint = json.RawMessage(`{"method":"POST","url":"https://example.com/hook","body":"{}"}`), "https://example.com"
		d.Enqueue(time.Now())
		ds[i] = d
	}
	return ds
}

func enqueue(b *testing.B, s *postgres.Store, n int) {
	b.Helper()
	for from := 0; from < n; from += 1000 {
		insert(b, s, jobs(from, min(1000, n-from))...)
	}
}

// work runs n deliveries.
func work(b *testing.B, s *postgres.Store, places, n int) {
	b.Helper()
	free := make(chan struct{}, places)
	var wg sync.WaitGroup
	for done := 0; done < n; {
		free <- struct{}{} // wait for a place, then take what is free
		room := 1
		for len(free) < places {
			free <- struct{}{}
			room++
		}
		owner := rand.Text()
		ds, err := s.ClaimDue(b.Context(), observer.Claim{Owner: owner, Lease: lease, Limit: room})
		if err != nil {
			b.Fatal(err)
		}
		for range room - len(ds) {
			<-free
		}
		done += len(ds)
		for _, d := range ds {
			wg.Go(func() {
				defer func() { <-free }()
				d.Attempts = append(d.Attempts, observer.Attempt{Number: 1, At: time.Now(), Status: 200})
				d.Succeed()
				if err := s.UpdateDelivery(b.Context(), d, owner); err != nil {
					b.Error(err)
				}
			})
		}
	}
	wg.Wait()
}
