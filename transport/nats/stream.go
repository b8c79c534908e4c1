package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// StreamConfig says what the stream is.
type StreamConfig struct {
	// Name is "fraiseql_events" when "".
	Name string
	// SubjectPrefix is what its subjects begin with; "fraiseql.mutation" when "".
	SubjectPrefix string
	// Partitions is over how many the entities spread, 32 when 0. It cannot be
	// changed later: the stream keeps it in its metadata.
	Partitions int
	// DedupWindow is for how long the server knows the ids of messages, 5 minutes
	// when 0. MaxAge is for how long it keeps messages, 7 days when 0, for ever
	// when negative.
	DedupWindow, MaxAge time.Duration
	// MaxMsgs and MaxBytes bound what it keeps, 10,000,000 and 10 GiB when 0, not
	// at all when negative. When it is full it takes nothing until something is old
	// enough to go.
	MaxMsgs, MaxBytes int64
	// Replicas is on how many servers of a cluster it is, 1 when 0.
	Replicas int
}

func (c StreamConfig) withDefaults() StreamConfig {
	c.Name = cmp.Or(c.Name, "fraiseql_events")
	c.SubjectPrefix = cmp.Or(c.SubjectPrefix, "fraiseql.mutation")
	c.Partitions = cmp.Or(c.Partitions, 32)
	c.DedupWindow = cmp.Or(c.DedupWindow, 5*time.Minute)
	c.MaxAge = max(0, cmp.Or(c.MaxAge, 7*24*time.Hour))
	c.MaxMsgs = max(-1, cmp.Or(c.MaxMsgs, 10_000_000))
	c.MaxBytes = max(-1, cmp.Or(c.MaxBytes, 10<<30))
	c.Replicas = cmp.Or(c.Replicas, 1)
	return c
}

// Keys of the stream's metadata, and the format that this package writes.
const (
	formatKey     = "fraiseql-observer.format"
	partitionsKey = "fraiseql-observer.partitions"
	streamFormat  = "1"
)

// Stream is the stream that carries events. It is made with [NewStream] and safe
// for concurrent use.
type Stream struct {
	Subjects
	conn *Conn
	cfg  StreamConfig
}

// StreamState is what a stream has.
type StreamState struct {
	// Created changes when the stream is deleted and made again.
	Created time.Time
	// FirstSeq and LastSeq are the sequences of its first and last message. LastSeq
	// stays when messages are removed.
	FirstSeq, LastSeq uint64
	Msgs, Bytes       uint64
}

// NewStream checks a configuration and asks the server nothing. An error is
// [observer.Permanent].
func NewStream(conn *Conn, cfg StreamConfig) (*Stream, error) {
	cfg = cfg.withDefaults()
	subjects, err := NewSubjects(cfg.SubjectPrefix, cfg.Partitions)
	switch {
	case err != nil:
	case strings.ContainsFunc(cfg.Name, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`.*>/\`, r) }):
		err = fmt.Errorf("stream name %q: use no blanks and none of . * > / \\", cfg.Name)
	case cfg.DedupWindow < 0, cfg.MaxAge > 0 && cfg.DedupWindow > cfg.MaxAge:
		err = fmt.Errorf("stream %s: a duplicate window of %s with a maximum age of %s: use a window within the age", cfg.Name, cfg.DedupWindow, cfg.MaxAge)
	}
	if err != nil {
		return nil, observer.Permanent(observer.ReasonPermanent, err)
	}
	return &Stream{Subjects: subjects, conn: conn, cfg: cfg}, nil
}

// Name is the name of the stream.
func (s *Stream) Name() string { return s.cfg.Name }

// Ensure makes the stream, or brings it up to its configuration. What would lose
// messages or their order is refused, with an error that is [observer.Permanent]
// and says what there is, what was wanted and what to do. Any number of processes
// may call it at the same time.
func (s *Stream) Ensure(ctx context.Context) error {
	if err := checkVersion(s.conn.nc.ConnectedServerVersion()); err != nil {
		return s.conn.explain(err)
	}
	for range 3 { // somebody else may make or delete it in between
		found, err := s.conn.js.Stream(ctx, s.cfg.Name)
		if err == nil {
			return s.conn.explain(s.update(ctx, found))
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return s.conn.explain(describe(s.cfg.Name, err))
		}
		made, err := s.conn.js.CreateStream(ctx, s.wanted(jetstream.StreamConfig{}))
		switch {
		case err == nil:
			return s.conn.explain(s.accept(made))
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
			continue
		}
		return s.conn.explain(s.overlap(ctx, err))
	}
	return s.conn.explain(fmt.Errorf("stream %s is made and deleted by somebody else all the time", s.cfg.Name))
}

// Check finds out whether the stream is there and is one that [Stream.Ensure]
// would take. It makes nothing and changes nothing. The error matches
// [observer.ErrNotFound] when it is not there.
func (s *Stream) Check(ctx context.Context) error {
	found, err := s.conn.js.Stream(ctx, s.cfg.Name)
	if err == nil {
		err = s.refuse(found.CachedInfo(), time.Now())
	} else if err = describe(s.cfg.Name, err); errors.Is(err, jetstream.ErrStreamNotFound) {
		err = fmt.Errorf("%w: %w", observer.ErrNotFound, err)
	}
	return s.conn.explain(err)
}

// State is what the stream has. The error matches [observer.ErrNotFound] when it
// is not there.
func (s *Stream) State(ctx context.Context) (StreamState, error) {
	found, err := s.conn.js.Stream(ctx, s.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = fmt.Errorf("%w: %w", observer.ErrNotFound, describe(s.cfg.Name, err))
	}
	if err != nil {
		return StreamState{}, s.conn.explain(describe(s.cfg.Name, err))
	}
	info := found.CachedInfo()
	return StreamState{
		Created: info.Created, FirstSeq: info.State.FirstSeq, LastSeq: info.State.LastSeq, Msgs: info.State.Msgs, Bytes: info.State.Bytes,
	}, nil
}

// wanted is a configuration with what this package decides; the rest, such as
// placement and compression, stays.
func (s *Stream) wanted(cfg jetstream.StreamConfig) jetstream.StreamConfig {
	cfg.Name = s.cfg.Name
	cfg.Subjects = []string{s.All()}
	cfg.Storage, cfg.Retention, cfg.Discard = jetstream.FileStorage, jetstream.LimitsPolicy, jetstream.DiscardNew
	cfg.Replicas = s.cfg.Replicas
	cfg.MaxAge, cfg.Duplicates = s.cfg.MaxAge, s.cfg.DedupWindow
	cfg.MaxMsgs, cfg.MaxBytes = s.cfg.MaxMsgs, s.cfg.MaxBytes
	cfg.MaxMsgsPerSubject, cfg.DiscardNewPerSubject = -1, false
	cfg.MaxMsgSize, cfg.MaxConsumers, cfg.NoAck = -1, -1, false
	cfg.AllowDirect, cfg.AllowAtomicPublish = true, true
	cfg.Metadata = maps.Clone(cfg.Metadata)
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	cfg.Metadata[formatKey], cfg.Metadata[partitionsKey] = streamFormat, strconv.Itoa(s.cfg.Partitions)
	return cfg
}

// update brings a stream up to the configuration, if that loses nothing.
func (s *Stream) update(ctx context.Context, found jetstream.Stream) error {
	info := found.CachedInfo()
	if err := s.refuse(info, time.Now()); err != nil {
		return observer.Permanent(observer.ReasonPermanent, err)
	}
	wanted := s.wanted(info.Config)
	if same(info.Config, wanted) {
		return nil
	}
	updated, err := s.conn.js.UpdateStream(ctx, wanted)
	if err != nil {
		return describe(s.cfg.Name, err)
	}
	return s.accept(updated)
}

// same compares what [Stream.wanted] sets.
func same(a, b jetstream.StreamConfig) bool {
	return slices.Equal(a.Subjects, b.Subjects) && a.Storage == b.Storage && a.Retention == b.Retention && a.Discard == b.Discard &&
		a.Replicas == b.Replicas && a.MaxAge == b.MaxAge && a.Duplicates == b.Duplicates && a.MaxMsgs == b.MaxMsgs && a.MaxBytes == b.MaxBytes &&
		sameLimits(a, b) && a.Metadata[formatKey] == b.Metadata[formatKey] && a.Metadata[partitionsKey] == b.Metadata[partitionsKey]
}

func sameLimits(a, b jetstream.StreamConfig) bool {
	return a.MaxMsgsPerSubject == b.MaxMsgsPerSubject && a.DiscardNewPerSubject == b.DiscardNewPerSubject && a.MaxMsgSize == b.MaxMsgSize &&
		a.MaxConsumers == b.MaxConsumers && a.NoAck == b.NoAck && a.AllowDirect == b.AllowDirect && a.AllowAtomicPublish == b.AllowAtomicPublish
}

// accept checks that the server understood what publishing relies on.
func (s *Stream) accept(made jetstream.Stream) error {
	if !made.CachedInfo().Config.AllowAtomicPublish {
		return observer.Permanent(observer.ReasonPermanent, fmt.Errorf("stream %s takes no atomic batches: %s", s.cfg.Name, needVersion))
	}
	return nil
}

const needVersion = "nats-server 2.12 or newer is needed on every server of the cluster"

// checkVersion refuses servers without atomic batches.
func checkVersion(version string) error {
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil && version == "" {
		return errors.New("the connection is lost")
	} else if err != nil {
		return fmt.Errorf("the server's version %q cannot be read: %s", version, needVersion)
	}
	if major < 2 || major == 2 && minor < 12 {
		return observer.Permanent(observer.ReasonPermanent, fmt.Errorf("the server has version %s, which has no atomic batches: %s", version, needVersion))
	}
	return nil
}

// PurgeBefore removes the messages before a sequence.
func (s *Stream) PurgeBefore(ctx context.Context, seq uint64) error {
	found, err := s.conn.js.Stream(ctx, s.cfg.Name)
	if err == nil {
		err = found.Purge(ctx, jetstream.WithPurgeSequence(seq))
	}
	if err != nil {
		return s.conn.explain(fmt.Errorf("purge stream %s: %w", s.cfg.Name, describe(s.cfg.Name, err)))
	}
	return nil
}
