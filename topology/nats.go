package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/transport/nats"
	"github.com/fraiseql/observer/transport/nats/embedded"
)

// stream is the connection of this process to the stream, made when it is first
// needed. It is safe for concurrent use.
type stream struct {
	cfg    config.NATS
	broken func(name string, b nats.Break)
	logger *slog.Logger

	connecting chan struct{} // has room while nobody connects
	ready      atomic.Pointer[nats.Stream]

	mu     sync.Mutex
	conn   *nats.Conn
	server *embedded.Server
}

func newStream(cfg config.NATS, broken func(string, nats.Break), logger *slog.Logger) *stream {
	return &stream{cfg: cfg, broken: broken, logger: logger, connecting: make(chan struct{}, 1)}
}

// get connects, and makes the stream or brings it up to its configuration, unless
// that was done.
func (s *stream) get(ctx context.Context) (*nats.Stream, error) {
	select {
	case s.connecting <- struct{}{}:
		defer func() { <-s.connecting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if ready := s.ready.Load(); ready != nil {
		return ready, nil
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	made, err := s.describe(conn)
	if err == nil {
		err = made.Ensure(ctx)
	}
	if err != nil {
		return nil, err
	}
	s.ready.Store(made)
	return made, nil
}

// describe is the stream as it is configured.
func (s *stream) describe(conn *nats.Conn) (*nats.Stream, error) {
	j := s.cfg.JetStream
	return nats.NewStream(conn, nats.StreamConfig{
		Name: s.cfg.StreamName, SubjectPrefix: s.cfg.SubjectPrefix, Partitions: s.cfg.Partitions,
		DedupWindow: j.DedupWindow, MaxAge: j.MaxAge, MaxMsgs: j.MaxMsgs, MaxBytes: j.MaxBytes, Replicas: j.Replicas,
	})
}

func (s *stream) connect(ctx context.Context) (*nats.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		return s.conn, nil
	}
	cfg := nats.Config{
		URL: s.cfg.URL, User: s.cfg.User, Password: s.cfg.Password, Token: s.cfg.Token, NKeySeed: s.cfg.NKeySeed,
		CredentialsFile: s.cfg.CredentialsFile,
		CAFile:          s.cfg.TLS.CA, CertFile: s.cfg.TLS.Cert, KeyFile: s.cfg.TLS.Key, ServerName: s.cfg.TLS.ServerName, AllowPlaintext: s.cfg.AllowPlaintext, Logger: s.logger,
	}
	if s.cfg.IsEmbedded() {
		if err := s.embed(); err != nil {
			return nil, err
		}
		cfg = nats.Config{InProcess: s.server, Logger: s.logger}
	}
	conn, err := nats.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s.conn = conn
	return conn, nil
}

func (s *stream) embed() error {
	if s.server != nil {
		return nil
	}
	server, err := embedded.Start(embedded.Config{StoreDir: s.cfg.StoreDir, Logger: s.logger})
	if err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	s.server = server
	return nil
}

// keepTrying gets the stream, however long that takes. An error means that no
// waiting helps, unless ctx ended.
func (s *stream) keepTrying(ctx context.Context) (*nats.Stream, error) {
	wait := backoff.Policy{Initial: 100 * time.Millisecond, Max: 5 * time.Second}
	for failures := 1; ; failures++ {
		ready, err := s.get(ctx)
		if err == nil || !observer.Retryable(err) || ctx.Err() != nil {
			return ready, err
		}
		s.logger.Warn("the stream cannot be used; trying again", "stream", s.cfg.StreamName, "error", err, "failures", failures)
		if !backoff.Wait(ctx, nil, wait.Delay(failures)) {
			return nil, ctx.Err()
		}
	}
}

// partitions are the names of what workers share, none while the stream is not
// known.
func (s *stream) partitions() []string {
	ready := s.ready.Load()
	if ready == nil {
		return nil
	}
	names := make([]string, ready.Partitions())
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	return names
}

// group begins the names of the leases and the checkpoints of its workers.
func (s *stream) group() string {
	return strings.TrimSuffix(nats.SourceName(s.cfg.ConsumerName, s.cfg.StreamName, 0), "0")
}

// source reads a partition.
func (s *stream) source(ctx context.Context, partition int) (*nats.Source, error) {
	return s.sourceFor(ctx, s.cfg.ConsumerName, partition)
}

// sourceFor is the partition as the workers of a consumer read it.
func (s *stream) sourceFor(ctx context.Context, consumer string, partition int) (*nats.Source, error) {
	ready, err := s.get(ctx)
	if err != nil {
		return nil, err
	}
	cfg := s.sourceConfig(partition)
	cfg.Consumer = consumer
	return nats.NewSource(ready, cfg)
}

func (s *stream) sourceConfig(partition int) nats.SourceConfig {
	return nats.SourceConfig{
		Consumer: s.cfg.ConsumerName, Partition: partition, Passing: passing,
		Entities: s.cfg.Entities, Databases: s.cfg.Databases, Tenants: s.cfg.Tenants,
		Broken: s.broken, Logger: s.logger,
	}
}

// passing is how often an idle partition moves its checkpoint.
const passing = 10 * time.Second

// sourceOf finds the source with a name, for an entry that is to be read again.
func (s *stream) sourceOf(ctx context.Context, name string) (*nats.Source, error) {
	number, ok := strings.CutPrefix(name, s.group())
	partition, err := strconv.Atoi(number)
	if !ok || err != nil {
		return nil, observer.ErrNotFound
	}
	return s.source(ctx, partition)
}

func (s *stream) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.server != nil {
		errs = append(errs, s.server.Close())
	}
	return errors.Join(errs...)
}
