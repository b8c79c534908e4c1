package postgres

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// maxOps bounds how many callers share a transaction, and so how long the
	// first of them waits for the others.
	maxOps = 256
	// oneByOne is how many changes are made alone at once after they failed with
	// others.
	oneByOne = 4
	// deadlocks is how often a transaction is made again that had to give way to
	// another one.
	deadlocks = 5
)

// errClosed means that the store was closed.
var errClosed = errors.New("the state store is closed")

// writer makes changes for concurrent callers. Those that arrive while others
// are on their way share the next transaction, so that callers pay for one round
// trip, one plan and one sync of the disk together. A second transaction at the
// same time would make both smaller and cost more than it gains.
type writer struct {
	// commit makes changes in one transaction, and patiently so when they are to
	// wait for locks of others. Its error means that none was made; an answer to
	// one of them is in its err. rest are those that were not made and are to be
	// made alone, patiently, which leaves none.
	commit func(ctx context.Context, ops []*op, patient bool) (rest []*op, err error)
	silent error
	ops    chan *op
	// alone has room for the changes that are made without others.
	alone chan struct{}
	stop  chan struct{}
	done  chan struct{}
}

// op is a change that somebody waits for.
type op struct {
	ctx   context.Context // of the caller, who waits for it
	taken atomic.Bool     // won by the writer, which then answers, or by a caller whose context ended first
	reply chan error

	// insert are the rows to store. A begun one is leased at once.
	insert  []*newRow
	hasDead bool
	// update is the row to store instead of the one that owner holds, whose lane
	// was this.
	update *row
	was    string
	owner  string
	due    pgtype.Timestamptz // since when the updated row is

	// err is the answer, besides what is noted in the rows.
	err error
}

// newWriter starts a writer whose work is not bounded by ctx. silent is what
// callers get that nobody answers in time.
func newWriter(ctx context.Context, commit func(context.Context, []*op, bool) ([]*op, error), silent error) *writer {
	w := &writer{
		commit: commit, silent: silent, ops: make(chan *op), alone: make(chan struct{}, oneByOne),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go w.loop(context.WithoutCancel(ctx))
	return w
}

// shut ends the writer after the changes under way.
func (w *writer) shut() {
	close(w.stop)
	<-w.done
}

// do makes a change and returns after its commit. When ctx ends before it was
// taken up it is never made. Later its outcome is awaited, so that it is not in
// doubt; the change is given up when all who share its transaction are gone.
// Nobody waits for longer than [Timeout].
func (w *writer) do(ctx context.Context, change *op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	change.ctx, change.reply = limited, make(chan error, 1)
	select {
	case w.ops <- change:
	case <-limited.Done():
		return w.ended(ctx)
	case <-w.done:
		return errClosed
	}
	select {
	case err := <-change.reply:
		return w.told(ctx, err)
	case <-limited.Done():
		if change.taken.CompareAndSwap(false, true) || ctx.Err() == nil {
			return w.ended(ctx)
		}
	}
	late := time.NewTimer(Timeout)
	defer late.Stop()
	select {
	case err := <-change.reply:
		return w.told(ctx, err)
	case <-late.C:
		return w.silent
	}
}

// told is an answer as the caller gets it. What ended the transaction was the end
// of all contexts in it, of which this caller has one.
func (w *writer) told(ctx context.Context, err error) error {
	if !errors.Is(err, ErrConnect) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return w.ended(ctx)
	}
	return err
}

// ended is why a caller stopped to wait.
func (w *writer) ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.silent
}

func (w *writer) loop(ctx context.Context) {
	defer close(w.done)
	var rest sync.WaitGroup
	defer rest.Wait()
	for {
		select {
		case first := <-w.ops:
			for _, o := range w.make(ctx, w.collect(first)) {
				rest.Go(func() { w.makeAlone(ctx, o) })
			}
		case <-w.stop:
			return
		}
	}
}

// collect adds whoever waits already.
func (w *writer) collect(first *op) []*op {
	ops := []*op{first}
	for len(ops) < maxOps {
		select {
		case next := <-w.ops:
			ops = append(ops, next)
		default:
			return ops
		}
	}
	return ops
}

// make makes changes and answers. When the database refuses them together each is
// to be made alone, so that a failure, or somebody's lock, hits only the change
// that meets it. So is what would meet itself in one transaction.
func (w *writer) make(ctx context.Context, ops []*op) (rest []*op) {
	var together []*op
	updates := map[string]bool{}
	for _, o := range ops {
		switch {
		case !o.taken.CompareAndSwap(false, true): // its caller is gone
		case o.update != nil && updates[o.update.key]:
			rest = append(rest, o)
		default:
			if o.update != nil {
				updates[o.update.key] = true
			}
			together = append(together, o)
		}
	}
	later, err := w.attempt(ctx, together, false)
	if err != nil && mayBeRefused(err) && (len(together) > 1 || isLocked(err)) {
		return append(rest, together...)
	}
	answer(slices.DeleteFunc(together, func(o *op) bool { return slices.Contains(later, o) }), err)
	return append(rest, later...)
}

func (w *writer) makeAlone(ctx context.Context, o *op) {
	w.alone <- struct{}{}
	_, err := w.attempt(ctx, []*op{o}, true)
	answer([]*op{o}, err)
	<-w.alone
}

func answer(ops []*op, err error) {
	for _, o := range ops {
		if err == nil {
			o.reply <- o.err
		} else {
			o.reply <- err
		}
	}
}

// mayBeRefused reports whether err says that a transaction was not made, and may
// be about one of the changes in it. After an outage nobody knows that.
func mayBeRefused(err error) bool {
	return !errors.Is(err, ErrConnect) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// isLocked reports whether err is that of an impatient wait for a lock.
func isLocked(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == "55P03"
}

// attempt makes changes as long as one of their callers waits.
func (w *writer) attempt(ctx context.Context, ops []*op, patient bool) (rest []*op, err error) {
	if len(ops) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	var waiting atomic.Int64
	waiting.Store(int64(len(ops)))
	for _, o := range ops {
		stop := context.AfterFunc(o.ctx, func() {
			if waiting.Add(-1) == 0 {
				cancel()
			}
		})
		defer stop()
	}
	err = yielding(func() (err error) {
		rest, err = w.commit(ctx, ops, patient)
		return err
	})
	return rest, err
}

// yielding makes a transaction, and makes it again when it had to give way to
// one that locked in another order what both want.
func yielding(transact func() error) error {
	err := transact()
	for range deadlocks {
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "40P01" {
			break
		}
		err = transact()
	}
	return err
}
