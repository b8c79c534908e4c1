// Package transporttest is the conformance suite of a transport: its publishing
// half, an [observer.BatchHandler], and its consuming half, an [observer.Source]
// for each partition, together. What goes in comes out.
package transporttest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fraiseql/observer"
)

// Harness is one empty transport, made for one test.
type Harness struct {
	// Publisher gives a new publishing half for a database, as a process would
	// make that was started again.
	Publisher func(database string) observer.BatchHandler
	// Sources gives new sources over all partitions, of which there are several.
	Sources func() []observer.Source
}

// Run checks a transport. newHarness is called once for each test, which run in
// parallel.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, Harness){
		"EverythingOfAnEvent":  testContent,
		"OrderOfEntities":      testOrder,
		"AgainIsOnce":          testAgain,
		"DatabasesStayApart":   testDatabases,
		"ResumeEachPartition":  testResume,
		"NamesOfSourcesDiffer": testNames,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, newHarness(t))
		})
	}
}

// patience bounds a wait for what must come; it is not a measure of speed.
const patience = 30 * time.Second

func testContent(t *testing.T, h Harness) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 456_789_000, time.UTC)
	three, seq := int64(3), int64(1)<<60
	want := []*observer.Event{
		{ID: id(1), Operation: observer.Insert, EntityType: "Order", EntityID: "7", Data: []byte(`{"total":19.90,"big":9223372036854775807}`), Timestamp: at},
		{
			ID: id(2), Operation: observer.Update, EntityType: "Größe/∅.*>", EntityID: `["é","\u0000 '\""]`,
			Data: []byte(`{"s":"b","same":1.10}`), Before: []byte(`{"s":"a","same":1.10}`),
			UserID: "u", TenantID: "t", Timestamp: at, DurationMS: &three, Seq: &seq, ActorType: "human_user", ActingFor: "f",
			SchemaVersion: "2", CDCSource: "fallback_trigger",
			TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TraceState: "a=1,b=t%20x y",
		},
		{ID: id(3), Operation: observer.Update, EntityType: "Order", EntityID: "8", Data: []byte(`{"s":"b"}`), Timestamp: at},
		{ID: id(4), Operation: observer.Update, EntityType: "Order", EntityID: "9", Data: []byte(`{"s":"b"}`), Before: []byte(`{"s":"b"}`), Timestamp: at},
		{ID: id(5), Operation: observer.Delete, EntityType: "Order", EntityID: "7", Data: []byte(`{"s":"b"}`), Timestamp: at},
		{ID: id(6), Operation: observer.Custom, EntityType: "Order", Data: []byte(`{"note":"😀"}`), Timestamp: at},
	}
	publish(t, h, "shop", want...)
	got := map[string]*observer.Event{}
	for _, m := range collect(t, h, len(want)) {
		got[m.ID()] = m.Event
	}
	for _, e := range want {
		if diff := cmp.Diff(e, got[e.ID], cmpopts.IgnoreUnexported(observer.Event{})); diff != "" {
			t.Errorf("event %s (-published +consumed):\n%s", e.ID, diff)
		}
	}
}

func testOrder(t *testing.T, h Harness) {
	const entities, each = 20, 30
	var all []*observer.Event
	want := map[string][]string{}
	for n := range entities * each {
		e := event(n, strconv.Itoa(n%entities))
		all = append(all, e)
		want[e.EntityID] = append(want[e.EntityID], e.ID)
	}
	publish(t, h, "shop", all...)
	got := map[string][]string{}
	for _, m := range collect(t, h, len(all)) {
		got[m.Event.EntityID] = append(got[m.Event.EntityID], m.ID())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events by entity (-published +consumed):\n%s", diff)
	}
}

// testAgain publishes events a second time, from another process and with more
// behind them, as after a crash.
func testAgain(t *testing.T, h Harness) {
	var all []*observer.Event
	for n := range 30 {
		all = append(all, event(n, strconv.Itoa(n%3)))
	}
	publish(t, h, "shop", all[:20]...)
	publish(t, h, "shop", all[10:]...)
	seen := map[string]int{}
	for _, m := range collect(t, h, len(all)) {
		seen[m.ID()]++
	}
	if len(seen) != len(all) {
		t.Errorf("%d events came of %d: others came more than once", len(seen), len(all))
	}
}

func testDatabases(t *testing.T, h Harness) {
	publish(t, h, "shop", event(1, "7"))
	publish(t, h, "my.crm *>", event(2, "7"))
	publish(t, h, "shop", event(3, "7"))
	seen := map[string]bool{}
	for _, m := range collect(t, h, 3) {
		seen[m.ID()] = true
	}
	if !seen[id(1)] || !seen[id(2)] || !seen[id(3)] {
		t.Errorf("came %v", seen)
	}
}

// testResume reads each partition again from the position of every message.
func testResume(t *testing.T, h Harness) {
	const n = 24
	for i := range n {
		publish(t, h, "shop", event(i, strconv.Itoa(i)))
	}
	byPartition := map[string][]observer.Message{}
	for _, m := range collect(t, h, n) {
		byPartition[m.source] = append(byPartition[m.source], m.Message)
	}
	for _, s := range h.Sources() {
		all := byPartition[s.Name()]
		for i := range all {
			rest := read(t, s, all[i].Position, len(all)-i-1)
			for j, m := range rest {
				if m.ID() != all[i+1+j].ID() {
					t.Fatalf("%s after message %d: %s came as number %d", s.Name(), i, m.ID(), j+1)
				}
			}
		}
	}
}

func testNames(t *testing.T, h Harness) {
	seen := map[string]bool{}
	sources := h.Sources()
	for _, s := range sources {
		seen[s.Name()] = true
	}
	if len(sources) < 2 || len(seen) != len(sources) {
		t.Errorf("%d sources have %d names", len(sources), len(seen))
	}
}

func id(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

func event(n int, entity string) *observer.Event {
	return &observer.Event{
		ID: id(n), Operation: observer.Insert, EntityType: "Order", EntityID: entity,
		Data: json.RawMessage(`{"n":` + strconv.Itoa(n) + `}`), Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func publish(t *testing.T, h Harness, database string, events ...*observer.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.Publisher(database).HandleBatch(ctx, events); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

// from is a message with the name of its source.
type from struct {
	observer.Message
	source string
}

// collect reads all partitions from the beginning until n messages came, and
// fails when there are more.
func collect(t *testing.T, h Harness, n int) (list []from) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	came, failed := make(chan from), make(chan error)
	var reading sync.WaitGroup
	for _, s := range h.Sources() {
		stream := open(t, s, "")
		reading.Go(func() {
			for ctx.Err() == nil {
				m, err := stream.Next(ctx)
				if err != nil {
					send(ctx, failed, err)
					return
				}
				send(ctx, came, from{m, s.Name()})
			}
		})
	}
	defer reading.Wait()
	defer cancel()
	for len(list) < n {
		select {
		case m := <-came:
			if m.Event == nil {
				t.Fatalf("got %+v", m)
			}
			list = append(list, m)
		case err := <-failed:
			t.Fatalf("%d messages came of %d: %v", len(list), n, err)
		case <-ctx.Done():
			t.Fatalf("only %d messages came of %d", len(list), n)
		}
	}
	select {
	case m := <-came:
		t.Errorf("a message too many: %s", m.ID())
	case <-time.After(20 * time.Millisecond):
	}
	return list
}

func send[T any](ctx context.Context, to chan<- T, value T) {
	select {
	case to <- value:
	case <-ctx.Done():
	}
}

func open(t *testing.T, s observer.Source, after observer.Position) observer.Stream {
	t.Helper()
	stream, err := s.Open(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stream.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return stream
}

// read reads n messages after a position.
func read(t *testing.T, s observer.Source, after observer.Position, n int) (list []observer.Message) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream := open(t, s, after)
	for range n {
		m, err := stream.Next(ctx)
		if err != nil {
			t.Fatalf("message %d of %d: %v", len(list)+1, n, err)
		}
		list = append(list, m)
	}
	if err := stream.Close(context.WithoutCancel(ctx)); err != nil {
		t.Fatal(err)
	}
	return list
}
