package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
)

// stream is one reading of the log, over a connection of its own.
type stream struct {
	cfg  Config
	db   *sql.DB
	file os.FileInfo
	log  *changeLog
	wake *waker
	pace pace

	// at is the last row read into buf.
	at  place
	buf []observer.Message
	// next indexes the first message of buf that was not given out.
	next int
	// more: the last batch ended before the log did.
	more bool
	// version is the data_version the log was last read to its end at; 0 before
	// the first look (SQLite counts from 1).
	version int64
	// vain counts the looks that found nothing, so that a test can see the
	// stream rest.
	vain   atomic.Int64
	closed bool
}

// Open starts reading after a position. It fails when the file or its log is
// missing. A position that the log does not continue (see the package
// documentation) starts from the beginning, with a warning.
func (s *Source) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	st, err := s.openStream(ctx, after)
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", s.cfg.Name, err)
	}
	return st, nil
}

func (s *Source) openStream(ctx context.Context, after observer.Position) (_ *stream, err error) {
	// The file is remembered before it is opened, so that one that is swapped in
	// between is noticed. The watch begins before the first look at the rows, so
	// that no commit falls between the two.
	st := &stream{cfg: s.cfg, pace: pace{idle: s.cfg.PollInterval}}
	if err := checkFile(s.cfg.Path); err != nil {
		return nil, err
	}
	if st.file, err = os.Stat(s.cfg.Path); err != nil {
		return nil, err
	}
	if st.db, err = open(ctx, s.cfg.Path, reading); err != nil {
		return nil, err
	}
	if err := st.prepare(ctx, after); err != nil {
		return nil, errors.Join(err, st.db.Close())
	}
	st.wake = newWaker(s.cfg.Path, s.cfg.Logger)
	return st, nil
}

func (s *stream) prepare(ctx context.Context, after observer.Position) error {
	return inRead(ctx, s.db, func(tx *sql.Tx) (err error) {
		if s.log, err = inspectLog(ctx, tx); err != nil {
			return err
		}
		var why string
		if s.at, why, err = locate(ctx, tx, s.log, after); err != nil {
			return err
		}
		if why != "" {
			s.warnRewind(after, why)
		}
		if !s.log.uniqueID {
			s.cfg.Logger.Warn("the ids of the change log have no unique index: a repeated id is taken for a repeated event", slog.String("table", logTable))
		}
		return nil
	})
}

func (s *stream) warnRewind(from observer.Position, why string) {
	s.cfg.Logger.Warn("reading the change log again from its start: events come again with the same ids",
		slog.String("reason", why), slog.String("position", string(from)), slog.String("path", s.cfg.Path))
}

// Next gives the next row of the log, waiting until there is one.
func (s *stream) Next(ctx context.Context) (observer.Message, error) {
	if err := ctx.Err(); err != nil {
		return observer.Message{}, err
	}
	for s.next == len(s.buf) {
		if s.closed {
			return observer.Message{}, fmt.Errorf("read source %s: %w", s.cfg.Name, os.ErrClosed)
		}
		found, err := s.fill(ctx)
		if err != nil {
			return observer.Message{}, fmt.Errorf("read source %s: %w", s.cfg.Name, err)
		}
		if found {
			break
		}
		s.vain.Add(1)
		if err := s.pace.wait(ctx, s.wake.events()); err != nil {
			return observer.Message{}, err
		}
	}
	msg := s.buf[s.next]
	s.buf[s.next] = observer.Message{} // what was given out is the caller's to keep alive
	s.next++
	return msg, nil
}

// fill looks for new rows and says whether there are any.
func (s *stream) fill(ctx context.Context) (bool, error) {
	if err := s.checkReplaced(); err != nil {
		return false, err
	}
	if !s.more {
		var version int64
		if err := s.db.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
			return false, fmt.Errorf("look for commits: %w", err)
		}
		if version == s.version {
			return false, nil
		}
		// What commits between this look and the query below is read now and
		// looked for once more, in vain.
		s.version = version
	}
	err := inRead(ctx, s.db, func(tx *sql.Tx) error { return s.readBatch(ctx, tx) })
	if err != nil {
		return false, err
	}
	if len(s.buf) > 0 {
		s.pace.hurry()
	}
	return len(s.buf) > 0, nil
}

func (s *stream) readBatch(ctx context.Context, tx *sql.Tx) error {
	if err := s.recheck(ctx, tx); err != nil {
		return err
	}
	d := decoder{source: s.cfg.Name, log: s.log, reuse: s.buf[:0]}
	b, err := d.query(ctx, tx, selection{where: "pk_entity_change_log > ?", key: s.at.pk, limit: s.cfg.BatchSize})
	if err != nil {
		return err
	}
	s.buf, s.next, s.more = b.messages, 0, b.more
	if len(b.messages) > 0 {
		s.at = b.last
	}
	return nil
}

// recheck notices a log that was restored or made anew under the open
// connection.
func (s *stream) recheck(ctx context.Context, tx *sql.Tx) error {
	var epoch string
	if err := tx.QueryRowContext(ctx, "SELECT value FROM tb_entity_change_log_meta WHERE name = 'epoch'").Scan(&epoch); err != nil {
		return fmt.Errorf("read the epoch of the change log: %w", err)
	}
	if s.at.pk == math.MinInt64 {
		s.at = start(epoch)
	}
	why, err := displaced(ctx, tx, epoch, s.at)
	if err != nil {
		return err
	}
	if why != "" {
		s.warnRewind(s.at.position(), why)
		s.at = start(epoch)
	}
	s.log.epoch = epoch
	return nil
}

// checkReplaced ends the stream when another file stands at the path: the open
// connection would read the old one for ever.
func (s *stream) checkReplaced() error {
	now, err := os.Stat(s.cfg.Path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReplaced, err)
	}
	if !os.SameFile(s.file, now) {
		return fmt.Errorf("%w: %s", ErrReplaced, s.cfg.Path)
	}
	return nil
}

// Close ends the stream. It may be called more than once.
func (s *stream) Close(context.Context) error {
	if s.closed {
		return nil
	}
	s.closed = true
	s.buf, s.next = nil, 0
	return errors.Join(s.wake.close(), s.db.Close())
}

// pace decides how long to wait for the next look.
type pace struct {
	idle time.Duration
	// step is the wait before the next look while a commit may be under way; 0
	// when the log is quiet.
	step time.Duration
}

const (
	firstStep = time.Millisecond
	lastStep  = 512 * time.Millisecond
)

// hurry begins the quick looks: something was written, and its commit, or one
// right behind it, becomes visible in a moment.
func (p *pace) hurry() { p.step = firstStep }

// wait returns when it is time to look. A wake-up during quick looks does not
// cut the wait of a millisecond short: under a stream of commits to other
// tables that bounds the looks.
func (p *pace) wait(ctx context.Context, wake <-chan struct{}) error {
	quick := p.step > 0
	wait := p.idle
	if quick {
		wait = min(p.step, p.idle)
		if p.step *= 2; p.step > lastStep {
			p.step = 0
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	if quick && wait <= firstStep {
		wake = nil // the token stays for the next wait
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-wake:
		p.hurry()
	}
	return nil
}
