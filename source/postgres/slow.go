package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// hungAfter is how long a transaction may keep a hole open before that is
	// worth a warning.
	hungAfter = time.Minute
	// most of the transactions of one warning are named.
	mostNamed = 10
)

// slow notices that the lowest hole stays open.
type slow struct {
	// owners are those of the lowest hole, seen there first at since.
	owners *owners
	since  time.Time
}

// warn names, once per hungAfter, the transactions that have kept the lowest
// hole open for that long: they hold up their own rows, and the floor below
// which rows can be pruned.
func (s *stream) warn(ctx context.Context) error {
	var lowest *owners
	for _, h := range s.place.gaps.holes {
		if !h.owners.undrawn {
			lowest = h.owners
			break
		}
	}
	if lowest != s.slow.owners {
		s.slow = slow{lowest, time.Now()}
	}
	if lowest == nil || time.Since(s.slow.since) < s.hung {
		return nil
	}
	s.slow.since = time.Now()
	holders := make([]string, 0, len(lowest.holders))
	for holder := range lowest.holders {
		holders = append(holders, holder)
	}
	rows, err := s.conn.Query(ctx, hangingQuery, s.log.database, s.log.layout.SequenceOID, holders, mostNamed)
	if err != nil {
		return err
	}
	hanging, err := pgx.CollectRows(rows, pgx.RowToStructByPos[hanging])
	for _, h := range hanging {
		s.cfg.Logger.Warn("a transaction that wrote to the change log does not end; its rows cannot be read, and those after it cannot be pruned",
			"pid", h.PID.Int32, "state", h.State, "prepared_as", h.GID, "age", h.age(), "application", h.Application)
	}
	return err
}

// hanging is a transaction that holds the lock of the sequence. A prepared one
// has no process; of a session of another role, only the process is visible.
type hanging struct {
	PID                     pgtype.Int4
	State, GID, Application string
	Seconds                 float64
}

func (h hanging) age() time.Duration {
	return time.Duration(h.Seconds * float64(time.Second)).Round(time.Second)
}

const hangingQuery = `SELECT l.pid, coalesce(a.state, ''), coalesce(p.gid, ''), coalesce(a.application_name, ''),
       coalesce(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared)), 0)::float8
  FROM pg_locks AS l
  LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
  LEFT JOIN pg_locks AS x ON l.pid IS NULL AND x.pid IS NULL AND x.virtualtransaction = l.virtualtransaction
   AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock'
  LEFT JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
 WHERE l.locktype = 'relation' AND l.database = $1 AND l.relation = $2
   AND l.mode = 'RowExclusiveLock' AND l.granted AND l.virtualtransaction = ANY ($3::text[])
 ORDER BY 5 DESC LIMIT $4`
