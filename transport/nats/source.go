package nats

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// SourceConfig says which partition of which stream to read and how. Zero fields
// have the stated defaults.
type SourceConfig struct {
	// Consumer names the group of workers that share the partitions; default
	// fraiseql_observer_worker. Groups with different names each get everything
	// and have progress of their own.
	Consumer string
	// Partition is the one to read, from 0.
	Partition int
	// Entities, Databases and Tenants select: an event is read when each of those
	// that is not empty has its entity type, database or tenant. The rest is
	// passed over. What has no readable tenant is not.
	Entities, Databases, Tenants []string
	// BatchSize is how many messages are asked for at once, default 500, and
	// BatchBytes how many bytes of them, default 4 MiB. Up to two batches are
	// held in memory. A message that is larger than that comes alone.
	BatchSize, BatchBytes int
	// Heartbeat is how often the server says that there is nothing; default 1
	// second, at least 100 milliseconds. A stream of which nothing was heard for
	// three times as long has failed.
	Heartbeat time.Duration
	// Passing is how often a stream that has nothing to read gives a message with
	// a position and nothing else, which says how far the partition was passed;
	// zero: never. See [Source].
	Passing time.Duration
	// Broken is told when the stream does not continue what was read; it must not
	// block. It may be told the same break again after a restart. Default: nobody.
	Broken func(name string, what Break)
	// Logger receives warnings; default: none.
	Logger *slog.Logger
}

func (c SourceConfig) withDefaults() SourceConfig {
	c.Consumer = cmp.Or(c.Consumer, "fraiseql_observer_worker")
	if c.BatchSize <= 0 {
		c.BatchSize = 500
	}
	if c.BatchBytes <= 0 {
		c.BatchBytes = 4 << 20
	}
	c.Heartbeat = max(cmp.Or(c.Heartbeat, time.Second), 100*time.Millisecond)
	if c.Broken == nil {
		c.Broken = func(string, Break) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Source reads one partition of a stream as a log: from a position, in order,
// acknowledging nothing. It implements [observer.Source] and
// [observer.Refetcher]. Its methods may be called concurrently.
//
// Invariant 3: what stands for an acknowledgement is the position that whoever
// reads it stores.
//
// Whoever reads it keeps the position and sees to it that one reads a partition
// at a time: a lease under the source's name. The server keeps nothing of a
// reader: neither a limit of deliveries nor another reader can make a message
// invisible, and what one group passes over is nobody else's matter.
//
// A position moves with the messages that are read. With SourceConfig.Passing it
// moves over what others read, too, so that what the stream drops by its age
// while the partition is idle does not look like messages that were lost.
type Source struct {
	stream  *Stream
	cfg     SourceConfig
	name    string
	filters []string
	tenants map[string]bool

	mu       sync.Mutex
	reported Break // so that each reopening does not report it again
}

var (
	_ observer.Source    = (*Source)(nil)
	_ observer.Refetcher = (*Source)(nil)
)

// NewSource prepares a source. It asks the server nothing. An error is one of
// the configuration and [observer.Permanent].
func NewSource(stream *Stream, cfg SourceConfig) (*Source, error) {
	cfg = cfg.withDefaults()
	if cfg.Partition < 0 || cfg.Partition >= stream.Partitions() {
		return nil, observer.Permanent(observer.ReasonPermanent,
			fmt.Errorf("partition %d of stream %s: it has %d, numbered from 0", cfg.Partition, stream.Name(), stream.Partitions()))
	}
	if strings.ContainsFunc(cfg.Consumer, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`.*>/\`, r) }) {
		return nil, observer.Permanent(observer.ReasonPermanent,
			fmt.Errorf("consumer name %q: use no blanks and none of . * > / \\", cfg.Consumer))
	}
	s := &Source{stream: stream, cfg: cfg, name: SourceName(cfg.Consumer, stream.Name(), cfg.Partition)}
	s.filters = filters(stream.Subjects, cfg)
	if len(cfg.Tenants) > 0 {
		s.tenants = map[string]bool{}
		for _, t := range cfg.Tenants {
			s.tenants[t] = true
		}
	}
	s.cfg.Logger = cfg.Logger.With("source", s.name)
	return s, nil
}

// SourceName is the name of the source that reads a partition of a stream for a
// consumer: that of its checkpoint and of its lease.
func SourceName(consumer, stream string, partition int) string {
	return "nats/" + consumer + "/" + stream + "/" + strconv.Itoa(partition)
}

// Name is that of [SourceName].
func (s *Source) Name() string { return s.name }

// requestTimeout bounds a request to the server where ctx does not.
const requestTimeout = 5 * time.Second

// Open starts reading after a position. A stream that does not continue it is
// read from where nothing is missed, and the [Break] is reported.
func (s *Source) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	r := newReader(s)
	if err := r.open(ctx, after); err != nil {
		_ = r.Close(context.WithoutCancel(ctx))
		return nil, s.failure("open", err)
	}
	return r, nil
}

// failure says of an error where it happened.
func (s *Source) failure(doing string, err error) error {
	return fmt.Errorf("%s source %s: %w", doing, s.name, s.stream.conn.explain(err))
}

// report says once that something is broken.
func (s *Source) report(b Break) {
	s.mu.Lock()
	known := s.reported == b
	s.reported = b
	s.mu.Unlock()
	if known {
		return
	}
	s.cfg.Logger.Warn("the stream does not continue what was read of it; events may be missing until they are published again",
		"break", string(b.Kind), "reason", b.Reason, "after", string(b.After), "stream", s.stream.Name(), "partition", s.cfg.Partition)
	s.cfg.Broken(s.name, b)
}

func (s *Source) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	found, err := s.stream.conn.js.Stream(ctx, s.stream.Name())
	if err != nil {
		return nil, describe(s.stream.Name(), err)
	}
	info := found.CachedInfo()
	if have, want := info.Config.Metadata[partitionsKey], strconv.Itoa(s.stream.Partitions()); have != want {
		return nil, fmt.Errorf("stream %s has %q partitions in its metadata, and %s are configured: entities would be missed; configure what it has",
			s.stream.Name(), have, want)
	}
	return info, nil
}

// get reads one message by its sequence; [observer.ErrNotFound] when it is not
// there.
func (s *Source) get(ctx context.Context, seq uint64) (*record, error) {
	return s.lookUp(ctx, lookUp{Seq: seq})
}

// lookUp selects a message: the one at Seq, or the first from there on whose
// subject matches.
type lookUp struct {
	Seq     uint64 `json:"seq"`
	Subject string `json:"next_by_subj,omitempty"`
}

// lookUp asks the leader of the stream. A client that may read from any replica,
// as the jetstream package does, could be told that a message is not there while
// it is.
func (s *Source) lookUp(ctx context.Context, which lookUp) (*record, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	body, err := json.Marshal(which)
	if err != nil {
		return nil, err
	}
	answer, err := s.stream.conn.nc.RequestWithContext(ctx, api(s.stream.conn.js, "STREAM.MSG.GET."+s.stream.Name()), body)
	if err != nil {
		return nil, fmt.Errorf("read message %d of stream %s: %w", which.Seq, s.stream.Name(), err)
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, fmt.Errorf("read message %d of stream %s: %w", which.Seq, s.stream.Name(), err)
	}
	switch {
	case got.Error != nil && got.Error.Code == http.StatusNotFound:
		return nil, fmt.Errorf("message %d of stream %s: %w", which.Seq, s.stream.Name(), observer.ErrNotFound)
	case got.Error != nil:
		return nil, fmt.Errorf("read message %d of stream %s: %w", which.Seq, s.stream.Name(), got.Error)
	case got.Message == nil:
		return nil, fmt.Errorf("read message %d of stream %s: the answer has none", which.Seq, s.stream.Name())
	}
	m := &record{point: point{seq: got.Message.Seq, at: got.Message.Time.UnixNano()}, subject: got.Message.Subject, data: got.Message.Data}
	if len(got.Message.Header) > 0 {
		if m.header, err = client.DecodeHeadersMsg(got.Message.Header); err != nil {
			return nil, fmt.Errorf("read the headers of message %d of stream %s: %w", which.Seq, s.stream.Name(), err)
		}
	}
	m.mark = mark(m.header.Get(client.MsgIdHdr))
	return m, nil
}

// api is the subject of a request to JetStream.
func api(js jetstream.JetStream, request string) string {
	opts := js.Options()
	if opts.Domain != "" {
		return "$JS." + opts.Domain + ".API." + request
	}
	return strings.TrimSuffix(cmp.Or(opts.APIPrefix, jetstream.DefaultAPIPrefix), ".") + "." + request
}
