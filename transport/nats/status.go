package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// Head is the position of the newest message of the stream: reading after it
// gives only what is published from now on.
func (s *Source) Head(ctx context.Context) (observer.Position, error) {
	info, err := s.info(ctx)
	if err != nil {
		return "", err
	}
	return point{life: info.Created.UnixNano(), seq: info.State.LastSeq, at: info.State.LastTime.UnixNano()}.position(), nil
}

// Backlog counts the messages that [Source.Open] would read after a position, and
// says when the first of them was stored; the zero time when there is none. It
// counts those that are passed over for their tenant, too. It reports no break.
func (s *Source) Backlog(ctx context.Context, after observer.Position) (messages int64, oldest time.Time, err error) {
	info, err := s.info(ctx)
	if err != nil {
		return 0, oldest, err
	}
	start, _, err := s.locate(ctx, info, after)
	if err != nil {
		return 0, oldest, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// A consumer that nobody reads: the server counts what stands before it.
	c, err := s.stream.conn.js.CreateConsumer(ctx, s.stream.Name(), s.consumerConfig(start, "counts for "))
	if err != nil {
		return 0, oldest, fmt.Errorf("count what is behind on stream %s: %w", s.stream.Name(), err)
	}
	defer func() {
		_ = s.stream.conn.js.DeleteConsumer(context.WithoutCancel(ctx), s.stream.Name(), c.CachedInfo().Name)
	}()
	n := c.CachedInfo().NumPending
	if n == 0 {
		return 0, oldest, nil
	}
	oldest, err = s.first(ctx, c)
	return int64(n), oldest, err //nolint:gosec // a stream holds no 2^63 messages
}

// first is when the first message that c would give was stored.
func (s *Source) first(ctx context.Context, c jetstream.Consumer) (at time.Time, err error) {
	batch, err := c.FetchNoWait(1)
	if err != nil {
		return at, fmt.Errorf("read what is behind on stream %s: %w", s.stream.Name(), err)
	}
	select {
	case m, ok := <-batch.Messages():
		if !ok {
			return at, batch.Error()
		}
		meta, err := m.Metadata()
		if err != nil {
			return at, err
		}
		return meta.Timestamp, nil
	case <-ctx.Done():
		return at, ctx.Err()
	}
}

// Refetch reads the message at a position again. One that is gone, or that stands
// in a stream that was replaced since, gives an error that matches
// [observer.ErrNotFound].
func (s *Source) Refetch(ctx context.Context, at observer.Position) (msg observer.Message, err error) {
	p, err := parsePosition(at)
	if err != nil {
		return msg, err
	}
	gone := fmt.Errorf("message %d of stream %s: %w: the stream was replaced since", p.seq, s.stream.Name(), observer.ErrNotFound)
	info, err := s.info(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && info.Created.UnixNano() != p.life {
		return msg, gone
	}
	if err != nil {
		return msg, err
	}
	m, err := s.get(ctx, p.seq)
	if err != nil {
		return msg, err
	}
	if m.at != p.at {
		return msg, gone
	}
	m.life = p.life
	return s.message(m), nil
}
