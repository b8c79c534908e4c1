package topology

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/natsclient"
	"github.com/fraiseql/observer/transport/nats"
)

// PartitionName is the name of what reads a partition of the stream of cfg: that of
// its checkpoint and of its lease.
func PartitionName(cfg config.NATS, partition int) string {
	return nats.SourceName(cfg.ConsumerName, cfg.StreamName, partition)
}

// StreamPlace is where the stream of cfg is, without user and password.
func StreamPlace(cfg config.NATS) string {
	if cfg.IsEmbedded() {
		return config.Embedded
	}
	servers, err := natsclient.Servers(cfg.URL)
	if err != nil {
		return "" // it cannot be connected to either, which says why
	}
	places := make([]string, len(servers))
	for i, s := range servers {
		places[i] = s.Place
	}
	return strings.Join(places, ",")
}

// Backlog is what stands in a partition after a position.
type Backlog struct {
	Messages int64
	// Oldest is when the first of them was stored; zero when there is none.
	Oldest time.Time
	// Err is why the rest is not known.
	Err error
}

// ErrUnreachable matches the error of a server inside another process.
var ErrUnreachable = errors.New("an embedded server is reached by its own process alone")

// countedAtOnce is how many partitions are counted at the same time.
const countedAtOnce = 8

// Backlogs counts what stands in each partition of the stream of cfg after a
// position, one for each partition. It makes no stream and changes none. The error
// says why nothing is known.
func Backlogs(ctx context.Context, cfg config.NATS, after []observer.Position) (_ []Backlog, err error) {
	if cfg.IsEmbedded() {
		return nil, ErrUnreachable
	}
	s := newStream(cfg, nil, slog.New(slog.DiscardHandler))
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	there, err := s.describe(conn)
	if err == nil {
		err = there.Check(ctx)
	}
	if err != nil {
		return nil, err
	}
	list, places := make([]Backlog, len(after)), make(chan struct{}, countedAtOnce)
	var running sync.WaitGroup
	for i := range after {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			list[i] = s.backlog(ctx, there, i, after[i])
		})
	}
	running.Wait()
	return list, nil
}

func (s *stream) backlog(ctx context.Context, there *nats.Stream, partition int, after observer.Position) (b Backlog) {
	source, err := nats.NewSource(there, s.sourceConfig(partition))
	if err != nil {
		return Backlog{Err: err}
	}
	b.Messages, b.Oldest, b.Err = source.Backlog(ctx, after)
	return b
}
