//go:build unix

package e2e

import (
	"context"
	"database/sql"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// change is one change as the application knows it. Every INSERT and UPDATE
// has a version of its own, used up also by a rollback; a DELETE ends the
// version that the item had.
type change struct {
	op      observer.Operation
	item    int64
	version int64
}

// shop is the application. What it committed is what must arrive.
type shop struct {
	t        *testing.T
	db       *sql.DB
	on       flavour
	mu       sync.Mutex
	versions int64
	// committed are the changes in commit order; the time is read before COMMIT.
	committed []change
}

func newShop(s *site) *shop {
	s.t.Helper()
	return s.prepare()
}

const items = `CREATE TABLE items (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, note TEXT)`

func openShop(s *site) *shop {
	s.t.Helper()
	db, err := s.open()
	if err != nil {
		s.t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	s.t.Cleanup(func() { _ = db.Close() })
	return &shop{t: s.t, db: db, on: s.on}
}

func (s *shop) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.db.ExecContext(s.t.Context(), s.on.in(query), args...); err != nil {
		s.t.Fatal(err)
	}
}

// log are the event ids of the change log, in commit order.
func (s *shop) log() (ids []string) {
	s.t.Helper()
	rows, err := s.db.QueryContext(s.t.Context(), s.on.in(`SELECT id FROM tb_entity_change_log ORDER BY pk_entity_change_log`))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		s.t.Fatal(err)
	}
	return ids
}

// event is the id of the event of the newest change of an item.
func (s *shop) event(item int64) (id string) {
	s.t.Helper()
	row := s.db.QueryRowContext(s.t.Context(), s.on.in(`SELECT id FROM tb_entity_change_log WHERE object_id = ?
		ORDER BY pk_entity_change_log DESC LIMIT 1`), item)
	if err := row.Scan(&id); err != nil {
		s.t.Fatal(err)
	}
	return id
}

// put commits a new version of one item.
func (s *shop) put(item int64) {
	s.t.Helper()
	s.putNoted(item, "put")
}

func (s *shop) putNoted(item int64, note string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	op := observer.Update
	if !s.has(item) {
		op = observer.Insert
	}
	s.versions++
	s.exec(upsert, item, s.versions, note)
	s.committed = append(s.committed, change{op, item, s.versions})
}

func (s *shop) has(item int64) bool {
	has := false
	for _, c := range s.committed {
		if c.item == item {
			has = c.op != observer.Delete
		}
	}
	return has
}

const upsert = `INSERT INTO items (id, version, note) VALUES (?, ?, ?)
	ON CONFLICT (id) DO UPDATE SET version = excluded.version, note = excluded.note`

// all are the changes committed so far, in commit order.
func (s *shop) all() []change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]change(nil), s.committed...)
}

// load writes transactions to items until the function it returns is called:
// one to four changes each, some of them rolled back, with pauses between them
// that keep the rate at about perSecond changes.
func (s *shop) load(r *rand.Rand, items, perSecond int) (stop func()) {
	r = rand.New(rand.NewPCG(r.Uint64(), 1)) // the caller goes on using its own
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		live := map[int64]int64{}
		tick := time.NewTicker(time.Second * 5 / 2 / time.Duration(perSecond))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if err := s.transaction(r, items, live); err != nil {
				s.t.Errorf("write: %v", err)
				return
			}
		}
	}()
	stop = func() { cancel(); <-done }
	s.t.Cleanup(stop) // also when the test ends early
	return stop
}

// transaction changes items; live holds the version of those that exist.
func (s *shop) transaction(r *rand.Rand, items int, live map[int64]int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := context.WithoutCancel(s.t.Context()) // what has begun is finished
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	var changes []change
	next := map[int64]int64{}
	for range 1 + r.IntN(4) {
		item := 1 + r.Int64N(int64(items))
		if _, twice := next[item]; twice {
			continue
		}
		c, err := s.one(ctx, r, tx, item, live)
		if err != nil {
			return err
		}
		changes, next[item] = append(changes, c), c.version
		if c.op == observer.Delete {
			next[item] = 0
		}
	}
	if r.IntN(6) == 0 {
		return tx.Rollback()
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.committed = append(s.committed, changes...)
	maps.Copy(live, next)
	return nil
}

func (s *shop) one(ctx context.Context, r *rand.Rand, tx *sql.Tx, item int64, live map[int64]int64) (change, error) {
	version := live[item]
	if version > 0 && r.IntN(10) == 0 {
		_, err := tx.ExecContext(ctx, s.on.in(`DELETE FROM items WHERE id = ?`), item)
		return change{observer.Delete, item, version}, err
	}
	op := observer.Update
	if version == 0 {
		op = observer.Insert
	}
	s.versions++
	_, err := tx.ExecContext(ctx, s.on.in(upsert), item, s.versions, "load")
	return change{op, item, s.versions}, err
}

// grow commits versions 1, 2... of items 1, 2... with a statement for each
// version. They are not among the changes of all.
func (s *shop) grow(items, versions int) {
	s.t.Helper()
	s.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ` + strconv.Itoa(items) + `)
		INSERT INTO items (id, version, note) SELECT i, 1, 'grow' FROM n`)
	for range versions - 1 {
		s.exec(`UPDATE items SET version = version + 1`)
	}
}
