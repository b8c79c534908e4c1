package nats

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// Reach is how far a partition goes, and a position in it.
type Reach struct {
	// Life names one life of the stream: it changes when the stream is deleted and
	// made again.
	Life string
	// Last is the sequence of the last message of the partition; 0 when there is
	// none.
	Last uint64
	// Passed: everything up to this sequence is at or before the position. It is 0 when
	// the stream does not continue what the position was read of.
	Passed uint64
}

// Reach compares a position with the partition. load gives the position; it is
// asked after the partition was looked at.
func (s *Source) Reach(ctx context.Context, load func(ctx context.Context) (observer.Position, error)) (r Reach, err error) {
	info, err := s.info(ctx)
	if err != nil {
		return r, err
	}
	r.Life = strconv.FormatInt(info.Created.UnixNano(), 36)
	if r.Last, err = s.last(ctx); err != nil {
		return r, err
	}
	after, err := load(ctx)
	if err != nil || after == "" {
		return r, err
	}
	at, err := parsePosition(after)
	if err != nil {
		return r, err
	}
	_, gap, err := s.locate(ctx, info, after)
	if err != nil {
		return r, err
	}
	if gap == nil || gap.Kind == Removed {
		r.Passed = at.seq
	}
	return r, nil
}

// last is the sequence of the last message of the partition, as the leader has it.
func (s *Source) last(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := s.stream.conn.js.Stream(ctx, s.stream.Name())
	if err == nil {
		var msg *jetstream.RawStreamMsg
		if msg, err = stream.GetLastMsgForSubject(ctx, s.stream.InPartition(s.cfg.Partition)); err == nil {
			return msg.Sequence, nil
		}
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	return 0, fmt.Errorf("read the last message of partition %d of stream %s: %w", s.cfg.Partition, s.stream.Name(), err)
}
