package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/topology"
	"github.com/fraiseql/observer/transport/nats"
)

const (
	// actionTime is how long a receiver takes, and workerPlaces how many events a
	// worker handles at a time: so many that three of them do not need all of a
	// machine, because time is what they are to spend.
	actionTime   = 20 * time.Millisecond
	workerPlaces = 6
	// measured is how long a side is measured.
	measured = 4 * time.Second
)

// BenchmarkThreeWorkersAgainstOne has one worker and then three handle the events
// of a stream, each with an action that takes 20 ms, while more events wait than
// they can handle. The workers are topologies of this process that share a state on
// PostgreSQL, as processes would. One operation is a round of both.
func BenchmarkThreeWorkersAgainstOne(b *testing.B) {
	s := newWorkerSite(b)
	var one, three, ratios []float64
	for round := 0; b.Loop(); round++ {
		s.publish(b, round)
		one = append(one, s.rate(b, 1))
		three = append(three, s.rate(b, 3))
		ratios = append(ratios, three[round]/one[round])
	}
	report(b, "one/s", one)
	report(b, "three/s", three)
	report(b, "ratio", ratios)
}

// workerSite is what workers share.
type workerSite struct {
	cfg       *config.Config
	publisher *nats.Publisher
	handled   atomic.Int64
}

func newWorkerSite(b *testing.B) *workerSite {
	b.Helper()
	s := &workerSite{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-time.After(actionTime)
		s.handled.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	b.Cleanup(server.Close)
	url := testenv.PrivateNATS(b, testenv.NATSOptions{}).URL()
	var err error
	s.cfg, err = config.Parse("workers.toml", fmt.Appendf(nil, `
[state]
url = %q
[network]
allow = ["127.0.0.0/8"]
[performance]
max_concurrency = %d
[transport]
transport = "nats"
run_bridge = false
[transport.nats]
url = %q
partitions = 12
[[observers]]
name = "slow"
entity = "Order"
[[observers.actions]]
type = "webhook"
url = %q
`, testenv.Database(b), workerPlaces, url, server.URL), func(string) (string, bool) { return "", false })
	if err != nil {
		b.Fatal(err)
	}
	conn, err := nats.Connect(b.Context(), nats.Config{URL: observer.NewSecret(url), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	n := s.cfg.Transport.NATS
	stream, err := nats.NewStream(conn, nats.StreamConfig{
		Name: n.StreamName, SubjectPrefix: n.SubjectPrefix, Partitions: n.Partitions, DedupWindow: n.JetStream.DedupWindow,
		MaxAge: n.JetStream.MaxAge, MaxMsgs: n.JetStream.MaxMsgs, MaxBytes: n.JetStream.MaxBytes, Replicas: n.JetStream.Replicas,
	})
	if err == nil {
		err = stream.Ensure(b.Context())
	}
	if err == nil {
		s.publisher, err = nats.NewPublisher(stream, nats.PublisherConfig{
			Database:  "shop",
			Oversized: func(_ context.Context, _ *observer.Event, why error) error { return why },
		})
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// publish adds more events than both sides can handle.
func (s *workerSite) publish(b *testing.B, round int) {
	b.Helper()
	const n = 4 * 3 * workerPlaces * int(measured/actionTime)
	events := make([]*observer.Event, n)
	for i := range events {
		id := strconv.Itoa(round*n + i)
		events[i] = &observer.Event{
			ID: id, Operation: observer.Insert, EntityType: "Order", EntityID: strconv.Itoa(i % 1000), Timestamp: time.Now(),
			Data: []byte(`{"id":` + id + `,"status":"new"}`),
		}
	}
	if err := s.publisher.HandleBatch(b.Context(), events); err != nil {
		b.Fatal(err)
	}
}

// rate is how many events so many workers handle in a second.
func (s *workerSite) rate(b *testing.B, workers int) float64 {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var store observer.StateStore
	for range workers {
		built, err := topology.Build(b.Context(), s.cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		store = built.Store
		running.Go(func() {
			var parts sync.WaitGroup
			parts.Go(func() { _ = built.Worker.Run(ctx) })
			if err := built.Run(ctx); err != nil {
				b.Error(err)
			}
			parts.Wait()
			_ = built.Close()
		})
	}
	s.shared(b, store, workers)
	before, began := s.handled.Load(), time.Now()
	<-time.After(measured)
	return float64(s.handled.Load()-before) / time.Since(began).Seconds()
}

// shared waits until every worker has its share of the partitions, and handles
// events.
func (s *workerSite) shared(b *testing.B, store observer.StateStore, workers int) {
	b.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := s.handled.Load(); ; <-tick.C {
		leases, err := store.Leases(b.Context(), "")
		if err != nil {
			b.Fatal(err)
		}
		by := map[string]int{}
		for _, l := range leases {
			if _, partition := topology.LeasedPartition(l); partition && l.Running() {
				by[l.Holder]++
			}
		}
		even := len(by) == workers
		for _, n := range by {
			even = even && n == s.cfg.Transport.NATS.Partitions/workers
		}
		if even && s.handled.Load() > n+int64(10*workers*workerPlaces) {
			return
		}
		if err := b.Context().Err(); err != nil {
			b.Fatal(err)
		}
	}
}
