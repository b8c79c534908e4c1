package nats

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// Republish publishes events once more, in their order and whatever the stream
// holds or remembers of them: somebody knows that they were never handled. The
// event keeps its id; that of the message is another one. nil says that each is in
// the stream, or was taken by Oversized. An event may be in it twice when an
// error came before.
func (p *Publisher) Republish(ctx context.Context, events []*observer.Event) error {
	select {
	case p.busy <- struct{}{}:
		defer func() { <-p.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	all, pack := p.parcels(events)
	pack(nil)
	once := "/again/" + rand.Text()[:8] // so that a lost answer makes no second message
	for _, one := range all {
		ready, err := p.ready(ctx, one)
		if err != nil {
			return p.stream.conn.explain(err)
		}
		if !ready {
			continue
		}
		one.msg.Header[eventIDHeader] = []string{one.id}
		one.msg.Header[jetstream.MsgIDHeader] = []string{one.id + once}
		if err := p.insist(ctx, one); err != nil {
			return p.stream.conn.explain(describe(p.stream.cfg.Name, err))
		}
	}
	return nil
}

// insist publishes one parcel after what is there, whoever else publishes.
func (p *Publisher) insist(ctx context.Context, one *parcel) error {
	for try := 1; ; try++ {
		if p.tail == nil {
			tail, err := p.look(ctx)
			if err != nil {
				return err
			}
			p.tail = tail
		}
		p.expect(one.msg)
		ack, err := p.stream.conn.js.PublishMsg(ctx, one.msg, jetstream.WithRetryAttempts(0))
		if err == nil {
			p.tail.add(max(ack.Sequence, p.tail.last), []*parcel{one})
			return nil
		}
		p.tail = nil
		refusal, answered := errors.AsType[*jetstream.APIError](err)
		switch {
		case answered && (refusal.ErrorCode == codeWrongLast || refusal.ErrorCode == codeWrongLastBusy) && try < tries:
		case answered && (refusal.ErrorCode == codeTooLarge || refusal.ErrorCode == codeHeaderLarge):
			return p.oversized(ctx, one.event, refusal)
		case answered:
			return p.refused(refusal)
		default:
			return fmt.Errorf("publish event %s again: %w", one.event.ID, err)
		}
	}
}
