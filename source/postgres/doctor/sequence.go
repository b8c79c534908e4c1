package doctor

import (
	"context"
	"fmt"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

// sequence: the order of keys must be the order in which they were drawn, and a
// key must be drawn once.
func (x *examination) sequence(ctx context.Context) error {
	if x.log.SequenceOID == 0 {
		x.add(Problem, "no sequence stands behind "+changelog.KeyColumn+", so that nothing tells which keys may still come",
			fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s ADD GENERATED ALWAYS AS IDENTITY; then setval it above the highest key", x.table, changelog.KeyColumn))
		return nil
	}
	var step int64
	var cycle bool
	err := x.conn.QueryRow(ctx, "SELECT seqincrement, seqcycle FROM pg_sequence WHERE seqrelid = $1", x.log.SequenceOID).Scan(&step, &cycle)
	if err != nil {
		return err
	}
	name := x.log.Sequence
	switch {
	case x.log.SequenceCache != 1:
		x.add(Problem, fmt.Sprintf("%s hands out %d keys in advance, so that changes of one entity can come in the wrong order", name, x.log.SequenceCache),
			"ALTER SEQUENCE "+name+" CACHE 1;")
	case step < 1:
		x.add(Problem, fmt.Sprintf("%s counts in steps of %d, and keys must grow", name, step), "ALTER SEQUENCE "+name+" INCREMENT BY 1;")
	case cycle:
		x.add(Warning, name+" begins again at its end, with keys that were used", "ALTER SEQUENCE "+name+" NO CYCLE;")
	default:
		x.ok("%s hands out one key at a time", name)
	}
	return nil
}

// The parts of its range, in percent, after which a sequence is near its end.
const (
	nearEnd = 70
	atEnd   = 95
)

func (x *examination) sequenceRange(ctx context.Context) error {
	const query = `SELECT CASE WHEN has_sequence_privilege(q.seqrelid, 'SELECT, USAGE') THEN coalesce(pg_sequence_last_value(q.seqrelid), 0) END, q.seqmax,
       CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END
  FROM pg_sequence q, pg_attribute a WHERE q.seqrelid = $1 AND a.attrelid = $2 AND a.attname = $3`
	if x.log.SequenceOID == 0 {
		return nil
	}
	var last *int64
	var most, kind int64
	if err := x.conn.QueryRow(ctx, query, x.log.SequenceOID, x.log.TableOID, changelog.KeyColumn).Scan(&last, &most, &kind); err != nil {
		return err
	}
	if last == nil {
		x.add(Note, "this could not be checked: the role may not read "+x.log.Sequence,
			fmt.Sprintf("GRANT SELECT ON SEQUENCE %s TO %s;", x.log.Sequence, x.role))
		return nil
	}
	used := float64(*last) / float64(min(most, kind)) * 100
	if used < nearEnd {
		x.ok("the last key is %d, %.0f%% of what there is", *last, used)
		return nil
	}
	level := Warning
	if used >= atEnd {
		level = Problem
	}
	x.add(level, fmt.Sprintf("the last key is %d, %.0f%% of what there is; at the end no change can be recorded", *last, used), x.moreKeys(most, kind))
	return nil
}

func (x *examination) moreKeys(most, kind int64) string {
	const all = 1<<63 - 1
	switch {
	case kind < all:
		return x.widen()
	case most < all:
		return "ALTER SEQUENCE " + x.log.Sequence + " AS bigint NO MAXVALUE;"
	}
	return "no application draws so many keys: find out who called setval on " + x.log.Sequence + ", and set it back to the highest key of the log"
}
