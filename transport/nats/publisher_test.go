package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
)

// events makes events with numbers as ids, from first to last, of ten entities.
func events(first, last int) []*observer.Event {
	var list []*observer.Event
	for i := first; i <= last; i++ {
		list = append(list, &observer.Event{
			ID: strconv.Itoa(i), Operation: observer.Update, EntityType: "Order", EntityID: strconv.Itoa(i % 10),
			Data: json.RawMessage(`{"n":` + strconv.Itoa(i) + `}`), Timestamp: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		})
	}
	return list
}

func newPublisher(t testing.TB, stream *Stream, change ...func(*PublisherConfig)) *Publisher {
	t.Helper()
	cfg := PublisherConfig{
		Database: "shop", Logger: slog.New(slog.DiscardHandler),
		Oversized: func(_ context.Context, e *observer.Event, why error) error {
			return fmt.Errorf("event %s is not expected to be too long: %w", e.ID, why)
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := NewPublisher(stream, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func publish(t testing.TB, p *Publisher, list []*observer.Event) {
	t.Helper()
	if err := p.HandleBatch(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

// stored are the messages of a database, in their order.
func stored(t testing.TB, s *Stream, database string) []jetstream.Msg {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		list, err := readStored(t.Context(), s, database)
		if err == nil {
			return list
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func readStored(ctx context.Context, s *Stream, database string) ([]jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // in a cluster nobody may lead just now
	defer cancel()
	consumer, err := s.conn.js.CreateConsumer(ctx, s.Name(), jetstream.ConsumerConfig{
		FilterSubject: s.OfDatabase(database), AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true,
	})
	if err != nil {
		return nil, err
	}
	var list []jetstream.Msg
	for uint64(len(list)) < consumer.CachedInfo().NumPending {
		batch, err := consumer.Fetch(1000, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return nil, err
		}
		for msg := range batch.Messages() {
			list = append(list, msg)
		}
		if err := errors.Join(batch.Error(), ctx.Err()); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// checkStored compares the ids in the stream with those of events.
func checkStored(t testing.TB, s *Stream, database string, want []*observer.Event) {
	t.Helper()
	var got, ids []string
	for _, msg := range stored(t, s, database) {
		var e observer.Event
		if err := json.Unmarshal(msg.Data(), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.ID)
	}
	for _, e := range want {
		ids = append(ids, e.ID)
	}
	if d := cmp.Diff(ids, got); d != "" {
		t.Errorf("stored (-want +got):\n%.2000s", d)
	}
}

func TestPublishedMessage(t *testing.T) {
	t.Parallel()
	s := ensured(t, connect(t, testenv.NATS(t)), StreamConfig{})
	p := newPublisher(t, s, func(c *PublisherConfig) { c.Database = "my shop" })
	e := events(1, 1)[0]
	e.TraceParent, e.TraceState = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1, b=%"
	e.EntityType = "sales.Order"
	if err := p.Handle(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	publish(t, p, events(2, 2))
	list := stored(t, s, "my shop")
	want := map[string]string{
		"Nats-Msg-Id": "1", "Fraiseql-Database": "my%20shop", "traceparent": e.TraceParent, "tracestate": "a=1,%20b=%25", "Content-Type": "application/json",
	}
	for name, value := range want {
		if got := list[0].Headers().Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(body), string(list[0].Data())); d != "" {
		t.Error(d)
	}
	if subject := s.Event("my shop", e); list[0].Subject() != subject {
		t.Errorf("subject %s, want %s", list[0].Subject(), subject)
	}
	if list[1].Headers().Get("traceparent") != "" {
		t.Error("an event without a trace context has one")
	}
}

func TestBatchesKeepTheOrder(t *testing.T) {
	t.Parallel()
	s := ensured(t, connect(t, testenv.NATS(t)), StreamConfig{})
	other := newPublisher(t, s, func(c *PublisherConfig) { c.Database = "other" })
	p := newPublisher(t, s)
	all := events(1, 3500)
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range 20 {
			if err := other.HandleBatch(t.Context(), events(10*i+1, 10*i+10)); err != nil {
				t.Error(err)
			}
		}
	})
	publish(t, p, all[:1])
	publish(t, p, all[1:2400])
	publish(t, p, nil)
	publish(t, p, all[2400:])
	publishing.Wait()
	checkStored(t, s, "shop", all)
	checkStored(t, s, "other", events(1, 200))
}

func TestConcurrentHandlesShareBatches(t *testing.T) {
	t.Parallel()
	s := ensured(t, connect(t, testenv.NATS(t)), StreamConfig{})
	p := newPublisher(t, s)
	var lanes sync.WaitGroup
	for lane := range 10 {
		lanes.Go(func() {
			for _, e := range events(1, 300) {
				if e.EntityID != strconv.Itoa(lane) {
					continue
				}
				if err := p.Handle(t.Context(), e); err != nil {
					t.Error(err)
				}
			}
		})
	}
	lanes.Wait()
	last := map[string]int{}
	list := stored(t, s, "shop")
	for _, msg := range list {
		var e observer.Event
		if err := json.Unmarshal(msg.Data(), &e); err != nil {
			t.Fatal(err)
		}
		n, _ := strconv.Atoi(e.ID)
		if n <= last[e.EntityID] {
			t.Errorf("event %d after %d", n, last[e.EntityID])
		}
		last[e.EntityID] = n
	}
	if len(list) != 300 {
		t.Errorf("%d messages", len(list))
	}
}

// Invariant 7: what was published and not checkpointed comes again after a
// restart, and is in the stream once, however long that takes.
func TestRestartRepeatsNothing(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		window time.Duration
		recall int
	}{
		"within the window":           {time.Hour, 0},
		"long after the window":       {100 * time.Millisecond, 0},
		"deeper than what is read":    {time.Hour, 10},
		"some of it deeper than that": {time.Hour, 700},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, testenv.NATS(t))
			s := ensured(t, conn, StreamConfig{DedupWindow: tt.window})
			publish(t, newPublisher(t, s, func(c *PublisherConfig) { c.Database = "other" }), events(1, 1500))
			publish(t, newPublisher(t, s), events(1, 1200))
			publish(t, newPublisher(t, s, func(c *PublisherConfig) { c.Database = "other" }), events(1501, 3000))
			if tt.window < time.Minute {
				waitForgotten(t, s, "other.x")
			}
			recall := func(c *PublisherConfig) { c.Recall = tt.recall }
			publish(t, newPublisher(t, s, recall), events(1, 1300))
			checkStored(t, s, "shop", events(1, 1300))
			publish(t, newPublisher(t, s, recall), events(101, 1301))
			checkStored(t, s, "shop", events(1, 1301))
		})
	}
}

// waitForgotten waits until the server has forgotten the ids that it had when
// this was called.
func waitForgotten(t *testing.T, s *Stream, database string) {
	t.Helper()
	subject := s.Event(database, events(1, 1)[0])
	for deadline := time.Now().Add(time.Minute); ; {
		ack, err := s.conn.js.Publish(t.Context(), subject, nil, jetstream.WithMsgID("probe"))
		if err != nil {
			t.Fatal(err)
		}
		if !ack.Duplicate && ack.Sequence > 1 {
			if probed := time.Now().After(deadline.Add(-time.Minute + 300*time.Millisecond)); probed {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the server remembers ids for longer than its window")
		}
	}
}

// Invariant 5: a listener that was paused and wakes up can neither repeat nor
// overtake what the next one has published.
func TestInvariant5LatePublisherIsRefused(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.NATS(t))
	s := ensured(t, conn, StreamConfig{})
	zombie := newPublisher(t, s)
	publish(t, zombie, events(1, 10))
	next := newPublisher(t, s)
	publish(t, next, events(6, 30))

	// What was on its way when it was paused: a batch that follows what it knew.
	if err := sendLate(t, zombie, events(11, 15)); err == nil {
		t.Fatal("a late batch was stored")
	}
	var refusal *jetstream.APIError
	if err := sendLate(t, zombie, events(900, 901)); !errors.As(err, &refusal) || refusal.ErrorCode != codeWrongLast {
		t.Fatalf("%v, want a wrong last sequence", err)
	}
	checkStored(t, s, "shop", events(1, 30))
	publish(t, zombie, events(11, 31)) // had it got the lease again
	publish(t, next, events(25, 35))
	checkStored(t, s, "shop", events(1, 35))
}

// sendLate sends a batch as if all that its publisher knows were so.
func sendLate(t *testing.T, p *Publisher, list []*observer.Event) error {
	t.Helper()
	parcels, pack := p.parcels(list)
	pack(nil)
	_, _, err := p.send(t.Context(), parcels)
	return err
}

// A late batch that was stored before the next listener published anything is
// found, and not repeated.
func TestLateBatchBeforeOursIsFound(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.NATS(t))
	for name, window := range map[string]time.Duration{"ids known": time.Hour, "ids forgotten": 100 * time.Millisecond} {
		s := ensured(t, conn, StreamConfig{Name: strings.ReplaceAll(name, " ", "_"), SubjectPrefix: strings.ReplaceAll(name, " ", "_"), DedupWindow: window})
		zombie, next := newPublisher(t, s), newPublisher(t, s)
		publish(t, zombie, events(1, 10))
		publish(t, next, events(10, 10)) // which only reads
		publish(t, zombie, events(11, 15))
		if window < time.Minute {
			waitForgotten(t, s, "other")
		}
		publish(t, next, events(11, 20))
		checkStored(t, s, "shop", events(1, 20))
	}
}

func TestEventThatIsTooLongIsHandedOver(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.NATS(t))
	s := ensured(t, conn, StreamConfig{})
	var taken []string
	var fail error
	p := newPublisher(t, s, func(c *PublisherConfig) {
		c.Oversized = func(_ context.Context, e *observer.Event, why error) error {
			if fail == nil {
				taken = append(taken, e.ID+" "+string(observer.ReasonOf(why)))
			}
			return fail
		}
	})
	all := events(1, 9)
	all[2].Data = json.RawMessage(`"` + strings.Repeat("x", 2<<20) + `"`)
	all[4].Data = json.RawMessage(`{`)
	all[6].ID = strings.Repeat("y", 70_000)
	all[8].Data = json.RawMessage(`"` + strings.Repeat("x", int(conn.nc.MaxPayload())-batchHeaders-700) + `"`) // just fits
	fail = errors.New("the store is away")
	if err := p.HandleBatch(t.Context(), all); !errors.Is(err, fail) {
		t.Fatalf("%v, want that of the hook", err)
	}
	fail = nil
	publish(t, p, all)
	if d := cmp.Diff([]string{"3 too_large", "5 too_large", all[6].ID + " too_large"}, taken); d != "" {
		t.Errorf("%.500s", d)
	}
	checkStored(t, s, "shop", []*observer.Event{all[0], all[1], all[3], all[5], all[7], all[8]})
}

// Somebody lowered the limit of the stream itself: the server says which.
func TestEventThatIsTooLongForTheStream(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.NATS(t))
	s := ensured(t, conn, StreamConfig{})
	cfg := config(t, conn, s.Name())
	cfg.MaxMsgSize = 1000
	if _, err := conn.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	var taken []string
	p := newPublisher(t, s, func(c *PublisherConfig) {
		c.Oversized = func(_ context.Context, e *observer.Event, _ error) error { taken = append(taken, e.ID); return nil }
	})
	all := events(1, 50)
	all[20].Data = json.RawMessage(`"` + strings.Repeat("x", 1000) + `"`)
	publish(t, p, all)
	if d := cmp.Diff([]string{"21"}, taken); d != "" {
		t.Error(d)
	}
	checkStored(t, s, "shop", append(events(1, 20), events(22, 50)...))
}

func TestFullStreamHoldsBack(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limit StreamConfig
		says  string
	}{
		"messages": {StreamConfig{MaxMsgs: 1230}, "1230 messages, which stay for 168h0m0s, handled or not; raise max_msgs"},
		"bytes":    {StreamConfig{MaxBytes: 300_000}, "300000 bytes, which stay for 168h0m0s, handled or not; raise max_bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := ensured(t, connect(t, testenv.NATS(t)), tt.limit)
			p := newPublisher(t, s)
			err := p.HandleBatch(t.Context(), events(1, 2000))
			if !errors.Is(err, ErrStreamFull) || !observer.Retryable(err) || !strings.Contains(err.Error(), tt.says) {
				t.Fatal(err)
			}
			got := len(stored(t, s, "shop")) // all that there is room for
			if tt.limit.MaxMsgs > 0 && got != 1230 || got < 100 {
				t.Errorf("%d messages", got)
			}
			checkStored(t, s, "shop", events(1, got))
			raised := ensured(t, s.conn, StreamConfig{})
			publish(t, p, events(1, 2000))
			checkStored(t, raised, "shop", events(1, 2000))
		})
	}
}

// A stream that is full is purged, after workers have handled what is in it. Only
// the rest follows.
func TestFullStreamThatIsPurgedGetsTheRest(t *testing.T) {
	t.Parallel()
	s := ensured(t, connect(t, testenv.NATS(t)), StreamConfig{MaxMsgs: 60})
	p, all := newPublisher(t, s), events(1, 150)
	for from := 1; from <= 120; from += 60 {
		err := p.HandleBatch(t.Context(), all)
		if n := observer.PartlyOf(err); !errors.Is(err, ErrStreamFull) || n != 60 {
			t.Fatalf("%d events are said to be in the stream, want 60: %v", n, err)
		}
		all = all[60:]
		checkStored(t, s, "shop", events(from, from+59))
		found, err := s.conn.js.Stream(t.Context(), s.Name())
		if err == nil {
			err = found.Purge(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	publish(t, p, all)
	checkStored(t, s, "shop", events(121, 150))
}

// What somebody removed is not in the way: the publisher goes on, also with ids
// that the server remembers although their messages are gone.
func TestStreamThatLostMessages(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, s *Stream){
		"purged": func(t *testing.T, s *Stream) {
			t.Helper()
			found, err := s.conn.js.Stream(t.Context(), s.Name())
			if err == nil {
				err = found.Purge(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"deleted": func(t *testing.T, s *Stream) {
			t.Helper()
			if err := s.conn.js.DeleteStream(t.Context(), s.Name()); err != nil {
				t.Fatal(err)
			}
		},
		"deleted and made again": func(t *testing.T, s *Stream) {
			t.Helper()
			if err := s.conn.js.DeleteStream(t.Context(), s.Name()); err != nil {
				t.Fatal(err)
			}
			ensured(t, s.conn, StreamConfig{})
		},
	}
	for name, lose := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := ensured(t, connect(t, testenv.NATS(t)), StreamConfig{})
			p := newPublisher(t, s)
			publish(t, p, events(1, 30))
			lose(t, s)
			publish(t, p, events(11, 40)) // a reconciler, or a bridge that was restarted
			checkStored(t, s, "shop", events(11, 40))
			publish(t, newPublisher(t, s), events(11, 41))
			checkStored(t, s, "shop", events(11, 41))
		})
	}
}

func TestSmallerBatchesWhereTheServerWantsThem(t *testing.T) {
	t.Parallel()
	s := ensured(t, connect(t, testenv.NATS(t)), StreamConfig{})
	p := newPublisher(t, s, func(c *PublisherConfig) { c.BatchSize = 4000 })
	publish(t, p, events(1, 5000))
	checkStored(t, s, "shop", events(1, 5000))
	small := newPublisher(t, s, func(c *PublisherConfig) { c.Database, c.BatchBytes = "small", 1000 })
	publish(t, small, events(1, 50))
	checkStored(t, s, "small", events(1, 50))
}

func TestLargerBatchesWhereTheServerTakesThem(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateNATS(t, testenv.NATSOptions{Conf: "jetstream {\nstore_dir: there\nlimits { batch { max_msgs: 4000 } }\n}\n"})
	s := ensured(t, connect(t, server.URL()), StreamConfig{MaxBytes: 64 << 20})
	publish(t, newPublisher(t, s, func(c *PublisherConfig) { c.BatchSize = 4000 }), events(1, 3000))
	checkStored(t, s, "shop", events(1, 3000))
	list := stored(t, s, "shop")
	if got := list[2999].Headers().Get(batchSequenceHeader); got != "3000" {
		t.Errorf("the last of 3000 messages is number %s of its batch", got)
	}
}

// A lease that is lost in the middle of a call ends it before the next batch.
func TestLeaseIsAskedForBeforeEachBatch(t *testing.T) {
	t.Parallel()
	s := ensured(t, connect(t, testenv.NATS(t)), StreamConfig{})
	p := newPublisher(t, s, func(c *PublisherConfig) { c.BatchSize = 10 })
	asked := 0
	ctx := observer.WithFence(t.Context(), func(context.Context) error {
		if asked++; asked > 2 {
			return observer.ErrFenced
		}
		return nil
	})
	err := p.HandleBatch(ctx, events(1, 40))
	if n := observer.PartlyOf(err); !errors.Is(err, observer.ErrFenced) || n != 20 {
		t.Errorf("%d events are said to be in the stream, want 20: %v", n, err)
	}
	checkStored(t, s, "shop", events(1, 20))
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.PlainNATS(t))
	p := newPublisher(t, newStream(t, conn, StreamConfig{}))
	err := p.HandleBatch(t.Context(), events(1, 2))
	if err == nil || !observer.Retryable(err) || !strings.Contains(err.Error(), "JetStream is not enabled") {
		t.Errorf("%v", err)
	}
	if err := p.stream.conn.nc.FlushTimeout(time.Minute); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.HandleBatch(ctx, events(1, 2)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the end of the context", err)
	}
	if _, err := NewPublisher(p.stream, PublisherConfig{Database: "x"}); err == nil {
		t.Error("a publisher without Oversized is made")
	}
}
