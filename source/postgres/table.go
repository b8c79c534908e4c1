package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// table is a change log as one connection found it.
type table struct {
	name     string // quoted
	layout   changelog.Layout
	database uint32 // oid
	// history names what the keys of this log mean: the cluster, its timeline
	// and the table. sequenceFile is another one when the sequence was restarted.
	history      string
	sequenceFile uint32
	// sequenceReadable: the role may ask the sequence how far it is.
	sequenceReadable bool
	// checked: the columns of images have types that hold nothing but JSON.
	checked bool
	columns string
}

const hiddenAdvice = "let the reader's role own the table, or ALTER ROLE ... BYPASSRLS"

// inspect looks at everything that reading without a loss depends on.
func (s *Source) inspect(ctx context.Context, conn *pgx.Conn) (*table, error) {
	ctx, cancel := s.patiently(ctx)
	defer cancel()
	var standby bool
	if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return nil, s.failed("look at the server", err)
	}
	if standby {
		return nil, fmt.Errorf("%w: connect %s to the primary (with several hosts in the URL, add target_session_attrs=read-write)", ErrStandby, s.cfg.Name)
	}
	layout, err := changelog.Inspect(ctx, conn, s.cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("change log of %s: %w", s.cfg.Name, err)
	}
	if layout.SequenceOID == 0 {
		return nil, fmt.Errorf("change log of %s: %s has no sequence behind pk_entity_change_log: make it an identity column", s.cfg.Name, s.cfg.Log)
	}
	if layout.SequenceCache != 1 {
		return nil, fmt.Errorf("%w: %s has CACHE %d, so that changes of one entity would come in the wrong order: ALTER SEQUENCE %s CACHE 1",
			ErrSequenceCache, layout.Sequence, layout.SequenceCache, layout.Sequence)
	}
	t := &table{name: s.cfg.Log.String(), layout: layout, columns: selected(layout)}
	return t, s.rights(ctx, conn, t)
}

// rights checks that the role sees every row, and reads what names the history.
func (s *Source) rights(ctx context.Context, conn *pgx.Conn, t *table) error {
	const query = `
SELECT d.oid, ` + historyExpression + `,
       pg_relation_filenode($2::oid),
       has_table_privilege($1::oid, 'SELECT')
         AND has_schema_privilege((SELECT relnamespace FROM pg_class WHERE oid = $1::oid), 'USAGE'),
       row_security_active($1::oid),
       has_sequence_privilege($2::oid, 'SELECT, USAGE'),
       NOT EXISTS (SELECT FROM pg_attribute AS a
                    WHERE a.attrelid = $1::oid AND a.attname IN ('object_data', 'object_data_before')
                      AND a.atttypid NOT IN ('json'::regtype, 'jsonb'::regtype) AND NOT a.attisdropped)
  FROM pg_database d
 WHERE d.datname = current_database()`
	var readable, hidden bool
	err := conn.QueryRow(ctx, query, t.layout.TableOID, t.layout.SequenceOID).
		Scan(&t.database, &t.history, &t.sequenceFile, &readable, &hidden, &t.sequenceReadable, &t.checked)
	switch {
	case err != nil:
		return s.failed("look at the server", err)
	case !readable:
		return fmt.Errorf("%w: GRANT USAGE ON SCHEMA %s and GRANT SELECT ON %s to the role of %s",
			ErrDenied, pgx.Identifier{s.cfg.Log.Schema}.Sanitize(), t.name, s.cfg.Name)
	case hidden:
		return fmt.Errorf("%w from the role of %s: %s", ErrHidden, s.cfg.Name, hiddenAdvice)
	}
	return nil
}

// epoch names the history within which a key is given once.
func (t *table) epoch() string {
	return t.history + "." + strconv.FormatUint(uint64(t.sequenceFile), 10)
}

// wanted are the columns of a row, in the order of row.dest, with the
// expression that reads each. A log that lacks one reads as NULL there.
func wanted() []struct{ column, expression string } {
	return []struct{ column, expression string }{
		{"id", "l.id::text"},
		{"object_type", "l.object_type::text"},
		{"modification_type", "l.modification_type::text"},
		{"created_at", "l.created_at::timestamptz"},
		{"entity_key", "l.entity_key"},
		{"object_id", "l.object_id::text"},
		{"object_data", "l.object_data::text"},
		{"object_data_before", "l.object_data_before::text"},
		{"tenant_key", "l.tenant_key"},
		{"tenant_id", "l.tenant_id::text"},
		{"fk_contact", "l.fk_contact::text"},
		{"seq", "l.seq::bigint"},
		{"duration_ms", "l.duration_ms::bigint"},
		{"actor_type", "l.actor_type::text"},
		{"acting_for", "l.acting_for::text"},
		{"schema_version", "l.schema_version::text"},
		{"extra_metadata", "to_jsonb(l.extra_metadata) ->> 'cdc_source'"}, // which may be text elsewhere
		{"trace_context", "to_jsonb(l.trace_context) ->> 'traceparent'"},
		{"trace_context", "to_jsonb(l.trace_context) ->> 'tracestate'"},
	}
}

func selected(layout changelog.Layout) string {
	parts := []string{
		"l.pk_entity_change_log AS pk",
		fmt.Sprintf("(SELECT pg_relation_filenode(%d))", layout.SequenceOID), // asked once for all rows
	}
	for _, w := range wanted() {
		expression := w.expression
		if !layout.Columns[w.column] {
			expression = "NULL"
			if w.column == "created_at" {
				expression = "NULL::timestamptz"
			}
		}
		parts = append(parts, expression)
	}
	return strings.Join(parts, ", ")
}

// pollQuery finds the next rows: those of holes, which have the lower keys, and
// those above the highest key seen; in the order of keys, from one snapshot.
func (t *table) pollQuery() string {
	return `(SELECT ` + t.columns + `
   FROM unnest($1::bigint[], $2::bigint[]) AS hole (lo, hi)
  CROSS JOIN LATERAL (SELECT * FROM ` + t.name + ` AS r
          WHERE r.pk_entity_change_log BETWEEN hole.lo AND hole.hi
          ORDER BY r.pk_entity_change_log LIMIT $4) AS l
  ORDER BY l.pk_entity_change_log LIMIT $4)
UNION ALL
(SELECT ` + t.columns + ` FROM ` + t.name + ` AS l
  WHERE l.pk_entity_change_log > $3
  ORDER BY l.pk_entity_change_log LIMIT $4)
LIMIT $4`
}

// nextQuery is the poll while there is no hole.
func (t *table) nextQuery() string {
	return `SELECT ` + t.columns + ` FROM ` + t.name + ` AS l
  WHERE l.pk_entity_change_log > $1
  ORDER BY l.pk_entity_change_log LIMIT $2`
}

func (t *table) rowQuery() string {
	return `SELECT ` + t.columns + ` FROM ` + t.name + ` AS l WHERE l.pk_entity_change_log = $1`
}

func (t *table) backlogQuery() string {
	return `SELECT count(*), min(created_at) FROM (
  SELECT r.created_at FROM unnest($1::bigint[], $2::bigint[]) AS hole (lo, hi)
    JOIN ` + t.name + ` AS r ON r.pk_entity_change_log BETWEEN hole.lo AND hole.hi
  UNION ALL
  SELECT created_at FROM ` + t.name + ` WHERE pk_entity_change_log > $3) AS waiting
 WHERE isfinite(created_at) OR created_at IS NULL`
}

// complete fills in what only a second look can tell of a malformed row: the
// row as it is, and a name where it has no id.
func (t *table) complete(ctx context.Context, conn *pgx.Conn, source string, r *row, m *observer.Malformed) error {
	var raw []byte
	err := conn.QueryRow(ctx, `SELECT to_jsonb(l)::text FROM `+t.name+` AS l WHERE l.pk_entity_change_log = $1`, r.pk).Scan(&raw)
	if errors.Is(err, pgx.ErrNoRows) { // it was pruned in between
		raw, err = json.Marshal(map[string]any{"pk_entity_change_log": r.pk, "id": r.id.String})
	}
	if err != nil {
		return err
	}
	m.Raw = raw
	if m.ID == "" {
		m.ID = fmt.Sprintf("%s%s:%d:%s", malformedPrefix, source, r.pk, digestOf(string(raw)))
	}
	return nil
}
