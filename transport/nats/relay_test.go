package nats_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/relay"
	"github.com/fraiseql/observer/store/memory"
	"github.com/fraiseql/observer/transport/nats"
)

// TestRelayOverPartitions relays two partitions while they are published to, and
// restarts everything in the middle: the relays, and the server, by a kill.
func TestRelayOverPartitions(t *testing.T) {
	t.Parallel()
	const partitions, entities, each = 2, 10, 300
	server := testenv.PrivateNATS(t, testenv.NATSOptions{})
	b := newBench(t, server.URL(), partitions)
	store := memory.New(memory.Config{})
	h := &handled{byEntity: map[string][]string{}}

	published := make(chan error, 1)
	go func() { published <- b.publishAll(t.Context(), entities, each) }()
	for restart := 1; restart <= 4; restart++ {
		stop := h.relay(t, b, store, partitions)
		h.wait(t, restart*entities*each/6)
		if restart == 2 {
			server.Restart(t)
			h.wait(t, entities*each/2)
		}
		stop()
	}
	stop := h.relay(t, b, store, partitions)
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	h.waitDistinct(t, entities*each)
	stop()
	for e := range entities {
		entity := strconv.Itoa(e)
		var want []string
		for n := range each {
			want = append(want, eventID(e, n))
		}
		if diff := cmp.Diff(want, firsts(h.byEntity[entity])); diff != "" {
			t.Errorf("entity %s, each event where it came first (-want +got):\n%s", entity, diff)
		}
		if n := len(h.byEntity[entity]); n != each {
			t.Errorf("entity %s: %d events were handled, %d were published; every relay stopped in peace", entity, n, each)
		}
	}
}

// TestInvariant3PositionStaysBehindWhatIsNotHandled kills a worker, in that
// another one starts with the checkpoint that there was while the first had an
// event in its hands.
func TestInvariant3PositionStaysBehindWhatIsNotHandled(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	put := func(from, to int) {
		for n := from; n < to; n++ {
			e := event(n)
			e.EntityID = strconv.Itoa(n)
			b.put(t, e)
		}
	}
	first := memory.New(memory.Config{})
	release := make(chan struct{})
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	h := &handled{byEntity: map[string][]string{}}
	h.hold = func(e *observer.Event) {
		if e.ID == name(3) {
			<-release
		}
	}
	put(0, 3)
	stop := h.relay(t, b, first, 1)
	h.wait(t, 3)
	stop() // with a checkpoint that says so
	put(3, 10)
	stop = h.relay(t, b, first, 1)
	killed := memory.New(memory.Config{})
	const source = "nats/workers/events/0"
	// What the second worker has to handle: the event that is held, and those that
	// happen to wait for it in its lane.
	want := map[string][]string{}
	for deadline := time.Now().Add(patience); ; { // until the checkpoint has some of what was handled
		cp, err := first.LoadCheckpoint(t.Context(), source)
		if err == nil && len(cp.Done) > 0 {
			if err := killed.SaveCheckpoint(t.Context(), source, cp); err != nil {
				t.Fatal(err)
			}
			for n := 3; n < 10; n++ {
				if !slices.Contains(cp.Done, name(n)) {
					want[strconv.Itoa(n)] = []string{name(n)}
				}
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the checkpoint is %+v, %v", cp, err)
		}
	}
	second := &handled{byEntity: map[string][]string{}}
	stopSecond := second.relay(t, b, killed, 1)
	b.put(t, event(10))
	want["7"] = append(want["7"], name(10)) // whose entity that is
	second.waitDistinct(t, len(want)+len(want["7"])-1)
	stopSecond()
	free()
	stop()
	if diff := cmp.Diff(want, second.byEntity); diff != "" {
		t.Errorf("the second worker handled (-want +got):\n%s", diff)
	}
}

func eventID(entity, n int) string { return fmt.Sprintf("%08d-0000-4000-8000-%012d", entity, n) }

// publishAll publishes the events of entities in turn, each again until the
// server says that it has it.
func (b *bench) publishAll(ctx context.Context, entities, each int) error {
	for n := range each {
		for e := range entities {
			ev := event(n)
			ev.ID, ev.EntityID = eventID(e, n), strconv.Itoa(e)
			for deadline := time.Now().Add(patience); ; {
				try, cancel := context.WithTimeout(ctx, time.Second)
				err := b.publish(try, "shop", ev)
				cancel()
				if err == nil {
					break
				}
				if time.Now().After(deadline) || ctx.Err() != nil {
					return err
				}
			}
		}
	}
	return nil
}

// handled keeps what was handled, in its order.
type handled struct {
	mu       sync.Mutex
	all      int
	byEntity map[string][]string
	hold     func(*observer.Event) // before it is handled
}

func (h *handled) Handle(_ context.Context, e *observer.Event) error {
	if h.hold != nil {
		h.hold(e)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all++
	h.byEntity[e.EntityID] = append(h.byEntity[e.EntityID], e.ID)
	return nil
}

// relay runs a relay for each partition until stop is called.
func (h *handled) relay(t *testing.T, b *bench, store observer.CheckpointStore, partitions int, change ...func(*nats.SourceConfig)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for p := range partitions {
		r := relay.New(relay.Config{
			Source:  b.source(t, append(change, func(c *nats.SourceConfig) { c.Partition, c.BatchSize = p, 50 })...),
			Handler: h, Checkpoints: store,
			Malformed: func(_ context.Context, m *observer.Malformed) error { return fmt.Errorf("malformed: %s", m.Reason) },
			Logger:    slog.New(slog.DiscardHandler), Reopen: backoff.Policy{Initial: 10 * time.Millisecond, Max: 100 * time.Millisecond},
		})
		running.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Errorf("relay of partition %d: %v", p, err)
			}
		})
	}
	return func() { cancel(); running.Wait() }
}

func (h *handled) wait(t *testing.T, n int) {
	t.Helper()
	h.until(t, func() bool { return h.all >= n })
}

func (h *handled) waitDistinct(t *testing.T, n int) {
	t.Helper()
	h.until(t, func() bool {
		distinct := 0
		for _, ids := range h.byEntity {
			distinct += len(firsts(ids))
		}
		return distinct >= n
	})
}

func (h *handled) until(t *testing.T, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		h.mu.Lock()
		ok := reached()
		h.mu.Unlock()
		if ok {
			return
		}
	}
	t.Fatalf("after %s only %d events were handled", patience, h.all)
}

// firsts leaves of each id its first place.
func firsts(ids []string) []string {
	seen := map[string]bool{}
	var list []string
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			list = append(list, id)
		}
	}
	return list
}

// TestRelayOverACluster kills the three servers of a cluster one after the other
// while a partition is published to and relayed.
func TestRelayOverACluster(t *testing.T) {
	t.Parallel()
	const entities, each = 5, 200
	cluster := testenv.NATSCluster(t, 3, testenv.NATSOptions{})
	b := newBench(t, cluster.URL(), 1, func(c *nats.StreamConfig) { c.Replicas = 3 })
	seen := &breaks{}
	h := &handled{byEntity: map[string][]string{}}
	stop := h.relay(t, b, memory.New(memory.Config{}), 1, seen.into)
	published := make(chan error, 1)
	go func() { published <- b.publishAll(t.Context(), entities, each) }()
	for i, server := range cluster {
		h.wait(t, (i+1)*entities*each/5)
		server.Kill(t)
		h.wait(t, (i+1)*entities*each/5+entities*each/20)
		server.Restart(t)
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	h.waitDistinct(t, entities*each)
	stop()
	for e := range entities {
		var want []string
		for n := range each {
			want = append(want, eventID(e, n))
		}
		if diff := cmp.Diff(want, h.byEntity[strconv.Itoa(e)]); diff != "" {
			t.Errorf("entity %d (-want +got):\n%s", e, diff)
		}
	}
	seen.want(t)
}
