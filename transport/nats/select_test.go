package nats_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/transport/nats"
)

// TestSelection reads what each selection gives of two databases, with two
// entities and two tenants each.
func TestSelection(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	n := 0
	for _, database := range []string{"shop", "my.crm"} {
		for _, entity := range []string{"Order", "Größe *"} {
			for _, tenant := range []string{"a", ""} {
				n++
				e := event(n)
				e.EntityType, e.TenantID = entity, tenant
				if err := b.publish(t.Context(), database, e); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for title, tt := range map[string]struct {
		cfg  nats.SourceConfig
		want []int
	}{
		"all":              {want: []int{1, 2, 3, 4, 5, 6, 7, 8}},
		"database":         {cfg: nats.SourceConfig{Databases: []string{"my.crm"}}, want: []int{5, 6, 7, 8}},
		"databases":        {cfg: nats.SourceConfig{Databases: []string{"my.crm", "shop", "shop"}}, want: []int{1, 2, 3, 4, 5, 6, 7, 8}},
		"entity":           {cfg: nats.SourceConfig{Entities: []string{"Größe *"}}, want: []int{3, 4, 7, 8}},
		"entities":         {cfg: nats.SourceConfig{Entities: []string{"Größe *", "Order"}}, want: []int{1, 2, 3, 4, 5, 6, 7, 8}},
		"tenant":           {cfg: nats.SourceConfig{Tenants: []string{"a"}}, want: []int{1, 3, 5, 7}},
		"unknown tenant":   {cfg: nats.SourceConfig{Tenants: []string{"b"}}},
		"all three":        {cfg: nats.SourceConfig{Databases: []string{"shop"}, Entities: []string{"Order"}, Tenants: []string{"a"}}, want: []int{1}},
		"nobody's entity":  {cfg: nats.SourceConfig{Entities: []string{"Cart"}}},
		"nothing overlaps": {cfg: nats.SourceConfig{Databases: []string{"shop", "other"}, Entities: []string{"Order", "Order"}}, want: []int{1, 2}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := open(t, b.source(t, func(c *nats.SourceConfig) {
				c.Databases, c.Entities, c.Tenants = tt.cfg.Databases, tt.cfg.Entities, tt.cfg.Tenants
			}), "")
			var want []string
			for _, n := range tt.want {
				want = append(want, name(n))
			}
			var got []string
			for _, m := range read(t, s, len(want)) {
				got = append(got, m.ID())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			wantSilence(t, s)
		})
	}
}

// TestPoisonOfNoTenant: nobody could tell whose it is, so that nobody passes it
// over.
func TestPoisonOfNoTenant(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	if _, err := b.js.Publish(t.Context(), prefix+".shop.0.Order.UPDATE", []byte("poison")); err != nil {
		t.Fatal(err)
	}
	s := open(t, b.source(t, func(c *nats.SourceConfig) { c.Tenants = []string{"a"} }), "")
	if read(t, s, 1)[0].Malformed == nil {
		t.Error("the poison was taken for an event")
	}
}

// TestPositionPassesWhatOthersRead has a position move over tenants, entities and
// partitions that are not selected.
func TestPositionPassesWhatOthersRead(t *testing.T) {
	t.Parallel()
	for title, tt := range map[string]struct {
		change func(*nats.SourceConfig)
		others func(n int) *observer.Event
	}{
		"tenants": {
			change: func(c *nats.SourceConfig) { c.Tenants = []string{"mine"} },
			others: func(n int) *observer.Event { e := event(n); e.TenantID = "other"; return e },
		},
		"entities": {
			change: func(c *nats.SourceConfig) { c.Entities = []string{"Order", "Invoice"} },
			others: func(n int) *observer.Event { e := event(n); e.EntityType = "Cart"; return e },
		},
		"partitions": {
			change: func(c *nats.SourceConfig) { c.Partition = nats.Partition("Order", "7", 64) },
			others: func(n int) *observer.Event { e := event(n); e.EntityType = "Cart"; return e },
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			partitions := 1
			if title == "partitions" {
				partitions = 64
			}
			b := newBench(t, testenv.NATS(t), partitions)
			mine := event(1)
			mine.TenantID = "mine"
			b.put(t, mine)
			for n := 2; n <= 25; n++ {
				b.put(t, tt.others(n))
			}
			seen := &breaks{}
			source := b.source(t, tt.change, seen.into, func(c *nats.SourceConfig) {
				c.Passing, c.BatchSize = 50*time.Millisecond, 10
			})
			s := open(t, source, "")
			at := passed(t, s, 25, mine.ID)
			wantSilence(t, open(t, b.source(t, tt.change), at))

			// What others read and the stream no longer has is not missed.
			b.purge(t, 25)
			next := event(26)
			next.TenantID = "mine"
			b.put(t, next)
			m := read(t, open(t, source, at), 1)[0]
			if m.Event == nil || m.ID() != next.ID {
				t.Errorf("after what was passed came %+v", m)
			}
			seen.want(t)
		})
	}
}

// passed reads until the position is that of a sequence, and gives it. Only the
// events with ids may come.
func passed(t *testing.T, s observer.Stream, seq uint64, ids ...string) observer.Position {
	t.Helper()
	for {
		m := read(t, s, 1)[0]
		switch {
		case m.Malformed != nil, m.Event != nil && (len(ids) == 0 || m.ID() != ids[0]):
			t.Fatalf("got %+v", m)
		case m.Event != nil:
			ids = ids[1:]
		case nats.SequenceOf(m.Position) == seq && len(ids) == 0:
			return m.Position
		}
	}
}

// TestManyOfOtherTenants says how far it is without waiting for the time to say
// so.
func TestManyOfOtherTenants(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	b.fill(t, 1, 25)
	s := open(t, b.source(t, func(c *nats.SourceConfig) {
		c.Tenants, c.Passing, c.BatchSize = []string{"mine"}, time.Hour, 10
	}), "")
	for _, want := range []uint64{10, 20} {
		if m := read(t, s, 1)[0]; m.Event != nil || nats.SequenceOf(m.Position) != want {
			t.Errorf("got %+v, want the position of message %d", m, want)
		}
	}
	wantSilence(t, s)
}

// TestIdlePartition has a stream drop what is too old while a partition has
// nothing to read.
func TestIdlePartition(t *testing.T) {
	t.Parallel()
	for title, tt := range map[string]struct {
		passing time.Duration
		want    []nats.BreakKind
	}{
		"that is passed":     {passing: 20 * time.Millisecond},
		"that is not passed": {want: []nats.BreakKind{nats.Removed}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, testenv.NATS(t), 64, func(c *nats.StreamConfig) { c.MaxAge, c.DedupWindow = 3*time.Second, time.Second })
			b.put(t, event(1))
			for n := 2; n <= 5; n++ {
				e := event(n)
				e.EntityType = "Cart"
				b.put(t, e)
			}
			seen := &breaks{}
			source := b.source(t, seen.into, func(c *nats.SourceConfig) {
				c.Partition, c.Passing = nats.Partition("Order", "7", 64), tt.passing
			})
			s := open(t, source, "")
			at := read(t, s, 1)[0].Position
			if tt.passing > 0 {
				at = passed(t, s, 5)
			}
			b.emptied(t)
			s = open(t, source, at)
			b.put(t, event(6))
			if got := read(t, s, 1)[0].ID(); got != name(6) {
				t.Errorf("got %s", got)
			}
			seen.want(t, tt.want...)
		})
	}
}

// emptied waits until the stream has dropped everything.
func (b *bench) emptied(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if state, err := b.State(t.Context()); err == nil && state.Msgs == 0 {
			return
		}
	}
	t.Fatal("the stream keeps its messages")
}

func TestPartitionsOfTheStream(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	b := newBench(t, url, 4)
	for _, p := range []int{-1, 4} {
		if _, err := nats.NewSource(b.Stream, nats.SourceConfig{Partition: p}); err == nil || observer.Retryable(err) {
			t.Errorf("partition %d: %v", p, err)
		}
	}
	if _, err := nats.NewSource(b.Stream, nats.SourceConfig{Consumer: "a/b"}); err == nil {
		t.Error("a consumer name that makes the source's name ambiguous was accepted")
	}
	other := *b
	other.config.Partitions = 8
	if _, err := newSource(t, other.connect(t, url)).Open(t.Context(), ""); err == nil {
		t.Error("a stream with another number of partitions was opened")
	}
}

func TestSourceName(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 4)
	if got := b.source(t, func(c *nats.SourceConfig) { c.Partition = 3 }).Name(); got != "nats/workers/events/3" || got != nats.SourceName("workers", "events", 3) {
		t.Errorf("the name is %q: checkpoints are stored under another one", got)
	}
}

// TestEverythingOfAnEvent compares an event field by field with what comes out.
func TestEverythingOfAnEvent(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	three, seq := int64(3), int64(1)<<60
	e := &observer.Event{
		ID: name(1), Operation: observer.Update, EntityType: "Größe/∅", EntityID: `["é","x"]`,
		Data: json.RawMessage(`{"big":9223372036854775807,"total":19.90}`), Before: json.RawMessage(`{"big":1,"total":19.9}`),
		UserID: "u", TenantID: "t", Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC), DurationMS: &three, Seq: &seq,
		ActorType: "human_user", ActingFor: "f", SchemaVersion: "2", CDCSource: "fallback_trigger",
	}
	b.put(t, e)
	got := read(t, open(t, b.source(t), ""), 1)[0].Event
	if got == nil {
		t.Fatal("no event")
	}
	want, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	have, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		t.Error(diff)
	}
	changes, err := got.Changes()
	if err != nil || len(changes) != 1 || changes["big"].Old != json.Number("1") {
		t.Errorf("the changes are %v, %v", changes, err)
	}
}
