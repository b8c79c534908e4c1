package sourcetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
)

func testContent(t *testing.T, l *log) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 456e6, time.UTC)
	want := []*observer.Event{
		{ID: id("a", 1), Operation: observer.Insert, EntityType: "Order", EntityID: "7", Data: []byte(`{"total":19.99,"big":9223372036854775807}`), Timestamp: at},
		{ID: id("a", 2), Operation: observer.Update, EntityType: "Order", EntityID: "7", Data: []byte(`{"s":"b"}`), Before: []byte(`{"s":"a"}`), Timestamp: at},
		{ID: id("b", 1), Operation: observer.Insert, EntityType: "Größe/∅", EntityID: `["é","\u0000 '\""]`, Data: []byte(`{"😀":"\u2028"}`), Timestamp: at},
		{ID: id("a", 3), Operation: observer.Delete, EntityType: "Order", EntityID: "7", Data: []byte(`{"s":"b"}`), Timestamp: at},
		{ID: id("a", 4), Operation: observer.Custom, EntityType: "Order", Data: []byte(`{"note":"x"}`), Timestamp: at},
	}
	l.append(t, want[:3]...)
	l.append(t, want[3:]...)
	for i, m := range take(t, l.open(t, ""), len(want)) {
		if m.Event == nil {
			t.Fatalf("event %s came as malformed: %s", want[i].ID, m.Malformed.Reason)
		}
		if diff := cmp.Diff(facts(want[i]), facts(m.Event)); diff != "" {
			t.Errorf("event %d (-want +got):\n%s", i, diff)
		}
	}
}

// facts are what a log must keep of an event.
func facts(e *observer.Event) map[string]string {
	return map[string]string{
		"id": e.ID, "operation": string(e.Operation), "entity_type": e.EntityType, "entity_id": e.EntityID,
		"data": value(e.Data), "before": value(e.Before), "timestamp": e.Timestamp.UTC().Format(time.RFC3339Nano),
	}
}

// value writes JSON with sorted keys and without spaces, and numbers as they
// are. What is not JSON stays as it is.
func value(raw json.RawMessage) string {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return string(raw)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return string(raw)
	}
	return string(b)
}

func testResume(t *testing.T, l *log) {
	const n = 12
	l.fill(t, n)
	all := take(t, l.open(t, ""), n)
	for i := range all {
		s := l.open(t, all[i].Position)
		rest := take(t, s, n-i-1)
		if diff := cmp.Diff(ids(all[i+1:]), ids(rest)); diff != "" {
			t.Errorf("after position %d (-want +got):\n%s", i, diff)
		}
		wantNothing(t, s)
		if err := s.Close(t.Context()); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

func testBatches(t *testing.T, l *log) {
	n := 3*l.BatchSize + 1
	l.fill(t, n)
	s := l.open(t, "")
	for i, m := range take(t, s, n) {
		if want := event("e", i).ID; m.ID() != want {
			t.Fatalf("message %d is %s, want %s", i, m.ID(), want)
		}
	}
	wantNothing(t, s)
}

func testEmpty(t *testing.T, l *log) {
	wantNothing(t, l.open(t, ""))
}

func testWake(t *testing.T, l *log) {
	s := l.open(t, "")
	for i := range 5 {
		got := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			m, err := s.Next(ctx)
			if err == nil && m.ID() != event("e", i).ID {
				err = fmt.Errorf("got %s, want %s", m.ID(), event("e", i).ID)
			}
			got <- err
		}()
		l.append(t, event("e", i))
		if err := <-got; err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
}

func testContext(t *testing.T, l *log) {
	s := l.open(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, err := s.Next(ctx)
		got <- err
	}()
	cancel()
	select {
	case err := <-got:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Next after cancelling: %v, want the context's error", err)
		}
	case <-time.After(patience):
		t.Fatal("Next does not return when its context ends")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("close after an error: %v", err)
	}
	l.append(t, event("e", 1))
	if _, err := l.open(t, "").Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next with a context that ended: %v, want the context's error", err)
	}
}

func testClose(t *testing.T, l *log) {
	l.fill(t, 3)
	s := l.open(t, "")
	take(t, s, 1)
	for i := range 3 {
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("close %d: %v", i, err)
		}
	}
	if m, err := s.Next(t.Context()); err == nil {
		t.Errorf("Next after Close gave %s", m.ID())
	}
	if got := ids(take(t, l.open(t, ""), 3)); got[0] != event("e", 0).ID {
		t.Errorf("reopened stream begins with %s", got[0])
	}
}

func testBadPosition(t *testing.T, l *log) {
	l.fill(t, 1)
	s, err := l.Source().Open(t.Context(), "no position of this log")
	if err == nil {
		_ = s.Close(t.Context())
		t.Error("a position that cannot be read was accepted: events could be skipped unseen")
	}
}

func testName(t *testing.T, l *log) {
	a, b := l.Source().Name(), l.Source().Name()
	if a == "" || a != b {
		t.Errorf("names of two source values: %q and %q", a, b)
	}
}
