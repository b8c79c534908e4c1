package nats_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	client "github.com/nats-io/nats.go"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/transport/nats"
)

func TestConsumerDeleted(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	source := b.source(t)
	b.fill(t, 1, 3)
	s := open(t, source, "")
	got := read(t, s, 3)
	b.deleteConsumer(t)
	begin := time.Now()
	if err := wantFailure(t, s); !strings.Contains(err.Error(), "Consumer Deleted") {
		t.Errorf("the stream ended with %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("that took %s", took)
	}
	b.fill(t, 4, 6)
	if diff := cmp.Diff(names(4, 6), idsOf(read(t, open(t, source, got[2].Position), 3))); diff != "" {
		t.Error(diff)
	}
}

// TestWhatArrivedIsGiven deletes the stream under a reader that has messages of
// it: nobody else has them any more.
func TestWhatArrivedIsGiven(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	b.fill(t, 1, 10)
	s := open(t, b.source(t), "")
	read(t, s, 1)
	b.consumerHasSent(t, 10)
	b.delete(t)
	if diff := cmp.Diff(names(2, 10), idsOf(read(t, s, 9))); diff != "" {
		t.Error(diff)
	}
	_ = wantFailure(t, s)
}

func TestServerKilled(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateNATS(t, testenv.NATSOptions{})
	b := newBench(t, server.URL(), 1)
	source := b.source(t)
	b.fill(t, 1, 3)
	s := open(t, source, "")
	got := read(t, s, 3)
	server.Kill(t)
	begin := time.Now()
	err := wantFailure(t, s)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %s to notice: %v", took, err)
	}
	if _, err := source.Open(t.Context(), got[2].Position); err == nil {
		t.Error("a source without a server was opened")
	}
	server.Restart(t)
	b.connected(t)
	b.fill(t, 4, 6)
	if diff := cmp.Diff(names(4, 6), idsOf(read(t, open(t, source, got[2].Position), 3))); diff != "" {
		t.Error(diff)
	}
}

// TestSilentConnection lets nothing through any more, without an end of the
// connection.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	b := newBench(t, url, 1)
	proxy := testenv.NewProxy(t, strings.TrimPrefix(url, "nats://"))
	b.fill(t, 1, 4)
	source := b.through(t, "nats://"+proxy.Address, func(c *nats.SourceConfig) { c.BatchSize = 2 })
	s := open(t, source, "")
	proxy.Mute("CONSUMER.MSG.NEXT")
	begin := time.Now()
	err := wantFailure(t, s)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %s to notice: %v", took, err)
	}
}

// TestServerPaused keeps the connection and answers nothing.
func TestServerPaused(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateNATS(t, testenv.NATSOptions{})
	b := newBench(t, server.URL(), 1)
	source := b.source(t)
	b.fill(t, 1, 1)
	s := open(t, source, "")
	got := read(t, s, 1)
	server.Pause(t)
	if err := wantFailure(t, s); !strings.Contains(err.Error(), "nothing was heard") {
		t.Errorf("the stream ended with %v", err)
	}
	server.Continue(t)
	b.connected(t)
	b.fill(t, 2, 2)
	if got := read(t, open(t, source, got[0].Position), 1)[0].ID(); got != name(2) {
		t.Errorf("got %s", got)
	}
}

func TestPoison(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 900_000)
	good, err := json.Marshal(event(1))
	if err != nil {
		t.Fatal(err)
	}
	for title, tt := range map[string]struct {
		data           string
		id             string
		reason         string
		kind, entityID string
	}{
		"not JSON":       {data: "hello", reason: "invalid character", kind: "Order"},
		"empty":          {data: "", reason: "empty", kind: "Order"},
		"not UTF-8":      {data: "{\"id\":\"\xff\"}", reason: "UTF-8", kind: "Order"},
		"large":          {data: large, reason: "invalid character", kind: "Order"},
		"no object":      {data: "[1]", reason: "cannot unmarshal", kind: "Order"},
		"unknown verb":   {data: `{"id":"1","event_type":"UPSERT","entity_type":"Cart","entity_id":"9"}`, reason: "UPSERT", kind: "Cart", entityID: "9"},
		"no id":          {data: `{"event_type":"INSERT","entity_type":"Cart","entity_id":"9"}`, reason: "id is missing", kind: "Cart", entityID: "9"},
		"no entity type": {data: `{"id":"1","event_type":"INSERT","entity_id":"9"}`, reason: "entity_type", kind: "Order", entityID: "9"},
		"no entity id":   {data: `{"id":"1","event_type":"INSERT","entity_type":"Cart"}`, reason: "entity_id", kind: "Cart"},
		"another id":     {data: string(good), id: "another", reason: "must be the same", kind: "Order", entityID: "7"},
		"null":           {data: "null", reason: "unknown modification type", kind: "Order"},
		"two values":     {data: string(good) + string(good), reason: "behind the event", kind: "Order"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, testenv.NATS(t), 1)
			b.fill(t, 1, 1)
			poison := &client.Msg{Subject: prefix + ".shop.0.Order.UPDATE", Data: []byte(tt.data), Header: client.Header{"X-Note": {"kept"}}}
			if tt.id != "" {
				poison.Header.Set(client.MsgIdHdr, tt.id)
			}
			if _, err := b.js.PublishMsg(t.Context(), poison); err != nil {
				t.Fatal(err)
			}
			b.fill(t, 2, 2)
			source := b.source(t)
			got := read(t, open(t, source, ""), 3)
			m := got[1].Malformed
			if m == nil || got[2].ID() != name(2) {
				t.Fatalf("got %+v", got)
			}
			if !strings.Contains(m.Reason, tt.reason) || m.EntityType != tt.kind || m.EntityID != tt.entityID || m.Source != source.Name() {
				t.Errorf("reason %q, entity %q %q, source %q", m.Reason, m.EntityType, m.EntityID, m.Source)
			}
			wantKept(t, m.Raw, tt.data)
			again, err := source.Refetch(t.Context(), m.Position)
			if err != nil || again.Malformed == nil {
				t.Fatalf("refetch: %+v, %v", again, err)
			}
			if diff := cmp.Diff(m, again.Malformed); diff != "" {
				t.Errorf("refetched (-read +refetched):\n%s", diff)
			}
		})
	}
}

// wantKept fails when raw does not have all of a message.
func wantKept(t *testing.T, raw json.RawMessage, data string) {
	t.Helper()
	var kept struct {
		Subject string
		Headers map[string][]string
		Data    json.RawMessage
		Base64  string
	}
	if err := json.Unmarshal(raw, &kept); err != nil {
		t.Fatal(err)
	}
	whole := string(kept.Data)
	if kept.Base64 != "" {
		b, err := base64.StdEncoding.DecodeString(kept.Base64)
		if err != nil {
			t.Fatal(err)
		}
		whole = string(b)
	}
	if whole != data {
		t.Errorf("kept %d bytes of %d: %.100s", len(whole), len(data), raw)
	}
	if kept.Subject != prefix+".shop.0.Order.UPDATE" || kept.Headers["X-Note"][0] != "kept" {
		t.Errorf("kept subject %q and headers %v", kept.Subject, kept.Headers)
	}
}

func TestRefetchOfAnotherLife(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	source := b.source(t)
	b.fill(t, 1, 1)
	at := read(t, open(t, source, ""), 1)[0].Position
	if m, err := source.Refetch(t.Context(), at); err != nil || m.ID() != name(1) {
		t.Errorf("refetch gave %+v, %v", m, err)
	}
	b.delete(t)
	if _, err := source.Refetch(t.Context(), at); !errors.Is(err, observer.ErrNotFound) {
		t.Errorf("refetch from a stream that is gone: %v", err)
	}
	b.create(t)
	b.fill(t, 2, 2)
	if _, err := source.Refetch(t.Context(), at); !errors.Is(err, observer.ErrNotFound) {
		t.Errorf("refetch from the stream behind it: %v", err)
	}
}

// TestLargeMessage has one that is larger than what is asked for at once.
func TestLargeMessage(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	big := event(2)
	big.Data = json.RawMessage(`"` + strings.Repeat("x", 100_000) + `"`)
	b.put(t, event(1), big, event(3))
	s := open(t, b.source(t, func(c *nats.SourceConfig) { c.BatchBytes = 1000 }), "")
	if diff := cmp.Diff(names(1, 3), idsOf(read(t, s, 3))); diff != "" {
		t.Error(diff)
	}
}

func TestHeadOfAnEmptyStream(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	source := b.source(t)
	head, err := source.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantSilence(t, open(t, source, head))
	b.fill(t, 1, 2)
	if diff := cmp.Diff(names(1, 2), idsOf(read(t, open(t, source, head), 2))); diff != "" {
		t.Error(diff)
	}
}

func TestBacklogAndHead(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	source := b.source(t)
	if n, at, err := source.Backlog(t.Context(), ""); n != 0 || !at.IsZero() || err != nil {
		t.Errorf("backlog of nothing: %d, %s, %v", n, at, err)
	}
	begin := time.Now()
	b.fill(t, 1, 5)
	head, err := source.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.fill(t, 6, 8)
	for after, want := range map[observer.Position]int64{"": 8, head: 3} {
		n, at, err := source.Backlog(t.Context(), after)
		if n != want || at.Before(begin.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) || err != nil {
			t.Errorf("backlog after %q: %d, %s, %v; want %d", after, n, at, err, want)
		}
	}
	if diff := cmp.Diff(names(6, 8), idsOf(read(t, open(t, source, head), 3))); diff != "" {
		t.Error(diff)
	}
	if _, _, err := source.Backlog(t.Context(), "no position"); err == nil {
		t.Error("a position that cannot be read was accepted")
	}
	if n := b.consumers(t); n != 1 {
		t.Errorf("%d consumers are left of one reader and what counted", n)
	}
}

// consumers counts those on the server.
func (b *bench) consumers(t *testing.T) (n int) {
	t.Helper()
	for range b.stream(t).ListConsumers(t.Context()).Info() {
		n++
	}
	return n
}

func (b *bench) deleteConsumer(t *testing.T) {
	t.Helper()
	for info := range b.stream(t).ListConsumers(t.Context()).Info() {
		if err := b.js.DeleteConsumer(t.Context(), streamName, info.Name); err != nil {
			t.Fatal(err)
		}
	}
}

// consumerHasSent waits until the one consumer has sent n messages, and a moment
// in which they arrive: a round trip on another connection to the same server.
func (b *bench) consumerHasSent(t *testing.T, n uint64) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		for info := range b.stream(t).ListConsumers(t.Context()).Info() {
			if info.Delivered.Consumer >= n {
				if err := b.js.Conn().FlushWithContext(within(t)); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
	}
	t.Fatalf("the consumer has not sent %d messages", n)
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
