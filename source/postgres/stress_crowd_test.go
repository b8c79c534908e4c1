package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fraiseql/observer/internal/testenv"
)

// stressHot is how many of the entities are so busy that writers wait for each
// other. Who keeps an entity for long keeps one of the others.
const stressHot = 10

// stressCrowd is many writers at work.
type stressCrowd struct {
	stand    *stressStand
	entities []string
	end      time.Time
	prepared chan struct{} // one token for every prepared transaction
	pending  sync.WaitGroup
	// hurried writers make a storm, without a pause.
	hurried bool
	// doomed: the server is about to be killed, and errors are no surprise.
	doomed atomic.Bool
}

// crowd prepares writers that write until the time is over.
func (s *stressStand) crowd(during time.Duration) *stressCrowd {
	s.Helper()
	conn := s.connect()
	rows, err := conn.Query(s.Context(), "SELECT id::text FROM stress_entity ORDER BY id")
	if err != nil {
		s.Fatal(err)
	}
	entities, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.Fatal(err)
	}
	able := testenv.Value[int](s, conn, "SELECT current_setting('max_prepared_transactions')::int")
	return &stressCrowd{stand: s, entities: entities, end: time.Now().Add(during), prepared: make(chan struct{}, min(4, able))}
}

// write returns when all transactions have ended, the prepared ones included.
func (c *stressCrowd) write(writers int) {
	c.stand.Helper()
	c.connected(writers)()
}

// connected gives what write does once its writers are connected.
func (c *stressCrowd) connected(writers int) (write func()) {
	c.stand.Helper()
	var work []func()
	for i := range writers {
		w := &stressWriter{stressCrowd: c, conn: c.stand.connect(), name: fmt.Sprintf("writer-%d", i), random: c.stand.random(uint64(100 + i))}
		work = append(work, w.work)
	}
	return func() {
		var working sync.WaitGroup
		for _, w := range work {
			working.Go(w)
		}
		working.Wait()
		c.pending.Wait()
	}
}

// failed reports whether err is one, and fails the test if it should not be.
func (c *stressCrowd) failed(err error) bool {
	if err != nil && !c.doomed.Load() {
		c.stand.Error(err)
	}
	return err != nil
}

// endPrepared ends a prepared transaction on a connection of its own.
func (s *stressStand) endPrepared(statement string, changes []stressChange) error {
	conn, err := s.dial(s.Context())
	if err != nil {
		return err
	}
	_, err = conn.Exec(s.Context(), statement)
	if err == nil {
		s.ledger.add(changes...)
	}
	return errors.Join(err, conn.Close(context.WithoutCancel(s.Context())))
}

// stressWriter changes entities, one transaction after the other. After an error
// it does nothing until the transaction ends.
type stressWriter struct {
	*stressCrowd

	conn   *pgx.Conn
	name   string
	random *rand.Rand
	count  int

	err     error
	changes []stressChange // of the transaction that is open
	held    []string       // the entities it has locked
}

func (w *stressWriter) work() {
	w.exec("SET lock_timeout = '300ms'")
	kinds := w.kinds()
	if w.hurried {
		kinds = w.storm()
	}
	for !w.failed(w.err) && time.Now().Before(w.stressCrowd.end) {
		w.count++
		kinds[w.random.IntN(len(kinds))]()
		if !w.hurried {
			w.pause(0, 6*time.Millisecond)
		}
	}
}

func (w *stressWriter) hot() []string  { return w.entities[:stressHot] }
func (w *stressWriter) cold() []string { return w.entities[stressHot:] }

func (w *stressWriter) begin() {
	w.changes, w.held = nil, nil
	w.exec("BEGIN")
}

// end ends the transaction, and reports whether it did so the way it was to. A
// transaction that waited too long for an entity is rolled back instead, which is
// as good as anything that happens to it.
func (w *stressWriter) end(how string) bool {
	w.exec(how)
	if w.err == nil && how == "COMMIT" {
		w.stand.ledger.add(w.changes...)
	}
	if failed, ok := errors.AsType[*pgconn.PgError](w.err); ok && failed.Code == "55P03" {
		w.err = nil
		w.exec("ROLLBACK")
		return false
	}
	return w.err == nil
}

// lock locks some of the entities, and waits for them.
func (w *stressWriter) lock(entities []string, n int) {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = entities[w.random.IntN(len(entities))]
	}
	w.query(func(ctx context.Context) error {
		rows, err := w.conn.Query(ctx, stressLock, ids)
		if err != nil {
			return err
		}
		w.held, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
}

// create makes an entity that only this transaction knows.
func (w *stressWriter) create() {
	w.query(func(ctx context.Context) error {
		var id string
		err := w.conn.QueryRow(ctx, "INSERT INTO stress_entity (version) VALUES (0) RETURNING id::text").Scan(&id)
		w.held = []string{id}
		return err
	})
}

// change changes the locked entities and logs it.
func (w *stressWriter) change() { w.log(stressWrite, w.held) }

// changeAt changes the locked entity and logs it under a key drawn before.
func (w *stressWriter) changeAt(key int64) { w.log(stressWriteAt, w.held, key) }

func (w *stressWriter) log(sql string, args ...any) {
	w.query(func(ctx context.Context) error {
		changes, err := stressChanges(ctx, w.conn, sql, args...)
		w.changes = append(w.changes, changes...)
		return err
	})
}

func (w *stressWriter) draw() (key int64) {
	w.query(func(ctx context.Context) error { return w.conn.QueryRow(ctx, stressDraw).Scan(&key) })
	return key
}

func (w *stressWriter) exec(sql string) {
	w.query(func(ctx context.Context) error {
		tag, err := w.conn.Exec(ctx, sql)
		if err == nil && strings.HasPrefix(sql, "COMMIT") && tag.String() == "ROLLBACK" {
			err = errors.New("the transaction was rolled back instead of committed")
		}
		return err
	})
}

func (w *stressWriter) query(f func(context.Context) error) {
	if w.err == nil {
		w.err = f(w.stand.Context())
	}
}

func (w *stressWriter) pause(least, more time.Duration) {
	if w.err == nil {
		stressPause(w.stand.Context(), least+w.upTo(more))
	}
}

func (w *stressWriter) upTo(d time.Duration) time.Duration {
	return time.Duration(w.random.Int64N(int64(d)))
}
