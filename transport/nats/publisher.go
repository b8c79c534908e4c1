package nats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/batch"
)

// Publisher is the handler that puts the events of one database into the stream,
// each once and in the order in which it is given them, whoever else does the
// same at the same time. It is made with [NewPublisher] and safe for concurrent
// use.
//
// It sends atomic batches: the server stores all messages of one or none. It
// knows L, the sequence of the last message of its database, and the ids of the
// messages up to L, back to a certain depth; messages whose id it knows are not
// sent again. Each batch says that it is to follow L (Nats-Expected-Last-Subject-Sequence
// over all subjects of the database), and the answer to it is the next L. Server
// and publisher so compare and swap, and everything else follows:
//
//   - A listener that was paused, lost its lease and wakes up ("zombie") sends a
//     batch that follows an L which has been passed: it is refused. When the new
//     listener has published nothing yet, the batch is accepted; then that of the
//     new one is refused, it reads what is there and leaves out what it finds. In
//     both cases the stream has each event once, in order.
//   - The process dies between the answer and the checkpoint: the events come
//     again, after seconds or days. What is in the stream is read back before the
//     first batch, so the age of the duplicate window does not matter.
//   - The answer is lost, or the server or its leader goes away before it: nobody
//     knows whether the batch was stored. The publisher forgets what it knew, reads
//     L and the ids again, and goes on. A batch that was on its way and is stored
//     after that reading moves L, so that the next one is refused and all is read
//     once more. A leader answers for a new batch only after it has applied all
//     that the one before it had accepted, and while a batch is accepted and not
//     applied it refuses every other one with the same filter: therefore the first
//     and the last message of a batch carry the expectation. A reading from a
//     replica that lags gives an L that is too low, and a batch that is refused.
//   - The server dies in the middle of storing a batch: it stores the rest before
//     it serves again, or nothing.
//   - Half of a batch is sent when the connection breaks: the server waits for
//     the rest for 10 s and forgets it. Another try has another batch id. The client
//     keeps nothing to send it later.
//   - The stream is deleted, purged or put back to an older copy: L does not match,
//     what is there is read, and the publisher goes on after it. Messages that got
//     lost that way are for the reconciler; an id that the server still remembers
//     although its message is gone does not stop it.
//
// The ids are those of the events (Nats-Msg-Id), so that the server refuses
// what is deeper in the stream than was read back, for the time of its duplicate
// window. Then each message of the batch is sent alone, with the same
// expectation, to see which it is.
type Publisher struct {
	stream *Stream
	cfg    PublisherConfig
	filter string // of all its messages
	// database is its name as the headers have it.
	database string
	batches  *batch.Batcher[*observer.Event, struct{}]

	busy  chan struct{} // held while one batch is published
	tail  *tail         // what is in the stream; nil when that is to be read
	limit int           // how many messages a batch has at most
}

// PublisherConfig says what a publisher publishes and how.
type PublisherConfig struct {
	// Database is the name of the database in subjects and headers. Required.
	Database string
	// Oversized takes an event that no message can carry: it is too long for the
	// server, or cannot be written as JSON. nil says that it is durably kept
	// elsewhere, and the publisher goes on without it. Required.
	Oversized func(ctx context.Context, e *observer.Event, why error) error
	// MaxPayload bounds a message and its headers, in bytes, below what the server
	// takes.
	MaxPayload int
	// BatchSize bounds the messages of a batch; 1000, the most that servers take by
	// default, when 0. When a server refuses as many, fewer are sent from then on.
	// BatchBytes bounds their size, 8 MiB when 0; a single message may be longer.
	BatchSize, BatchBytes int
	// Recall is how many messages of the database are read back to find out what
	// is in the stream already; 50,000 when 0. It must cover all that can come
	// again: what a relay has in flight, and what was published since it last saved
	// its checkpoint.
	Recall int
	// AnswerTime is how long an answer of the server is waited for; 10 s when 0.
	AnswerTime time.Duration
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

func (c PublisherConfig) withDefaults() PublisherConfig {
	if c.BatchSize <= 0 {
		c.BatchSize = 1000
	}
	if c.BatchBytes <= 0 {
		c.BatchBytes = 8 << 20
	}
	if c.Recall <= 0 {
		c.Recall = 50_000
	}
	if c.AnswerTime <= 0 {
		c.AnswerTime = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("database", c.Database)
	return c
}

var (
	_ observer.Handler      = (*Publisher)(nil)
	_ observer.BatchHandler = (*Publisher)(nil)
)

// NewPublisher makes a publisher to a stream. It asks the server nothing: what
// is in the stream is read before the first batch.
func NewPublisher(stream *Stream, cfg PublisherConfig) (*Publisher, error) {
	if cfg.Database == "" || cfg.Oversized == nil {
		return nil, errors.New("nats publisher: Database and Oversized are required")
	}
	cfg = cfg.withDefaults()
	p := &Publisher{stream: stream, cfg: cfg, filter: stream.OfDatabase(cfg.Database), database: headerText(cfg.Database), busy: make(chan struct{}, 1), limit: cfg.BatchSize}
	p.batches = batch.New(batch.Config[*observer.Event, struct{}]{
		Size: cfg.BatchSize, AtOnce: 1, Timeout: patience,
		Run: func(ctx context.Context, events []*observer.Event) ([]struct{}, error) {
			return make([]struct{}, len(events)), p.HandleBatch(ctx, events)
		},
	})
	return p, nil
}

// patience bounds what is done for calls of [Publisher.Handle] together.
const patience = time.Minute

// Handle publishes one event. Concurrent calls share batches.
func (p *Publisher) Handle(ctx context.Context, e *observer.Event) error {
	_, err := p.batches.Do(ctx, e)
	return err
}

// HandleBatch publishes events in their order. nil says that each is in the
// stream, or was taken by Oversized; after an error some may be, and are found
// when they come again. Errors may pass, among them [ErrStreamFull].
func (p *Publisher) HandleBatch(ctx context.Context, events []*observer.Event) error {
	select {
	case p.busy <- struct{}{}:
		defer func() { <-p.busy }()
	case <-ctx.Done():
		return ctx.Err()
	}
	all, pack := p.parcels(events)
	if len(all) <= packAtOnce {
		pack(nil)
		return p.partly(all, p.publish(ctx, all))
	}
	stop := make(chan struct{})
	var packing sync.WaitGroup
	packing.Go(func() { pack(stop) })
	defer packing.Wait()
	defer close(stop)
	return p.partly(all, p.publish(ctx, all))
}

// partly says which of the parcels are in the stream although there is an error.
// They need not come again: workers may have handled them, and somebody may have
// purged them to make room for the rest.
func (p *Publisher) partly(all []*parcel, err error) error {
	n := slices.IndexFunc(all, func(one *parcel) bool { return !one.done })
	return observer.Partly(n, p.stream.conn.explain(err))
}

// tries is how often one call begins anew after its knowledge of the stream
// proved wrong. Whoever calls waits and tries again after that.
const tries = 5

// publish puts parcels into the stream, in their order.
func (p *Publisher) publish(ctx context.Context, all []*parcel) error {
	if p.tail != nil && len(p.tail.unknown(all)) < len(all) {
		// Nothing that is known comes again, unless something went wrong: what is
		// left out is left out because it is there now.
		p.tail = nil
	}
	failures, before := 0, len(all)+1
	for {
		if p.tail == nil {
			tail, err := p.look(ctx)
			if err != nil {
				return describe(p.stream.cfg.Name, err)
			}
			p.tail = tail
		}
		rest := p.tail.unknown(all)
		if len(rest) == 0 {
			return nil
		}
		if len(rest) < before {
			failures, before = 0, len(rest)
		}
		if err := observer.Fence(ctx); err != nil {
			return err
		}
		sent, last, err := p.send(ctx, rest)
		if err == nil {
			p.tail.add(last, sent)
			p.limit = min(p.cfg.BatchSize, 2*p.limit) // what made batches small may be over
			continue
		}
		smaller, err := p.recover(ctx, sent, err)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if smaller {
			continue // which ends at one
		}
		if failures++; failures == tries {
			return fmt.Errorf("stream %s: others publish events of database %s, too", p.stream.cfg.Name, p.cfg.Database)
		}
	}
}
