package changelog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ErrNoLog means that the database has no change log where it was looked for.
var ErrNoLog = errors.New("no change log")

// Layout is how the log of a database is built.
type Layout struct {
	// TableOID is the table.
	TableOID uint32
	// SequenceOID is the sequence from which the key is drawn, 0 when none belongs
	// to the column. Sequence is its name, quoted, and SequenceCache how many
	// values a session takes at once: above 1 the order of keys says nothing.
	SequenceOID   uint32
	Sequence      string
	SequenceCache int64
	// Identity is "ALWAYS", "BY DEFAULT" or, for a key with a default, "".
	Identity string
	// Columns are the columns that exist.
	Columns map[string]bool
	// Partitioned reports whether the table is partitioned.
	Partitioned bool
	// RowSecurity reports whether row-level security may hide rows from the role
	// that asked.
	RowSecurity bool
	// HasWakeTrigger reports whether the wake-up trigger is there and enabled, and
	// Notify its mode, "" when it is not there.
	HasWakeTrigger bool
	Notify         Notify

	wakeArgument string
}

// Inspect reads the layout from the catalogs, for which no rights are needed. It
// returns an error that matches [ErrNoLog] when the table is missing.
func Inspect(ctx context.Context, conn *pgx.Conn, n Name) (Layout, error) {
	n = n.OrDefault()
	l := Layout{Columns: map[string]bool{}}
	var kind string
	err := conn.QueryRow(ctx, `SELECT c.oid, c.relkind::text, row_security_active(c.oid)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
		WHERE s.nspname = $1 AND c.relname = $2`, n.Schema, n.Table).Scan(&l.TableOID, &kind, &l.RowSecurity)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return l, fmt.Errorf("%w: table %s is missing (\"fraiseql-observer migrate\" creates it)", ErrNoLog, n.plain())
	case err != nil:
		return l, fmt.Errorf("inspect change log %s: %w", n.plain(), err)
	case kind != "r" && kind != "p":
		return l, fmt.Errorf("%w: %s is not a table", ErrNoLog, n.plain())
	}
	l.Partitioned = kind == "p"
	for _, step := range []func(context.Context, *pgx.Conn) error{l.readColumns, l.readSequence, l.readTrigger} {
		if err := step(ctx, conn); err != nil {
			return l, fmt.Errorf("inspect change log %s: %w", n.plain(), err)
		}
	}
	return l, nil
}

func (l *Layout) readColumns(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `SELECT attname::text, attidentity::text FROM pg_catalog.pg_attribute
		WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped`, l.TableOID)
	if err != nil {
		return err
	}
	var name, identity string
	_, err = pgx.ForEachRow(rows, []any{&name, &identity}, func() error {
		l.Columns[name] = true
		if name == KeyColumn {
			l.Identity = map[string]string{"a": "ALWAYS", "d": "BY DEFAULT"}[identity]
		}
		return nil
	})
	return err
}

// readSequence finds the sequence that belongs to the key, as an identity and a
// serial have one, or else the one its default draws from.
func (l *Layout) readSequence(ctx context.Context, conn *pgx.Conn) error {
	err := conn.QueryRow(ctx, `SELECT q.seqrelid, format('%I.%I', s.nspname, c.relname), q.seqcache
		FROM pg_catalog.pg_attribute a
		LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		JOIN pg_catalog.pg_depend p ON p.refclassid = 'pg_catalog.pg_class'::regclass AND p.classid = 'pg_catalog.pg_class'::regclass
				AND p.refobjid = a.attrelid AND p.refobjsubid = a.attnum AND p.deptype IN ('a', 'i')
			OR p.classid = 'pg_catalog.pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_catalog.pg_class'::regclass
		JOIN pg_catalog.pg_sequence q ON q.seqrelid IN (p.objid, p.refobjid)
		JOIN pg_catalog.pg_class c ON c.oid = q.seqrelid
		JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
		WHERE a.attrelid = $1 AND a.attname = $2
		ORDER BY p.deptype = 'i' DESC, p.classid = 'pg_catalog.pg_attrdef'::regclass DESC LIMIT 1`,
		l.TableOID, KeyColumn).Scan(&l.SequenceOID, &l.Sequence, &l.SequenceCache)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

func (l *Layout) readTrigger(ctx context.Context, conn *pgx.Conn) error {
	var body string
	err := conn.QueryRow(ctx, `SELECT t.tgenabled IN ('O', 'A'), f.prosrc, encode(t.tgargs, 'escape')
		FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
		WHERE t.tgrelid = $1 AND t.tgname = $2`, l.TableOID, WakeTrigger).Scan(&l.HasWakeTrigger, &body, &l.wakeArgument)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	l.Notify = modeOf(body)
	l.wakeArgument = strings.TrimSuffix(l.wakeArgument, `\000`)
	return err
}
