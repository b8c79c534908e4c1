package postgres_test

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// stressPoller is a reader that does nothing but poll. It remembers its place
// over restarts, and is never stopped within a poll: what is wrong with it is
// how it chooses the rows.
type stressPoller struct {
	poll func(ctx context.Context, conn *pgx.Conn) ([]stressRow, error)
}

// stressRow is a row of the log with what wrong readers go by.
type stressRow struct {
	key, xid int64
	stressChange
}

func (p stressPoller) run(ctx context.Context, url string, deliver func(stressChange)) error {
	whole := context.WithoutCancel(ctx)
	conn, err := pgx.Connect(whole, url)
	for err == nil {
		var rows []stressRow
		rows, err = p.poll(whole, conn)
		for _, row := range rows {
			deliver(row.stressChange)
		}
		if !stressPause(ctx, 3*time.Millisecond) {
			return errors.Join(err, conn.Close(whole))
		}
	}
	return err
}

func stressRows(ctx context.Context, conn *pgx.Conn, where string, args ...any) ([]stressRow, error) {
	rows, err := conn.Query(ctx, "SELECT pk_entity_change_log, xmin::text::bigint, "+stressColumns+" FROM "+stressLog+" WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r stressRow, err error) {
		return r, row.Scan(&r.key, &r.xid, &r.id, &r.entity, &r.version)
	})
}

// readByKey remembers the highest key it has seen. What commits late under a
// lower key is lost.
func readByKey() stressReader {
	var last int64
	return stressPoller{func(ctx context.Context, conn *pgx.Conn) ([]stressRow, error) {
		rows, err := stressRows(ctx, conn, "pk_entity_change_log > $1 ORDER BY pk_entity_change_log LIMIT 500", last)
		if len(rows) > 0 {
			last = rows[len(rows)-1].key
		}
		return rows, err
	}}
}

// readByTransaction reads in the order of the transaction ids, up to the oldest
// transaction that runs. A transaction that began first may change a row last,
// and one that runs for long holds up everything.
func readByTransaction() stressReader {
	var done int64 // all transactions below are read
	return stressPoller{func(ctx context.Context, conn *pgx.Conn) ([]stressRow, error) {
		var oldest int64
		if err := conn.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").Scan(&oldest); err != nil {
			return nil, err
		}
		rows, err := stressRows(ctx, conn,
			"xmin::text::bigint >= $1 AND xmin::text::bigint < $2 ORDER BY xmin::text::bigint, pk_entity_change_log", done, oldest)
		if err == nil {
			done = oldest
		}
		return rows, err
	}}
}

// readBehindBarrier reads up to a key when all transactions that ran when it was
// the highest have ended. A transaction that had drawn a key, and had no id yet,
// was not among them; and one that has nothing to do with it may run for long.
func readBehindBarrier() stressReader {
	var last, high, barrier int64
	return stressPoller{func(ctx context.Context, conn *pgx.Conn) ([]stressRow, error) {
		if high <= last {
			return nil, conn.QueryRow(ctx, `SELECT coalesce(max(pk_entity_change_log), 0), pg_snapshot_xmax(pg_current_snapshot())::text::bigint
				FROM `+stressLog).Scan(&high, &barrier)
		}
		var oldest int64
		err := conn.QueryRow(ctx, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").Scan(&oldest)
		if err != nil || oldest < barrier {
			return nil, err
		}
		rows, err := stressRows(ctx, conn, "pk_entity_change_log > $1 AND pk_entity_change_log <= $2 ORDER BY pk_entity_change_log", last, high)
		if err == nil {
			last = high
		}
		return rows, err
	}}
}

// readAfterWaiting takes a missing key for dead when the row above has been
// there for a while.
func readAfterWaiting(wait time.Duration) stressReader {
	var last int64
	since := map[int64]time.Time{} // when a row above a missing key was first seen
	return stressPoller{func(ctx context.Context, conn *pgx.Conn) (ready []stressRow, err error) {
		rows, err := stressRows(ctx, conn, "pk_entity_change_log > $1 ORDER BY pk_entity_change_log", last)
		now := time.Now()
		for _, row := range rows {
			since[row.key] = cmp.Or(since[row.key], now)
		}
		for _, row := range rows {
			if row.key != last+1 && now.Sub(since[row.key]) < wait {
				break
			}
			last = row.key
			delete(since, row.key)
			ready = append(ready, row)
		}
		return ready, err
	}}
}
