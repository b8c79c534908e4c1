package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// Headers of a message, beside those of the server.
const (
	// DatabaseHeader has the name of the database, percent-encoded where it is not
	// printable ASCII.
	DatabaseHeader = "Fraiseql-Database"
	// eventIDHeader has the id of an event whose message may not have it as
	// Nats-Msg-Id.
	eventIDHeader     = "Fraiseql-Event-Id"
	traceParentHeader = "traceparent"
	traceStateHeader  = "tracestate"
	contentTypeHeader = "Content-Type"
)

// parcel is an event on its way.
type parcel struct {
	event *observer.Event
	id    string // as the headers have it
	msg   *client.Msg
	size  int
	done  bool // it is in the stream, or was taken by Oversized
}

// batchHeaders is more than the headers of a batch add to the size of a message.
const batchHeaders = 512

// maxHeaders is below what a stream takes, 65535 bytes.
const maxHeaders = 60_000

// pack makes messages of events. Those that no message can carry are handed to
// Oversized.
func (p *Publisher) pack(ctx context.Context, events []*observer.Event) ([]*parcel, error) {
	limit := int(p.stream.conn.nc.MaxPayload())
	if p.cfg.MaxPayload > 0 && (limit <= 0 || p.cfg.MaxPayload < limit) {
		limit = p.cfg.MaxPayload
	}
	parcels := make([]*parcel, 0, len(events))
	for _, e := range events {
		one, err := p.wrap(e)
		if err == nil && limit > 0 && one.size > limit {
			err = fmt.Errorf("the event has %d bytes as a message, and the server takes %d (max_payload)", one.size, limit)
		}
		if err == nil {
			parcels = append(parcels, one)
			continue
		}
		if err := p.oversized(ctx, e, err); err != nil {
			return nil, err
		}
	}
	return parcels, nil
}

func (p *Publisher) oversized(ctx context.Context, e *observer.Event, why error) error {
	p.cfg.Logger.Warn("event cannot be published", "event_id", e.ID, "entity_type", e.EntityType, "entity_id", e.EntityID, "error", why)
	err := p.cfg.Oversized(ctx, e, observer.Permanent(observer.ReasonTooLarge, why))
	if err != nil {
		return fmt.Errorf("keep event %s, which cannot be published: %w", e.ID, err)
	}
	return nil
}

// wrap makes the message of an event.
func (p *Publisher) wrap(e *observer.Event) (*parcel, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	id := headerText(e.ID)
	header := make(client.Header, 9)
	header[jetstream.MsgIDHeader] = []string{id}
	header[DatabaseHeader] = []string{headerText(p.cfg.Database)}
	header[contentTypeHeader] = []string{"application/json"}
	if e.TraceParent != "" {
		header[traceParentHeader] = []string{headerText(e.TraceParent)}
		if e.TraceState != "" {
			header[traceStateHeader] = []string{headerText(e.TraceState)}
		}
	}
	size := batchHeaders
	for key, values := range header {
		size += len(key) + len(values[0]) + len(": \r\n")
	}
	if size > maxHeaders {
		return nil, errors.New("the headers of the event (id, trace context) are too long")
	}
	msg := &client.Msg{Subject: p.stream.Event(p.cfg.Database, e), Header: header, Data: body}
	return &parcel{event: e, id: id, msg: msg, size: size + len(body)}, nil
}

// headerText keeps a text on its line: printable ASCII stays, apart from %, and
// every other byte is percent-encoded.
func headerText(text string) string {
	clean := func(c byte) bool { return c > ' ' && c < 0x7f && c != '%' }
	for i := range len(text) {
		if !clean(text[i]) {
			var b strings.Builder
			for i := range len(text) {
				if clean(text[i]) {
					b.WriteByte(text[i])
				} else {
					fmt.Fprintf(&b, "%%%02X", text[i])
				}
			}
			return b.String()
		}
	}
	return text
}
