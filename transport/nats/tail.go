package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// tail is what a publisher knows of the messages of its database: the sequence
// of the last, and the ids of the last ones up to it.
type tail struct {
	last  uint64
	ids   map[string]struct{}
	ring  []string // the ids by age, from next on; as long as it may be
	next  int
	fresh bool // nothing was added since it was read
}

func newTail(last uint64, depth int) *tail {
	return &tail{last: last, ids: map[string]struct{}{}, ring: make([]string, depth), fresh: true}
}

// remember adds an id, and forgets the oldest.
func (t *tail) remember(id string) {
	delete(t.ids, t.ring[t.next])
	t.ring[t.next] = id
	t.ids[id] = struct{}{}
	t.next = (t.next + 1) % len(t.ring)
}

// add adds what was published.
func (t *tail) add(last uint64, parcels []*parcel) {
	t.last, t.fresh = last, false
	for _, one := range parcels {
		one.done = true
		t.remember(one.id)
	}
}

// unknown are the parcels that are not done and not known to be in the stream.
func (t *tail) unknown(parcels []*parcel) []*parcel {
	rest := make([]*parcel, 0, len(parcels))
	for _, one := range parcels {
		if _, known := t.ids[one.id]; !known && !one.done {
			rest = append(rest, one)
		}
	}
	return rest
}

// lookTime bounds the reading of a tail.
const lookTime = 30 * time.Second

// look reads the tail. The sequence of the last message comes from a reading that
// sees a batch whole or not at all; the ids are those up to it.
func (p *Publisher) look(ctx context.Context) (*tail, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTime, errors.New("no answer from the server within "+lookTime.String()))
	defer cancel()
	ctx, end := p.stream.conn.attended(ctx)
	defer end()
	t, err := p.lookNow(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return t, err
}

func (p *Publisher) lookNow(ctx context.Context) (*tail, error) {
	asked, cancel := context.WithTimeoutCause(ctx, p.cfg.AnswerTime, fmt.Errorf("no answer within %s: %w", p.cfg.AnswerTime, client.ErrTimeout))
	defer cancel()
	stream, last, err := p.lastMessage(asked)
	if err != nil && asked.Err() != nil {
		err = context.Cause(asked)
	}
	t := newTail(last, p.cfg.Recall)
	if err != nil || last == 0 {
		return t, err
	}
	if err := p.recall(ctx, stream, t); err != nil {
		return nil, fmt.Errorf("read back what is published of database %s: %w", p.cfg.Database, err)
	}
	return t, nil
}

// lastMessage is the sequence of the last message of the database, 0 when there
// is none, or no stream: publishing makes it.
func (p *Publisher) lastMessage(ctx context.Context) (jetstream.Stream, uint64, error) {
	stream, err := p.stream.conn.js.Stream(ctx, p.stream.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	last, err := stream.GetLastMsgForSubject(ctx, p.filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return stream, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the last message of database %s: %w", p.cfg.Database, err)
	}
	return stream, last.Sequence, nil
}

// recall reads the ids up to the last message.
func (p *Publisher) recall(ctx context.Context, stream jetstream.Stream, t *tail) error {
	consumer, pending, err := p.reader(ctx, stream, t.last)
	if err != nil {
		return err
	}
	defer func() {
		// The server removes it soon if this does not.
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = stream.DeleteConsumer(ctx, consumer.CachedInfo().Name)
	}()
	const atOnce = 10_000
	for pending > 0 {
		messages, err := consumer.Fetch(int(min(pending, atOnce)), jetstream.FetchMaxWait(p.cfg.AnswerTime))
		if err != nil {
			return err
		}
		before := pending
		for msg := range messages.Messages() {
			meta, err := msg.Metadata()
			if err != nil {
				return err
			}
			if meta.Sequence.Stream > t.last {
				return nil // all up to it are read
			}
			t.remember(eventID(msg.Headers()))
			if meta.Sequence.Stream == t.last {
				return nil
			}
			pending = meta.NumPending
		}
		if err := errors.Join(messages.Error(), ctx.Err()); err != nil {
			return err
		}
		if pending == before {
			return errors.New("the server delivers nothing")
		}
	}
	return errors.New("the last message was removed meanwhile, or a replica does not have it yet")
}

// reader makes a consumer of headers that begins as many messages before the
// last as are to be read back, or up to twice as many. Messages of other
// databases lie between them: it tries until it has enough.
func (p *Publisher) reader(ctx context.Context, stream jetstream.Stream, last uint64) (jetstream.Consumer, uint64, error) {
	first := max(1, stream.CachedInfo().State.FirstSeq)
	for back := uint64(p.cfg.Recall); ; back *= 2 { //nolint:gosec // it is positive
		start := first
		if last >= first+back {
			start = last - back + 1
		}
		asked, cancel := context.WithTimeout(ctx, p.cfg.AnswerTime)
		consumer, err := stream.CreateConsumer(asked, jetstream.ConsumerConfig{
			Description: "fraiseql-observer: what is published of database " + p.cfg.Database, FilterSubject: p.filter, HeadersOnly: true,
			DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: start, AckPolicy: jetstream.AckNonePolicy,
			MemoryStorage: true, Replicas: 1, InactiveThreshold: lookTime,
		})
		cancel()
		if err != nil {
			return nil, 0, err
		}
		info := consumer.CachedInfo()
		if start == first || info.NumPending >= uint64(p.cfg.Recall) { //nolint:gosec // it is positive
			return consumer, info.NumPending, nil
		}
		if err := stream.DeleteConsumer(ctx, info.Name); err != nil {
			return nil, 0, err
		}
	}
}
