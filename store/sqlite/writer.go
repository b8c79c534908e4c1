package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
)

// maxBatch bounds how many changes share a commit, and so how long the first
// of them waits for the others.
const maxBatch = 128

// writer makes all changes of a store, on one goroutine. Changes that arrive
// while a commit is being synced share the next one, so concurrent callers pay
// for one sync together and nobody waits for a lock of this process.
type writer struct {
	db   *sql.DB
	ops  chan *operation
	stop chan struct{}
	done chan struct{}
	// stmts are the prepared statements by their text. database/sql closes them
	// with db.
	stmts map[string]*sql.Stmt
}

// operation is a change that somebody waits for.
type operation struct {
	// run makes the change. It may be called again after the transaction it
	// was part of was rolled back.
	run func(*session) error
	// taken is won by the writer, which then answers, or by a caller whose
	// context ended first, and then nothing is changed.
	taken atomic.Bool
	// mine is true once the writer won taken.
	mine  bool
	reply chan error
}

// startWriter takes over db, also when it fails.
func startWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	w := &writer{
		db: db, ops: make(chan *operation), stop: make(chan struct{}), done: make(chan struct{}),
		stmts: map[string]*sql.Stmt{},
	}
	for _, query := range writeQueries() {
		stmt, err := db.PrepareContext(ctx, query) //nolint:sqlclosecheck // closed with db
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		w.stmts[query] = stmt
	}
	go w.loop(ctx)
	return w, nil
}

// shut ends the writer after the commit under way.
func (w *writer) shut() {
	close(w.stop)
	<-w.done
}

// do has run called inside a transaction and returns after its commit. When ctx
// ends before run was called it never is; afterwards the outcome is awaited, so
// that it is never in doubt.
func (w *writer) do(ctx context.Context, run func(*session) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op := &operation{run: run, reply: make(chan error, 1)}
	select {
	case w.ops <- op:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.done:
		return errClosed
	}
	select {
	case err := <-op.reply:
		return err
	case <-ctx.Done():
		if op.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-op.reply
	}
}

func (w *writer) loop(ctx context.Context) {
	defer close(w.done)
	for {
		select {
		case op := <-w.ops:
			w.commit(ctx, w.collect(op))
		case <-w.stop:
			return
		}
	}
}

// collect adds whoever waits already.
func (w *writer) collect(first *operation) []*operation {
	batch := []*operation{first}
	for len(batch) < maxBatch {
		select {
		case op := <-w.ops:
			batch = append(batch, op)
		default:
			return batch
		}
	}
	return batch
}

// errUndo: a change answers with an error, and something of it has to go.
var errUndo = errors.New("a change that shares a transaction is to be undone")

// commit makes the changes of a batch in one transaction. When the database
// fails on one of them, or one is to leave nothing behind, each is made in a
// transaction of its own, so that a failure hits only the change that causes it.
func (w *writer) commit(ctx context.Context, batch []*operation) {
	answers, err := w.attempt(ctx, batch)
	if err != nil && len(batch) > 1 && !isBusy(err) {
		for _, op := range batch {
			w.commit(ctx, []*operation{op})
		}
		return
	}
	for i, op := range batch {
		if err != nil {
			op.reply <- err
		} else {
			op.reply <- answers[i]
		}
	}
}

// attempt gives the answer to each change, or the failure because of which
// nothing was changed. The transaction has the lock of the writer before it
// reads anything (_txlock), so what a change finds stays so until it commits.
func (w *writer) attempt(ctx context.Context, batch []*operation) (answers []error, err error) {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back, else the first error counts
	s := &session{ctx: ctx, tx: tx, w: w}
	answers = make([]error, len(batch))
	for i, op := range batch {
		if !op.begin() {
			continue
		}
		s.wrote = false
		switch answers[i] = op.run(s); {
		case !isAnswer(answers[i]):
			return nil, answers[i]
		case answers[i] == nil || !s.wrote:
		case len(batch) == 1:
			return answers, nil // rolled back
		default:
			return nil, errUndo
		}
	}
	return answers, tx.Commit()
}

func (op *operation) begin() bool {
	if !op.mine {
		op.mine = op.taken.CompareAndSwap(false, true)
	}
	return op.mine
}

// session is the transaction that changes run in. A change makes any number of
// statements. When it answers with an error, such as "busy", none of them stays;
// that is cheapest when it finds out before it writes anything.
type session struct {
	ctx context.Context
	tx  *sql.Tx
	w   *writer
	// wrote: the present change has changed rows.
	wrote bool
}

// exec runs one of [writeQueries] and gives the number of rows it changed.
func (s *session) exec(query string, args ...any) (int64, error) {
	res, err := s.stmt(query).ExecContext(s.ctx, args...) //nolint:sqlclosecheck // closed with the transaction
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	s.wrote = s.wrote || n > 0
	return n, err
}

// query runs one of [writeQueries] that returns rows. Those that also change them
// are the last of their change, which then has no error to answer with.
func (s *session) query(query string, args ...any) (*sql.Rows, error) {
	return s.stmt(query).QueryContext(s.ctx, args...) //nolint:sqlclosecheck // closed with the transaction
}

// stmt is a prepared statement for this transaction, which closes it.
func (s *session) stmt(query string) *sql.Stmt {
	return s.tx.StmtContext(s.ctx, s.w.stmts[query])
}
