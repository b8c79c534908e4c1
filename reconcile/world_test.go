package reconcile_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/reconcile"
	"github.com/fraiseql/observer/relay"
	"github.com/fraiseql/observer/source/memory"
	memorystore "github.com/fraiseql/observer/store/memory"
)

const (
	group = "workers"
	// tick is how often the bridge and the workers of most worlds do something.
	tick = 50 * time.Millisecond
)

// world is a change log, a bridge, a stream that loses messages, and workers. The
// stream and the workers are a script, everything else is what it is.
type world struct {
	t     *testing.T
	log   *memory.Log
	store *memorystore.Store

	mu        sync.Mutex
	committed []time.Time // by event
	events    []*observer.Event
	published int // by the bridge, of events
	life      int
	parts     []*part
	handled   map[string]int
	lost      map[string]int // how often each was taken away before it was handled
	again     map[string]int // how often each was published again
	alerts    []int

	// publishes and handles are how many events the bridge and each partition's
	// worker get done in a tick; 0 while they are away.
	publishes, handles int
	// storeAway and streamAway: nobody gets an answer.
	storeAway, streamAway bool
	// held is how many receipts the verifier holds.
	held func() int
	// dead: no checkpoint of the verifier is saved any more.
	dead bool
}

// part is a partition and what the group has handled of it.
type part struct {
	messages []message
	last     uint64 // the last number given
	at       uint64 // of the checkpoint
	atLife   int
}

type message struct {
	seq uint64
	id  string
}

var errAway = errors.New("nobody answers")

// newWorld is one in which everything works.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOf(t, tick)
}

func newWorldOf(t *testing.T, every time.Duration) *world {
	t.Helper()
	w := &world{
		t: t, log: memory.New("shop"), store: memorystore.New(memorystore.Config{}), life: 1,
		handled: map[string]int{}, lost: map[string]int{}, again: map[string]int{}, publishes: 1000, handles: 1000,
	}
	for range 4 {
		w.parts = append(w.parts, &part{atLife: 1})
	}
	go w.run(t.Context(), every)
	return w
}

// change does something at once.
func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// commit adds n events to the log.
func (w *world) commit(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range n {
		i := len(w.events)
		e := &observer.Event{
			ID: fmt.Sprintf("0190b5a4-0000-7000-8000-%012d", i), Operation: observer.Insert,
			EntityType: "Order", EntityID: strconv.Itoa(i), Timestamp: time.Now(),
		}
		w.events, w.committed = append(w.events, e), append(w.committed, time.Now())
	}
	w.log.Append(w.events[len(w.events)-n:]...)
}

func (w *world) run(ctx context.Context, every time.Duration) {
	for ctx.Err() == nil {
		w.change(func() {
			w.publish()
			w.work()
		})
		select {
		case <-time.After(every):
		case <-ctx.Done():
		}
	}
}

func (w *world) publish() {
	for n := 0; n < w.publishes && !w.streamAway && w.published < len(w.events); n++ {
		w.put(w.events[w.published].ID)
		w.published++
	}
}

func (w *world) put(id string) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	p := w.parts[int(h.Sum32())%len(w.parts)]
	p.last++
	p.messages = append(p.messages, message{p.last, id})
}

// work has the workers handle what they have not. Receipts come before checkpoints.
func (w *world) work() {
	if w.storeAway || w.streamAway {
		return
	}
	for _, p := range w.parts {
		if p.atLife != w.life {
			p.at, p.atLife = 0, w.life
		}
		next, _ := slices.BinarySearchFunc(p.messages, p.at+1, func(m message, seq uint64) int { return cmp.Compare(m.seq, seq) })
		var ids []string
		for _, m := range p.messages[next:min(next+w.handles, len(p.messages))] {
			ids, p.at = append(ids, m.id), m.seq
		}
		if len(ids) == 0 {
			continue
		}
		for _, id := range ids {
			w.handled[id]++
		}
		if err := w.store.SaveReceipts(context.WithoutCancel(w.t.Context()), group, map[string][]string{"shop": ids}); err != nil {
			w.t.Error(err)
		}
	}
}

// lose takes the messages away for which it is so, and counts those that nobody
// handled.
func (w *world) lose(which func(m message, handled bool) bool) (n int) {
	for _, p := range w.parts {
		p.messages = slices.DeleteFunc(p.messages, func(m message) bool {
			if !which(m, w.handled[m.id] > 0) {
				return false
			}
			if w.handled[m.id] == 0 {
				w.lost[m.id]++
				n++
			}
			return true
		})
	}
	return n
}

// remake deletes the stream, but for what an older copy has of it: the messages
// that have a number up to keep.
func (w *world) remake(keep uint64) (lost int) {
	lost = w.lose(func(m message, _ bool) bool { return m.seq > keep })
	w.life++
	for _, p := range w.parts {
		p.last = min(p.last, keep)
	}
	return lost
}

func (w *world) progress(context.Context) (reconcile.Progress, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.streamAway || w.storeAway {
		return reconcile.Progress{}, errAway
	}
	at := reconcile.Progress{Life: strconv.Itoa(w.life)}
	for _, p := range w.parts {
		var here reconcile.Partition
		if n := len(p.messages); n > 0 {
			here.Last = p.messages[n-1].seq
		}
		if p.atLife == w.life {
			here.Handled = p.at
		}
		at.Partitions = append(at.Partitions, here)
	}
	return at, nil
}

func (w *world) allPublished(t time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.publishes > 0 && !w.streamAway && (w.published == len(w.events) || w.committed[w.published].After(t))
}

func (w *world) republish(_ context.Context, events []*observer.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.streamAway {
		return errAway
	}
	for _, e := range events {
		w.put(e.ID)
		w.again[e.ID]++
	}
	return nil
}

// storeOf is the state store as the verifier sees it.
type storeOf struct {
	*memorystore.Store
	w *world
}

func (s storeOf) err(checkpoint bool) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.storeAway || checkpoint && s.w.dead {
		return errAway
	}
	return nil
}

func (s storeOf) Receipts(ctx context.Context, group, database string, after int64, limit int) ([]observer.ReceiptBatch, error) {
	if err := s.err(false); err != nil {
		return nil, err
	}
	return s.Store.Receipts(ctx, group, database, after, limit)
}

func (s storeOf) RemoveReceipts(ctx context.Context, group, database string, seqs ...int64) error {
	if err := s.err(false); err != nil {
		return err
	}
	return s.Store.RemoveReceipts(ctx, group, database, seqs...)
}

func (s storeOf) SaveCheckpoint(ctx context.Context, name string, cp observer.Checkpoint) error {
	if err := s.err(true); err != nil {
		return err
	}
	return s.Store.SaveCheckpoint(ctx, name, cp)
}

// named is the log under the name of the checkpoint.
type named struct{ *memory.Log }

func (named) Name() string { return "reconcile/shop" }

func (w *world) config() reconcile.Config {
	return reconcile.Config{
		Group: group, Database: "shop", Receipts: storeOf{w.store, w},
		Progress: w.progress, Published: w.allPublished, Republish: w.republish,
		Alert:  func(_ context.Context, n int, _ string) { w.change(func() { w.alerts = append(w.alerts, n) }) },
		Logger: slog.New(slog.DiscardHandler),
	}
}

// verify runs a verifier and its relay until stop is called, or killed.
func (w *world) verify(cfg reconcile.Config) (v *reconcile.Verifier, stop func(kill bool)) {
	w.t.Helper()
	v = reconcile.New(cfg)
	r := relay.New(relay.Config{
		Source: named{w.log}, Handler: v, Checkpoints: storeOf{w.store, w}, InFlight: 2000, Batch: 300,
		Malformed: func(context.Context, *observer.Malformed) error { return nil },
		Saved: func(ctx context.Context, handled []relay.Receipt) {
			ids := make([]string, len(handled))
			for i, h := range handled {
				ids[i] = h.ID
			}
			v.Saved(ctx, ids)
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go v.Watch(ctx)
	go func() { ended <- r.Run(ctx) }()
	return v, func(kill bool) {
		w.t.Helper()
		w.change(func() { w.dead = kill })
		cancel()
		if err := <-ended; err != nil && !kill {
			w.t.Errorf("the relay: %v", err)
		}
		w.change(func() { w.dead = false })
	}
}

// problem says what is wrong at the end, when there is nothing more to do: every
// event is handled, and exactly what was lost was published again.
func (w *world) problem() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if w.handled[e.ID] == 0 {
			return e.ID + " was never handled"
		}
	}
	if !maps.Equal(w.lost, w.again) {
		return fmt.Sprintf("%d events were lost %v and %d published again %v", len(w.lost), sample(w.lost), len(w.again), sample(w.again))
	}
	return ""
}

func sample(m map[string]int) []string {
	keys := slices.Sorted(maps.Keys(m))
	return keys[:min(len(keys), 5)]
}

// wantEnd checks the end, and that as many were lost as the test thinks.
func (w *world) wantEnd(v *reconcile.Verifier, lost int) {
	w.t.Helper()
	if problem := w.problem(); problem != "" {
		w.t.Error(problem)
	}
	total := 0
	for _, n := range w.lost {
		total += n
	}
	if total != lost {
		w.t.Errorf("%d events were lost, want %d", total, lost)
	}
	if s := v.Stats(); s.Republished != uint64(lost) || s.Waiting != 0 || s.Missing != 0 || !s.Since.IsZero() {
		w.t.Errorf("got %+v, want %d published again and nothing waiting", s, lost)
	}
}

// wantNoReceipts checks that nothing is stored and remembered any more.
func (w *world) wantNoReceipts(v *reconcile.Verifier) {
	w.t.Helper()
	left, err := w.store.Receipts(w.t.Context(), group, "shop", 0, 1000)
	if err != nil || len(left) > 0 || v.Stats().Held > 0 {
		w.t.Errorf("%d batches of receipts are left, and %d ids are held (error %v)", len(left), v.Stats().Held, err)
	}
}
