package nats

import (
	"context"
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
	done  bool   // it is in the stream, or was taken by Oversized

	// packed is closed when msg and size, or why there is no message, are set.
	packed chan struct{}
	msg    *client.Msg
	size   int
	err    error
}

// batchHeaders is more than the headers of a batch add to the size of a message.
const batchHeaders = 512

// maxHeaders is below what a stream takes, 65535 bytes.
const maxHeaders = 60_000

// packAtOnce is how many messages are made before somebody is told.
const packAtOnce = 50

// parcels makes parcels whose messages are made by pack, from the first to the
// last. So messages are made while the server works on those before them.
func (p *Publisher) parcels(events []*observer.Event) (all []*parcel, pack func(stop <-chan struct{})) {
	all = make([]*parcel, len(events))
	values := make([]parcel, len(events))
	var packed chan struct{}
	for i, e := range events {
		if i%packAtOnce == 0 {
			packed = make(chan struct{})
		}
		values[i] = parcel{event: e, id: headerText(e.ID), packed: packed}
		all[i] = &values[i]
	}
	limit := p.payload()
	return all, func(stop <-chan struct{}) {
		for i, one := range all {
			one.err = p.wrap(one, limit)
			if i%packAtOnce == packAtOnce-1 || i == len(all)-1 {
				close(one.packed)
				select {
				case <-stop:
					return
				default:
				}
			}
		}
	}
}

// payload is how many bytes a message may have.
func (p *Publisher) payload() int {
	limit := int(p.stream.conn.nc.MaxPayload())
	if p.cfg.MaxPayload > 0 && (limit <= 0 || p.cfg.MaxPayload < limit) {
		limit = p.cfg.MaxPayload
	}
	return limit
}

// ready waits for the message of a parcel. It hands over what no message can
// carry; then there is none.
func (p *Publisher) ready(ctx context.Context, one *parcel) (bool, error) {
	select {
	case <-one.packed:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if one.err == nil {
		return true, nil
	}
	err := p.oversized(ctx, one.event, one.err)
	one.done = err == nil
	return false, err
}

func (p *Publisher) oversized(ctx context.Context, e *observer.Event, why error) error {
	p.cfg.Logger.Warn("event cannot be published", "event_id", e.ID, "entity_type", e.EntityType, "entity_id", e.EntityID, "error", why)
	err := p.cfg.Oversized(ctx, e, observer.Permanent(observer.ReasonTooLarge, why))
	if err != nil {
		return fmt.Errorf("keep event %s, which cannot be published: %w", e.ID, err)
	}
	return nil
}

// wrap makes the message of a parcel.
func (p *Publisher) wrap(one *parcel, limit int) error {
	e := one.event
	body, err := e.MarshalJSON() // as json.Marshal does, which would look at all of it again
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	header := make(client.Header, 12)
	header[jetstream.MsgIDHeader] = []string{one.id}
	header[DatabaseHeader] = []string{p.database}
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
		return errors.New("the headers of the event (id, trace context) are too long")
	}
	if size += len(body); limit > 0 && size > limit {
		return fmt.Errorf("the event has %d bytes as a message, and the server takes %d (max_payload)", size, limit)
	}
	one.msg = &client.Msg{Subject: p.stream.Event(p.cfg.Database, e), Header: header, Data: body}
	one.size = size
	return nil
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
