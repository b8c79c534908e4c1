package postgres

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
)

// batchBytes ends a batch of large rows early.
const batchBytes = 8 << 20

// longPosition is from where on the rows of a batch share one position, which
// begins before them: with thousands of holes, open behind a transaction that
// hangs, the text of each would be large.
const longPosition = 8 << 10

// stream is one reading of the log, over a connection of its own.
type stream struct {
	*Source

	conn *link
	log  *table
	wake wake
	slow slow

	// place is where the reading stands after everything in buf; exact is the
	// position of it, or of an earlier place while that would be long.
	place place
	exact observer.Position
	// holders had drawn from the sequence and not finished after the last poll;
	// nil when it left no hole.
	holders map[string]struct{}
	// looked is when the sequence was last asked how far it is.
	looked time.Time

	// polled is when the last poll began, and more tells that it left rows.
	polled time.Time
	more   bool
	// limit is how many rows the next poll asks for.
	limit int
	buf   []observer.Message
	// next indexes the first message of buf that was not given out.
	next   int
	closed bool
}

// errRestarted: the keys of these rows may have been used before, and rows with
// lower ones be new. Opening again finds out.
var errRestarted = errors.New("the sequence of the change log was restarted")

var errClosed = errors.New("the stream is closed")

// Next blocks until there is a message or ctx ends.
func (s *stream) Next(ctx context.Context) (observer.Message, error) {
	if s.closed {
		return observer.Message{}, errClosed
	}
	for s.next == len(s.buf) {
		if err := s.fill(ctx); err != nil {
			return observer.Message{}, err
		}
		if len(s.buf) > 0 {
			continue
		}
		if err := s.rest(ctx); err != nil {
			return observer.Message{}, err
		}
	}
	msg := s.buf[s.next]
	s.buf[s.next] = observer.Message{} // what was given out is the caller's to keep alive
	s.next++
	return msg, nil
}

// fill takes what the next snapshot shows.
func (s *stream) fill(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := s.patiently(ctx)
	defer cancel()
	if err := s.space(ctx); err != nil {
		return err
	}
	s.wake.told, s.conn.notified = s.conn.notified, false
	err := s.conn.do(ctx, func() error {
		if err := s.poll(ctx); err != nil {
			return err
		}
		if err := s.warn(ctx); err != nil || len(s.buf) > 0 {
			return err
		}
		return s.lookBack(ctx)
	})
	if err == nil && len(s.buf) > 0 {
		err = s.rouse(ctx)
	}
	if err != nil {
		return s.failed("read the change log", err)
	}
	return nil
}

// poll reads the rows of one snapshot and settles what they say of the holes.
// Invariant 4: rows of one snapshot are given out in the order of their keys. A
// change of an entity draws its key after the one before it committed, so it is
// either in the same snapshot, behind it, or in a later one.
func (s *stream) poll(ctx context.Context) error {
	dead := s.place.gaps.gone() // by a listing that is older than the snapshot below
	fresh := &owners{}
	b, err := s.read(ctx)
	if err != nil {
		return err
	}
	if err := s.take(ctx, b.rows, fresh); err != nil {
		return err
	}
	s.more = b.upTo < math.MaxInt64
	s.place.gaps.bury(dead, b.upTo)
	if len(s.place.gaps.holes) == 0 {
		s.holders = nil
		return nil
	}
	now, err := s.log.holders(ctx, s.conn.Conn)
	if err != nil {
		return err
	}
	s.place.gaps.list(now, s.holders)
	s.holders = now
	return nil
}

// batch are rows of one snapshot, in the order of their keys.
type batch struct {
	rows []row
	// upTo is the key up to which the snapshot has no more.
	upTo int64
}

func (s *stream) read(ctx context.Context) (batch, error) {
	b := batch{upTo: math.MaxInt64}
	rows, err := s.query(ctx)
	if err != nil {
		return b, err
	}
	defer rows.Close()
	for size := 0; rows.Next(); {
		r, err := scanRow(rows)
		if err != nil {
			return b, err
		}
		if r.sequenceFile != s.log.sequenceFile {
			return b, errRestarted
		}
		r.checked = s.log.checked
		b.rows = append(b.rows, r)
		if size += r.size(); size >= batchBytes {
			break
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return b, err
	}
	switch n := len(b.rows); {
	case n == s.limit:
		b.upTo = b.rows[n-1].pk
		s.limit = min(2*n, s.cfg.BatchSize)
	case n > 0 && rows.CommandTag().RowsAffected() > int64(n): // cut off by size
		b.upTo = b.rows[n-1].pk
		s.limit = n
	}
	return b, nil
}

func (s *stream) query(ctx context.Context) (pgx.Rows, error) {
	if len(s.place.gaps.holes) == 0 {
		return s.conn.Query(ctx, s.log.nextQuery(), s.place.gaps.high, s.limit)
	}
	los, his := s.place.gaps.ranges()
	return s.conn.Query(ctx, s.log.pollQuery(), los, his, s.place.gaps.high, s.limit)
}

// take makes messages of rows and moves the place over them.
func (s *stream) take(ctx context.Context, rows []row, fresh *owners) error {
	s.buf, s.next = s.buf[:0], 0
	before := s.place.gaps.high
	late := 0 // rows of holes
	for i := range rows {
		r := &rows[i]
		if !s.place.gaps.see(r.pk, fresh) {
			continue
		}
		msg := r.message(s.cfg.Name)
		if msg.Malformed != nil {
			if err := s.log.complete(ctx, s.conn.Conn, s.cfg.Name, r, msg.Malformed); err != nil {
				return err
			}
		}
		if r.pk <= before {
			late++
			s.remember(s.place.position())
			msg.Position = s.exact
		} else {
			msg.Position = at(s.place.epoch, r.pk)
		}
		s.buf = append(s.buf, msg)
	}
	if late < len(s.buf) {
		s.place.trail = leave(s.place.trail, mark{s.place.gaps.high, digestOf(rows[len(rows)-1].id.String)})
	}
	s.share(late)
	return nil
}

// share completes the positions of the rows above the highest key seen before.
func (s *stream) share(late int) {
	if late == len(s.buf) {
		return
	}
	shared := s.place.shared()
	long := len(shared) > longPosition
	last := len(s.buf) - 1
	for i := late; i < last; i++ {
		if long {
			s.buf[i].Position = s.exact
		} else {
			s.buf[i].Position += shared
		}
	}
	s.buf[last].Position += shared
	s.exact = s.buf[last].Position
}

// remember keeps a position, unless it is long: then the one before stands for
// it, from which a restart repeats a few rows.
func (s *stream) remember(p observer.Position) {
	if len(p) <= longPosition {
		s.exact = p
	}
}

// lookBack asks whether the sequence was restarted or moved back, and lets holes
// that it had not reached have owners. While nobody writes it asks every other
// interval only.
func (s *stream) lookBack(ctx context.Context) error {
	if s.quiet() && time.Since(s.looked) < 2*s.cfg.PollInterval {
		return nil
	}
	s.looked = time.Now()
	moved, err := s.place.follow(ctx, s.conn.Conn, s.log)
	if err == nil && moved != "" {
		s.rewound(ctx, moved)
	}
	return err
}

// Close ends the stream. It may be called more than once.
func (s *stream) Close(ctx context.Context) error {
	if s.closed {
		return nil
	}
	s.closed = true
	s.buf, s.next = nil, 0
	return hangUp(ctx, s.conn)
}
