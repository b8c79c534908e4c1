package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// reader is one reading of a partition: a consumer on the server that this
// reader alone uses, and the messages that it asked for in advance.
//
// The jetstream package has an ordered consumer, which makes a new consumer by
// itself when something is wrong and goes on from the next sequence, also where
// the stream is another one by then. This one ends instead, and whoever reads it
// opens it again from a position, which is compared with the stream.
type reader struct {
	src  *Source
	conn *client.Conn
	life int64
	// consumer is its name on the server, "" until there is one.
	consumer string
	pull     *pull
	passing  *time.Ticker // nil: never

	watching sync.WaitGroup
	done     chan struct{} // closed by Close
	failed   chan struct{} // closed by fail
	err      error         // why, to be read after failed
	failOnce sync.Once
	closed   bool

	// given is the last position that Next gave, or that it was opened at.
	given point
	// skipped counts what was passed over since.
	skipped int
	over    point
}

func newReader(s *Source) *reader {
	r := &reader{src: s, conn: s.stream.conn.nc, done: make(chan struct{}), failed: make(chan struct{})}
	r.pull = newPull(s, r.fail)
	return r
}

// fail ends the stream. What was received before is still given.
func (r *reader) fail(err error) {
	r.failOnce.Do(func() {
		r.err = err
		close(r.failed)
	})
}

// open finds the place in the stream and starts a consumer there.
func (r *reader) open(ctx context.Context, after observer.Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// Whatever replaces the stream on a server that stops for it ends a connection.
	r.watch()
	if !r.conn.IsConnected() {
		return fmt.Errorf("not connected to the server: %s", r.conn.Status())
	}
	info, err := r.src.info(ctx)
	if err != nil {
		return err
	}
	start, broken, err := r.src.locate(ctx, info, after)
	if err != nil {
		return err
	}
	r.life = info.Created.UnixNano()
	r.pull.last.life = r.life
	if p, err := parsePosition(after); err == nil && broken == nil {
		r.given = p
	}
	if err := r.consume(ctx, start); err != nil {
		return err
	}
	// The consumer may belong to a stream that replaced the one that was looked at.
	again, err := r.src.info(ctx)
	if err != nil {
		return err
	}
	if changed(info, again, start) {
		return errors.New("the stream changed while it was opened")
	}
	if broken != nil {
		r.src.report(*broken)
	}
	if r.src.cfg.Passing > 0 {
		r.passing = time.NewTicker(r.src.cfg.Passing)
	}
	return r.pull.start()
}

// changed reports whether what was found in a stream no longer holds.
func changed(before, now *jetstream.StreamInfo, start beginning) bool {
	was, is := before.State, now.State
	return !now.Created.Equal(before.Created) || is.LastSeq < was.LastSeq ||
		start.seq > 0 && was.FirstSeq <= start.seq && start.seq < is.FirstSeq
}

// consume makes the consumer and subscribes to what it will send.
func (r *reader) consume(ctx context.Context, start beginning) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	c, err := r.src.stream.conn.js.CreateConsumer(ctx, r.src.stream.Name(), r.src.consumerConfig(start, "reads for "))
	if err != nil {
		return fmt.Errorf("create a consumer on stream %s: %w", r.src.stream.Name(), err)
	}
	r.consumer = c.CachedInfo().Name
	return r.pull.subscribe(r.consumer, c.CachedInfo().NumPending)
}

// consumerConfig is a consumer of the partition that nobody acknowledges to, and
// that the server drops when it is not used.
func (s *Source) consumerConfig(start beginning, does string) jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		Description:       does + s.name,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: time.Minute,
		MemoryStorage:     true,
		Replicas:          1,
	}
	if len(s.filters) == 1 {
		cfg.FilterSubject = s.filters[0]
	} else {
		cfg.FilterSubjects = s.filters
	}
	start.configure(&cfg)
	return cfg
}

// watch ends the stream when the connection is lost, or silent for too long.
func (r *reader) watch() {
	status := r.conn.StatusChanged(client.RECONNECTING, client.CLOSED)
	ticker := time.NewTicker(r.src.cfg.Heartbeat)
	r.watching.Go(func() {
		defer r.conn.RemoveStatusListener(status)
		defer ticker.Stop()
		for {
			select {
			case <-r.done:
				return
			case s := <-status:
				r.fail(fmt.Errorf("the connection to the server was lost: %s", s))
				return
			case <-ticker.C:
				if r.pull.silent(3 * r.src.cfg.Heartbeat) {
					r.fail(fmt.Errorf("nothing was heard of the server for %s", 3*r.src.cfg.Heartbeat))
					return
				}
			}
		}
	})
}

// Close ends the reading and removes the consumer, if the server can be reached;
// else the server removes it after a minute.
func (r *reader) Close(ctx context.Context) error {
	if r.closed {
		return nil
	}
	r.closed = true
	close(r.done)
	r.watching.Wait()
	if r.passing != nil {
		r.passing.Stop()
	}
	r.pull.unsubscribe()
	select {
	case <-r.failed:
		return nil
	default:
	}
	if r.consumer == "" || !r.conn.IsConnected() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := r.src.stream.conn.js.DeleteConsumer(ctx, r.src.stream.Name(), r.consumer)
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("remove consumer %s of stream %s: %w", r.consumer, r.src.stream.Name(), err)
	}
	return nil
}
