package nats

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fraiseql/observer"
)

// Next gives the next message of the partition that is not passed over, or, when
// the source is to say it, how far the partition was passed.
func (r *reader) Next(ctx context.Context) (observer.Message, error) {
	for {
		if err := ctx.Err(); err != nil {
			return observer.Message{}, err
		}
		if r.closed {
			return observer.Message{}, fmt.Errorf("read source %s: %w", r.src.name, os.ErrClosed)
		}
		a, err := r.wait(ctx)
		if err != nil {
			return observer.Message{}, err
		}
		msg, ok, err := r.take(ctx, a)
		if err != nil {
			return observer.Message{}, r.src.failure("read", err)
		}
		if ok {
			return msg, nil
		}
	}
}

// wait waits for what arrives, and gives nil when it is time to say how far the
// partition was passed.
func (r *reader) wait(ctx context.Context) (*arrival, error) {
	select {
	case a := <-r.pull.arrived:
		return a, nil
	default:
	}
	var tick <-chan time.Time
	if r.passing != nil {
		tick = r.passing.C
	}
	select {
	case a := <-r.pull.arrived:
		return a, nil
	case <-tick:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.failed:
	}
	// What arrived before is not lost with the stream that it came from.
	select {
	case a := <-r.pull.arrived:
		return a, nil
	default:
		return nil, r.src.failure("read", r.err)
	}
}

// take makes a message of what arrived; ok is false when it is none to give.
func (r *reader) take(ctx context.Context, a *arrival) (msg observer.Message, ok bool, err error) {
	if a == nil {
		return r.progress(ctx)
	}
	r.pull.took()
	if a.gap != nil {
		if err := r.check(ctx, *a.gap); err != nil {
			return msg, false, err
		}
	}
	if a.record == nil {
		return msg, false, nil
	}
	msg = r.src.message(a.record)
	if e := msg.Event; e != nil && r.src.tenants != nil && !r.src.tenants[e.TenantID] {
		r.over = a.point
		if r.skipped++; r.passing != nil && r.skipped >= r.src.cfg.BatchSize {
			return r.moved(r.over), true, nil
		}
		return msg, false, nil
	}
	r.given, r.skipped = a.point, 0
	return msg, true, nil
}

// moved is a message that says only that everything up to p was given or passed
// over.
func (r *reader) moved(p point) observer.Message {
	r.given, r.skipped = p, 0
	return observer.Message{Position: p.position()}
}

// progress says how far the partition was passed, if that is further than what
// was given.
func (r *reader) progress(ctx context.Context) (msg observer.Message, ok bool, err error) {
	far := r.pull.horizon.Load()
	if len(r.pull.arrived) > 0 {
		return msg, false, nil // what stands before the horizon comes first
	}
	if far > max(r.given.seq, r.over.seq) {
		m, err := r.src.get(ctx, far)
		switch {
		case err == nil:
			m.life = r.life
			return r.moved(m.point), true, nil
		case !errors.Is(err, observer.ErrNotFound):
			return msg, false, err
		}
	}
	if r.over.seq > r.given.seq {
		return r.moved(r.over), true, nil
	}
	return msg, false, nil
}

// check reports a gap if messages are gone from the front of the stream. The
// count of the server, by which it was noticed, is not exact enough for that.
func (r *reader) check(ctx context.Context, g gap) error {
	info, err := r.src.info(ctx)
	if err != nil {
		return err
	}
	if first := info.State.FirstSeq; first > max(g.after.seq, g.seen)+1 {
		r.src.report(Break{Kind: Removed, After: g.after.position(), Reason: fmt.Sprintf(
			"messages up to %d were removed from the stream before they were read, %d of them of this partition", first-1, g.missing)})
	}
	return nil
}
