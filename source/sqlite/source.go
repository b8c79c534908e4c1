package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/fraiseql/observer"
)

// Config says which log to read and how. Zero fields have the stated defaults.
type Config struct {
	// Name is the source's name; default: the file's name without extension.
	Name string
	// Path is the database file. It is opened when the source is.
	Path string
	// PollInterval is the longest time between two looks at the log when
	// nothing wakes the reader; default 1 second.
	PollInterval time.Duration
	// BatchSize is how many rows are read at once; default 500. A batch also
	// ends after 8 MiB of images.
	BatchSize int
	// Logger receives warnings; default: none.
	Logger *slog.Logger
}

// Source reads the change log of one database file. It implements
// [observer.Source] and [observer.Refetcher]. It holds nothing between calls,
// so its methods may be called concurrently, also while a stream is open and
// while other processes read and write the file.
type Source struct{ cfg Config }

var (
	_ observer.Source    = (*Source)(nil)
	_ observer.Refetcher = (*Source)(nil)
)

// New prepares a source. It does not touch the file.
func New(cfg Config) *Source {
	base := filepath.Base(cfg.Path)
	cfg.Name = cmp.Or(cfg.Name, strings.TrimSuffix(base, filepath.Ext(base)))
	if cfg.PollInterval <= 0 {
		cfg.PollInterval = time.Second
	}
	if cfg.BatchSize <= 0 {
		cfg.BatchSize = 500
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Logger = cfg.Logger.With("source", cfg.Name)
	return &Source{cfg: cfg}
}

// Name is the configured name.
func (s *Source) Name() string { return s.cfg.Name }

// Head is the position of the newest row: reading after it gives only what is
// committed from now on. It is the zero position's equal on an empty log.
func (s *Source) Head(ctx context.Context) (pos observer.Position, err error) {
	err = s.read(ctx, func(q queryer, l *changeLog) error {
		p := start(l.epoch)
		var id any
		err := q.QueryRowContext(ctx, `SELECT pk_entity_change_log, +id FROM tb_entity_change_log
			ORDER BY pk_entity_change_log DESC LIMIT 1`).Scan(&p.pk, &id)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("read the newest row: %w", err)
		}
		if text, ok := id.(string); ok && text != "" {
			p.mark = mark(text)
		}
		pos = p.position()
		return nil
	})
	return pos, err
}

// Backlog counts the rows that [Source.Open] would deliver after a position,
// and says when the first of them was recorded (the zero time when there is
// none, or its time cannot be read). It only reads.
func (s *Source) Backlog(ctx context.Context, after observer.Position) (rows int64, oldest time.Time, err error) {
	err = s.read(ctx, func(q queryer, l *changeLog) error {
		from, _, err := locate(ctx, q, l, after)
		if err != nil {
			return err
		}
		var first any
		err = q.QueryRowContext(ctx, `SELECT count(*), (SELECT +created_at FROM tb_entity_change_log
			WHERE pk_entity_change_log > ?1 ORDER BY pk_entity_change_log LIMIT 1)
			FROM tb_entity_change_log WHERE pk_entity_change_log > ?1`, from.pk).Scan(&rows, &first)
		if err != nil {
			return fmt.Errorf("count rows: %w", err)
		}
		if t, err := parseTime(first); err == nil {
			oldest = t
		}
		return nil
	})
	return rows, oldest, err
}

// Refetch reads the row at a position again. A row that is gone, or a log that
// was replaced since, gives an error that matches [observer.ErrNotFound].
func (s *Source) Refetch(ctx context.Context, at observer.Position) (msg observer.Message, err error) {
	p, err := parsePosition(at)
	if err != nil {
		return msg, err
	}
	err = s.read(ctx, func(q queryer, l *changeLog) error {
		why, err := displaced(ctx, q, l.epoch, p)
		if err != nil {
			return err
		}
		if why != "" {
			return fmt.Errorf("row %d of %s: %w: %s", p.pk, s.cfg.Path, observer.ErrNotFound, why)
		}
		d := decoder{source: s.cfg.Name, log: l}
		b, err := d.query(ctx, q, selection{where: "pk_entity_change_log = ?", key: p.pk, limit: 1})
		if err != nil {
			return err
		}
		if len(b.messages) == 0 {
			return fmt.Errorf("row %d of %s: %w", p.pk, s.cfg.Path, observer.ErrNotFound)
		}
		msg = b.messages[0]
		return nil
	})
	return msg, err
}

// read runs f in one read transaction on a connection of its own.
func (s *Source) read(ctx context.Context, f func(queryer, *changeLog) error) (err error) {
	db, err := open(ctx, s.cfg.Path, reading)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return inRead(ctx, db, func(tx *sql.Tx) error {
		l, err := inspectLog(ctx, tx)
		if err != nil {
			return fmt.Errorf("read %s: %w", s.cfg.Path, err)
		}
		return f(tx, l)
	})
}

type beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// inRead runs f on one snapshot. Rolling back a transaction that wrote nothing
// only ends it.
func inRead(ctx context.Context, b beginner, f func(*sql.Tx) error) error {
	tx, err := b.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin to read: %w", err)
	}
	err = f(tx)
	if e := tx.Rollback(); e != nil && err == nil {
		err = fmt.Errorf("end reading: %w", e)
	}
	return err
}

// locate turns a position into the place to read after. A position that this
// log does not continue gives the start, and why.
func locate(ctx context.Context, q queryer, l *changeLog, after observer.Position) (place, string, error) {
	if after == "" {
		return start(l.epoch), "", nil
	}
	p, err := parsePosition(after)
	if err != nil {
		return p, "", err
	}
	why, err := displaced(ctx, q, l.epoch, p)
	if err != nil {
		return p, "", err
	}
	if why != "" {
		return start(l.epoch), why, nil
	}
	return p, "", nil
}
