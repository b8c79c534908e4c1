package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	begin  = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"
	commit = "COMMIT"
	// byIndex is for statements that find their rows by an index: while the table
	// has no statistics yet, or old ones, the planner might read all of it. There
	// is one way to do that whatever the parameters are.
	byIndex = `set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true)`
	// settings are what a change depends on, until its end. Of the values of
	// synchronous_commit only off would break the promise. To compile a
	// statement (jit) takes longer than any of them may.
	settings = `
SELECT set_config('statement_timeout', '` + statementTimeout + `', true), ` + byIndex + `,
       CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) END`
	// impatient is for the changes of many callers: when one of them has to wait,
	// they are made one by one.
	impatient = settings + ", set_config('lock_timeout', '300', true)"

	beginLook    = "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY"
	lookSettings = "SELECT " + byIndex
)

// change is a transaction in the making.
type change struct {
	schema schema
	batch  pgx.Batch
}

// exec adds a statement whose number of changed rows is stored in n.
func (c *change) exec(n *int64, sql string, args ...any) {
	c.rows(func(rows pgx.Rows) error {
		for rows.Next() { // a statement may give rows that nobody asks for
		}
		*n = rows.CommandTag().RowsAffected()
		return rows.Err()
	}, sql, args...)
}

// run adds a statement of which nothing is asked but that it does not fail.
func (c *change) run(sql string, args ...any) { c.exec(new(int64), sql, args...) }

// rows adds a statement that gives rows. What read finds counts only when the
// change succeeds.
func (c *change) rows(read func(pgx.Rows) error, sql string, args ...any) {
	c.batch.Queue(c.schema.in(sql), args...).Query(read)
}

// change runs one transaction and says what was being done when it fails.
func (s *Store) change(ctx context.Context, what string, fill func(*change)) error {
	if err := s.writable(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := s.transact(ctx, fill); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *Store) writable() error {
	if s.readOnly {
		return fmt.Errorf("the state store %s was opened for reading only", s.at)
	}
	return nil
}

// transact runs one transaction in one message.
func (s *Store) transact(ctx context.Context, fill func(*change)) error {
	return s.send(ctx, begin, settings, fill)
}

// transactSoon is transact that does not wait for locks of others for long.
func (s *Store) transactSoon(ctx context.Context, fill func(*change)) error {
	return s.send(ctx, begin, impatient, fill)
}

// look runs one transaction that only reads, by the indexes.
func (s *Store) look(ctx context.Context, fill func(*change)) error {
	return s.send(ctx, beginLook, lookSettings, fill)
}

func (s *Store) send(ctx context.Context, begin, settings string, fill func(*change)) error {
	c := s.transaction(begin, settings, fill)
	// An error leaves the transaction open; the pool then closes the connection,
	// which ends it.
	return s.query(ctx, func(ctx context.Context) error { return s.pool.SendBatch(ctx, &c.batch).Close() })
}

// transaction is one with all it takes.
func (s *Store) transaction(begin, settings string, fill func(*change)) *change {
	c := &change{schema: s.schema}
	c.batch.Queue(begin)
	c.batch.Queue(settings)
	fill(c)
	c.batch.Queue(commit)
	return c
}
