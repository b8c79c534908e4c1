package nats_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/transport/nats"
)

func publisherTo(t *testing.T, s *nats.Stream) *nats.Publisher {
	t.Helper()
	p, err := nats.NewPublisher(s, nats.PublisherConfig{
		Database: "shop", Logger: slog.New(slog.DiscardHandler),
		Oversized: func(_ context.Context, _ *observer.Event, why error) error { return why },
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What is published again is read as the same event, although the server knows its
// id and the publisher knows that it was in the stream.
func TestRepublishedEventIsReadOnceMore(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	p := publisherTo(t, b.Stream)
	list := []*observer.Event{
		{ID: "a", Operation: observer.Insert, EntityType: "Order", EntityID: "1"},
		{ID: "b", Operation: observer.Insert, EntityType: "Order", EntityID: "2"},
	}
	for _, publish := range []func(context.Context, []*observer.Event) error{p.HandleBatch, p.HandleBatch, p.Republish} {
		if err := publish(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := b.source(t).Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Close(t.Context()) }()
	for i, want := range []string{"a", "b", "a", "b"} {
		msg, err := stream.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if msg.Event == nil || msg.ID() != want || msg.Origin != "shop" {
			t.Errorf("message %d is %+v, want event %s of shop", i, msg, want)
		}
	}
	// The publisher that continues is not disturbed.
	if err := p.HandleBatch(t.Context(), []*observer.Event{{ID: "c", Operation: observer.Insert, EntityType: "Order", EntityID: "3"}}); err != nil {
		t.Error(err)
	}
}

func TestReach(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	source := b.source(t)
	reach := func(after observer.Position) nats.Reach {
		t.Helper()
		r, err := source.Reach(t.Context(), func(context.Context) (observer.Position, error) { return after, nil })
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := reach(""); r.Last != 0 || r.Passed != 0 {
		t.Errorf("an empty stream reaches %+v", r)
	}
	list := []*observer.Event{
		{ID: "a", Operation: observer.Insert, EntityType: "Order", EntityID: "1"},
		{ID: "b", Operation: observer.Insert, EntityType: "Order", EntityID: "2"},
	}
	if err := publisherTo(t, b.Stream).HandleBatch(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	stream, err := source.Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := reach(first.Position)
	if before.Last != 2 || before.Passed != 1 {
		t.Errorf("behind the first of two messages: %+v", before)
	}
	b.delete(t)
	b.create(t)
	if after := reach(first.Position); after.Life == before.Life || after.Last != 0 || after.Passed != 0 {
		t.Errorf("after the stream was made again: %+v, before it was %+v", after, before)
	}
}
