package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

func (x *examination) changeLog(ctx context.Context) error {
	layout, err := changelog.Inspect(ctx, x.conn, x.Log)
	switch {
	case errors.Is(err, changelog.ErrNoLog) && layout.TableOID != 0:
		x.add(Problem, x.table+" exists and is not a table", "rename it, and run: fraiseql-observer migrate --database URL")
		return nil
	case errors.Is(err, changelog.ErrNoLog):
		x.add(Problem, "there is no change log: table "+x.table+" is missing", "run as a role that may create tables: fraiseql-observer migrate --database URL")
		return nil
	case err != nil:
		return err
	}
	x.log = &layout
	kind := "a table"
	if layout.Partitioned {
		kind = "a partitioned table"
	}
	x.ok("the change log is there, %s with %d columns", kind, len(layout.Columns))
	return nil
}

func (x *examination) logColumns(context.Context) error {
	var lost, keys []string
	for _, name := range []string{changelog.KeyColumn, "id", "object_type", "modification_type"} {
		if !x.log.Columns[name] {
			lost = append(lost, name)
		}
	}
	for _, name := range []string{"entity_key", "tenant_key"} {
		if !x.log.Columns[name] {
			keys = append(keys, name)
		}
	}
	switch {
	case len(lost) > 0:
		x.add(Problem, fmt.Sprintf("%s is not a change log: it lacks %s", x.table, strings.Join(lost, ", ")),
			"rename the table and run: fraiseql-observer migrate --database URL; or say where the change log is")
	case len(keys) > 0:
		x.add(Note, fmt.Sprintf("the log lacks %s, so that only entities and tenants whose ids are UUIDs can be recorded", strings.Join(keys, " and ")),
			fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s text;", x.table, strings.Join(keys, " text, ADD COLUMN ")))
	case !x.log.Columns["object_id"] || !x.log.Columns["object_data"]:
		x.add(Warning, "the log lacks object_id or object_data, so that events have no entity id or no data", "run: fraiseql-observer migrate --database URL")
	default:
		x.ok("the log has the columns that are read, entity_key and tenant_key included")
	}
	return nil
}

// logKey: the reader is right only by an index on the key.
func (x *examination) logKey(ctx context.Context) error {
	const query = `SELECT format_type(a.atttypid, a.atttypmod), EXISTS (
    SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
     WHERE i.indrelid = a.attrelid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree')
  FROM pg_attribute a WHERE a.attrelid = $1 AND a.attname = $2 AND NOT a.attisdropped`
	if !x.log.Columns[changelog.KeyColumn] {
		return nil
	}
	var kind string
	var indexed bool
	if err := x.conn.QueryRow(ctx, query, x.log.TableOID, changelog.KeyColumn).Scan(&kind, &indexed); err != nil {
		return err
	}
	switch {
	case kind != "bigint" && kind != "integer" && kind != "smallint":
		x.add(Problem, fmt.Sprintf("%s is of type %s, and must be bigint", changelog.KeyColumn, kind),
			fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE bigint;", x.table, changelog.KeyColumn))
	case !indexed:
		x.add(Problem, "no index serves "+changelog.KeyColumn+": every look at the log reads all of it",
			fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY ON %s (%s);", x.table, changelog.KeyColumn))
	case kind != "bigint":
		x.add(Warning, fmt.Sprintf("%s is of type %s, whose values end early", changelog.KeyColumn, kind), x.widen())
	default:
		x.ok("%s is a bigint with an index", changelog.KeyColumn)
	}
	return nil
}

// widen is the SQL that makes the key a bigint. The sequence of an identity
// column follows its type.
func (x *examination) widen() string {
	sql := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE bigint;", x.table, changelog.KeyColumn)
	if x.log.Identity == "" && x.log.Sequence != "" {
		sql += fmt.Sprintf(" ALTER SEQUENCE %s AS bigint;", x.log.Sequence)
	}
	return sql + " (it rewrites the table while nobody can use it)"
}

// logStorage: an unlogged table is emptied by a crash.
func (x *examination) logStorage(ctx context.Context) error {
	const query = `SELECT coalesce(string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid), '') FROM pg_class c
 WHERE c.relpersistence <> 'p' AND c.relkind = 'r' AND (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass)))`
	var unlogged string
	if err := x.conn.QueryRow(ctx, query, x.log.TableOID).Scan(&unlogged); err != nil {
		return err
	}
	if unlogged != "" {
		x.add(Problem, unlogged+" is UNLOGGED: a crash of the server empties it", "ALTER TABLE "+unlogged+" SET LOGGED;")
		return nil
	}
	x.ok("the log survives a crash of the server")
	return nil
}

// prepared asks what migrate would ask.
func (x *examination) prepared(ctx context.Context) error {
	err := changelog.Ready(ctx, x.conn, changelog.Options{Log: x.Log, Schema: x.Schema})
	if !errors.Is(err, changelog.ErrNotReady) {
		if err == nil {
			x.ok("nothing is missing that migrate creates")
		}
		return err
	}
	what := strings.TrimPrefix(err.Error(), changelog.ErrNotReady.Error()+": ")
	what, _, _ = strings.Cut(what, " (run ")
	x.add(Warning, "missing here: "+what, "run as a role that may create tables: fraiseql-observer migrate --database URL")
	return nil
}

// size says how much room the log and what belongs to it take.
func (x *examination) size(ctx context.Context) error {
	const query = `SELECT coalesce(sum(bytes) FILTER (WHERE NOT own), 0)::bigint, coalesce(sum(bytes) FILTER (WHERE own), 0)::bigint,
       coalesce(sum(rows) FILTER (WHERE NOT own), 0)::bigint
  FROM (SELECT pg_total_relation_size(c.oid) AS bytes, greatest(c.reltuples, 0) AS rows,
               n.nspname = $2 AND c.oid <> $1 AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) AS own
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ` + ourTables + `) AS tables`
	var log, own, rows int64
	if err := x.conn.QueryRow(ctx, query, x.tableOID(), x.Schema).Scan(&log, &own, &rows); err != nil {
		return err
	}
	x.ok("the log takes %s (about %d rows at the last analysis), the tables in %s take %s", size(log), rows, x.Schema, size(own))
	return nil
}
