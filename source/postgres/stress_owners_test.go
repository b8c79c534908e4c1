package postgres_test

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// stressFault is what is wrong with a reader that goes by the owners of keys.
type stressFault int

const (
	faultless stressFault = iota
	// tooEarly notes the owners before it sees what is missing, and misses
	// those who came between.
	tooEarly
	// tooLate takes a key for dead when its owners are gone after it looked for
	// the row, and misses the row that came between.
	tooLate
)

// stressOwners reads the way that holds, remembering every key: what is visible
// is dispatched at once, and what is missing is dead when all are gone who held
// the sequence after it was found missing, and then there still is no row.
// Unlike the real reader it remembers all in memory.
type stressOwners struct {
	fault   stressFault
	floor   int64              // every key up to here is settled
	settled map[int64]bool     // and these above
	owners  map[int64][]string // of the missing ones: who may write them still
}

func readByOwners(fault stressFault) stressReader {
	o := &stressOwners{fault: fault, settled: map[int64]bool{}, owners: map[int64][]string{}}
	return stressPoller{o.poll}
}

func (o *stressOwners) poll(ctx context.Context, conn *pgx.Conn) ([]stressRow, error) {
	before, err := stressHolders(ctx, conn)
	if err != nil {
		return nil, err
	}
	o.idle(ctx, tooEarly)
	rows, err := stressRows(ctx, conn, "pk_entity_change_log > $1 ORDER BY pk_entity_change_log", o.floor)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r stressRow) bool { return o.settled[r.key] })
	for _, row := range rows {
		o.settled[row.key] = true
		delete(o.owners, row.key)
	}
	o.idle(ctx, tooLate)
	after, err := stressHolders(ctx, conn)
	if err != nil {
		return nil, err
	}
	gone, noted := before, after
	switch o.fault {
	case tooLate:
		gone = after
	case tooEarly:
		noted = before
	case faultless:
	}
	o.bury(gone)
	o.note(rows, noted)
	for o.settled[o.floor+1] {
		o.floor++
		delete(o.settled, o.floor)
	}
	return rows, nil
}

// idle makes room for others where the fault is, so that it shows.
func (o *stressOwners) idle(ctx context.Context, fault stressFault) {
	if o.fault == fault {
		stressPause(ctx, 10*time.Millisecond)
	}
}

// bury settles the missing keys that nobody can write any more.
func (o *stressOwners) bury(holders []string) {
	for key, owners := range o.owners {
		alive := func(holder string) bool { return slices.Contains(owners, holder) }
		if !slices.ContainsFunc(holders, alive) {
			o.settled[key] = true
			delete(o.owners, key)
		}
	}
}

// note remembers who may write the keys that are newly missing.
func (o *stressOwners) note(rows []stressRow, holders []string) {
	if len(rows) == 0 {
		return
	}
	for key := o.floor + 1; key < rows[len(rows)-1].key; key++ {
		if _, noted := o.owners[key]; !noted && !o.settled[key] {
			o.owners[key] = holders
		}
	}
}

// stressHolders lists who holds the sequence, by virtual transaction id. The
// server of the test lets a transaction that is prepared keep it.
func stressHolders(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT virtualtransaction FROM pg_locks
		WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND relation = pg_get_serial_sequence('`+stressLog+`', 'pk_entity_change_log')::regclass AND mode = 'RowExclusiveLock'`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
