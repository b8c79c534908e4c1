// Package memory is a change log inside the process, for tests and for programs
// that make their own events. What it holds is gone with the process.
package memory

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fraiseql/observer"
)

// Log is a log of events and the [observer.Source] that reads it. Its methods
// may be called concurrently, and any number of streams may be open.
type Log struct {
	name string
	// epoch tells this log from one of the same name in an earlier process: a
	// position of that one must not skip the events of this one.
	epoch string

	mu      sync.Mutex
	entries []entry // ascending by seq, without gaps except where pruned
	last    uint64  // seq of the newest entry ever appended
	grown   chan struct{}
}

type entry struct {
	seq uint64
	msg observer.Message
}

var (
	_ observer.Source    = (*Log)(nil)
	_ observer.Refetcher = (*Log)(nil)
)

// New makes an empty log.
func New(name string) *Log {
	return &Log{name: name, epoch: rand.Text(), grown: make(chan struct{})}
}

// Name is the name given to [New].
func (l *Log) Name() string { return l.name }

// Append commits events together, in this order. They must have ids and must
// not be changed afterwards.
func (l *Log) Append(events ...*observer.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		l.last++
		l.entries = append(l.entries, entry{seq: l.last, msg: observer.Message{Event: e, Position: l.position(l.last)}})
	}
	l.wake()
}

// AppendMalformed commits an entry that is not an event: raw as JSON, and what
// is wrong with it.
func (l *Log) AppendMalformed(raw json.RawMessage, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	pos := l.position(l.last)
	l.entries = append(l.entries, entry{seq: l.last, msg: observer.Message{Position: pos, Malformed: &observer.Malformed{
		ID: "malformed:" + l.name + ":" + string(pos), Raw: slices.Clone(raw), Reason: reason, Source: l.name, Position: pos,
	}}})
	l.wake()
}

// wake tells every waiting stream. The caller holds mu.
func (l *Log) wake() {
	close(l.grown)
	l.grown = make(chan struct{})
}

// Len is how many entries the log holds.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// Prune drops the entries at and before a position, and says how many. A
// position of another log drops nothing.
func (l *Log) Prune(upTo observer.Position) (dropped int, err error) {
	seq, err := l.parse(upTo)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.index(seq)
	l.entries = slices.Clone(l.entries[n:]) // the old array would keep the dropped ones alive
	return n, nil
}

// index is that of the first entry after seq. The caller holds mu.
func (l *Log) index(seq uint64) int {
	i, found := slices.BinarySearchFunc(l.entries, seq, func(e entry, seq uint64) int {
		switch {
		case e.seq < seq:
			return -1
		case e.seq > seq:
			return 1
		}
		return 0
	})
	if found {
		i++
	}
	return i
}

func (l *Log) position(seq uint64) observer.Position {
	return observer.Position(l.epoch + ":" + strconv.FormatUint(seq, 10))
}

// parse gives 0, the beginning, for the zero position and for one of another
// log.
func (l *Log) parse(pos observer.Position) (uint64, error) {
	if pos == "" {
		return 0, nil
	}
	epoch, text, _ := strings.Cut(string(pos), ":")
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a position in a memory log", string(pos))
	}
	if epoch != l.epoch {
		return 0, nil
	}
	return seq, nil
}

// Open starts reading after a position. A position of another log, such as one
// that a checkpoint kept from an earlier process, starts from the beginning.
func (l *Log) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	seq, err := l.parse(after)
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", l.name, err)
	}
	return &stream{log: l, seq: seq}, nil
}

// Refetch gives the entry at a position, or an error that matches
// [observer.ErrNotFound].
func (l *Log) Refetch(_ context.Context, at observer.Position) (observer.Message, error) {
	seq, err := l.parse(at)
	if err != nil {
		return observer.Message{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.index(seq); seq > 0 && i > 0 && l.entries[i-1].seq == seq {
		return l.entries[i-1].msg, nil
	}
	return observer.Message{}, fmt.Errorf("entry %s of %s: %w", at, l.name, observer.ErrNotFound)
}

// stream is one reading of a log.
type stream struct {
	log    *Log
	seq    uint64
	closed bool
}

// Next gives the entry after the last one, waiting until there is one.
func (s *stream) Next(ctx context.Context) (observer.Message, error) {
	for {
		if err := ctx.Err(); err != nil {
			return observer.Message{}, err
		}
		if s.closed {
			return observer.Message{}, fmt.Errorf("read source %s: %w", s.log.name, os.ErrClosed)
		}
		e, grown := s.log.after(s.seq)
		if grown == nil {
			s.seq = e.seq
			return e.msg, nil
		}
		select {
		case <-ctx.Done():
		case <-grown:
		}
	}
}

// after is the first entry after seq, or a channel that is closed when there
// may be one.
func (l *Log) after(seq uint64) (entry, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := l.index(seq); i < len(l.entries) {
		return l.entries[i], nil
	}
	return entry{}, l.grown
}

// Close ends the stream. It may be called more than once.
func (s *stream) Close(context.Context) error {
	s.closed = true
	return nil
}
