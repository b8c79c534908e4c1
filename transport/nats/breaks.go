package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// BreakKind says in which way a stream does not continue what was read of it.
type BreakKind string

// The ways.
const (
	// Recreated: the stream was deleted and created again. It is read from its
	// beginning; what was handled before comes under the same ids.
	Recreated BreakKind = "recreated"
	// RolledBack: the stream was put back to an older copy. Reading goes on with
	// what was stored after the last message that was read.
	RolledBack BreakKind = "rolled_back"
	// Removed: messages behind the last one that was read are no longer in the
	// stream: it was purged, they were deleted, or they grew older than the stream
	// keeps them. Reading goes on behind them. Some may be of this partition.
	Removed BreakKind = "removed"
)

// Break is a place at which a stream does not continue what was read of it, so
// that events may be missing: a reconciler compares the change log with what was
// handled.
type Break struct {
	Kind BreakKind
	// After is the position behind which it is.
	After observer.Position
	// Reason says what was found, for a person.
	Reason string
}

// beginning is where a consumer starts to read.
type beginning struct {
	// seq is the first sequence to read, when from is zero.
	seq uint64
	// from is the time from which messages are read.
	from time.Time
}

func (b beginning) configure(c *jetstream.ConsumerConfig) {
	switch {
	case !b.from.IsZero():
		c.DeliverPolicy, c.OptStartTime = jetstream.DeliverByStartTimePolicy, &b.from
	case b.seq > 0:
		c.DeliverPolicy, c.OptStartSeq = jetstream.DeliverByStartSequencePolicy, b.seq
	default:
		c.DeliverPolicy = jetstream.DeliverAllPolicy
	}
}

// locate says where to go on after a position, and what is broken there; nil
// when nothing is.
func (s *Source) locate(ctx context.Context, info *jetstream.StreamInfo, after observer.Position) (beginning, *Break, error) {
	if after == "" {
		return beginning{}, nil, nil
	}
	p, err := parsePosition(after)
	if err != nil {
		return beginning{}, nil, err
	}
	broken := func(kind BreakKind, format string, args ...any) *Break {
		return &Break{Kind: kind, After: after, Reason: fmt.Sprintf(format, args...)}
	}
	state := info.State
	if p.life != info.Created.UnixNano() {
		return beginning{}, broken(Recreated, "the stream was deleted and created again at %s", info.Created.UTC().Format(time.RFC3339)), nil
	}
	later := beginning{from: time.Unix(0, p.at+1).UTC()}
	if state.LastSeq < p.seq {
		return later, broken(RolledBack, "the stream ends at message %d, and message %d was read", state.LastSeq, p.seq), nil
	}
	next := beginning{seq: p.seq + 1}
	if state.FirstSeq > p.seq+1 {
		return next, broken(Removed, "messages %d to %d are no longer in the stream", p.seq+1, state.FirstSeq-1), nil
	}
	if state.FirstSeq > p.seq || p.seq == 0 {
		return next, nil, nil // removed after it was handled, and nothing else was
	}
	m, err := s.get(ctx, p.seq)
	switch {
	case errors.Is(err, observer.ErrNotFound):
		// It was deleted by somebody, and nobody can tell what else was.
		return next, broken(Removed, "message %d, which was read, was deleted, and others may be", p.seq), nil
	case err != nil:
		return beginning{}, nil, err
	case !p.is(time.Unix(0, m.at), m.header.Get(jetstream.MsgIDHeader)):
		return later, broken(RolledBack, "message %d is another one than was read", p.seq), nil
	}
	return next, nil, nil
}
