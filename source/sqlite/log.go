package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// queryer is a database, a connection or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func requiredColumns() []string {
	return []string{
		"pk_entity_change_log", "id", "object_type", "modification_type", "created_at",
		"object_id", "object_data", "object_data_before",
	}
}

// optionalColumns may be missing from a table that somebody else made; they
// read as NULL.
func optionalColumns() []string {
	return []string{
		"tenant_id", "fk_contact", "seq", "duration_ms", "actor_type", "acting_for", "schema_version", "extra_metadata",
		"trace_context",
	}
}

// changeLog is what the schema says of the log, and its epoch.
type changeLog struct {
	epoch    string
	columns  []string
	uniqueID bool
}

func (l *changeLog) has(column string) bool { return slices.Contains(l.columns, column) }

// inspectLog checks that the database has a log this package can read.
func inspectLog(ctx context.Context, q queryer) (*changeLog, error) {
	var text string
	err := q.QueryRowContext(ctx, "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", logTable).Scan(&text)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("%w: table %s is missing (\"capture add\" creates it)", ErrNoLog, logTable)
	case err != nil:
		return nil, fmt.Errorf("inspect change log: %w", err)
	case !strings.Contains(strings.ToUpper(text), "AUTOINCREMENT"):
		return nil, fmt.Errorf("table %s was not made by this program: its key must be INTEGER PRIMARY KEY AUTOINCREMENT, or keys would be reused", logTable)
	}
	l := &changeLog{}
	if l.columns, err = strs(ctx, q, "SELECT name FROM pragma_table_info(?)", logTable); err != nil {
		return nil, fmt.Errorf("inspect change log: %w", err)
	}
	for _, c := range requiredColumns() {
		if !l.has(c) {
			return nil, fmt.Errorf("table %s was not made by this program: column %s is missing", logTable, c)
		}
	}
	if err := l.inspectRest(ctx, q); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *changeLog) inspectRest(ctx context.Context, q queryer) error {
	var err error
	if l.epoch, err = epochOf(ctx, q); err != nil {
		return err
	}
	err = q.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1) AS i
		WHERE i."unique" AND NOT i.partial AND (SELECT group_concat(name) FROM pragma_index_info(i.name)) = 'id')`, logTable).Scan(&l.uniqueID)
	if err != nil {
		return fmt.Errorf("inspect change log: %w", err)
	}
	return nil
}

// epochOf reads the epoch. Only its absence means that there is no log: an error
// of reading says nothing about what is there.
func epochOf(ctx context.Context, q queryer) (epoch string, err error) {
	var tables int
	err = q.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'tb_entity_change_log_meta'").Scan(&tables)
	if err == nil && tables > 0 {
		err = q.QueryRowContext(ctx, "SELECT value FROM tb_entity_change_log_meta WHERE name = 'epoch'").Scan(&epoch)
	}
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && tables == 0:
		return "", fmt.Errorf("%w: its epoch is missing (\"capture add\" creates it)", ErrNoLog)
	case err != nil:
		return "", fmt.Errorf("read the epoch of the change log: %w", err)
	}
	return epoch, nil
}

// eventColumns is the select list of what an event is made of. The unary plus
// keeps the driver from converting values by the declared type of the column.
func (l *changeLog) eventColumns() string {
	var list []string
	for _, c := range requiredColumns() {
		list = append(list, "+"+c)
	}
	for _, c := range optionalColumns() {
		if l.has(c) {
			list = append(list, "+"+c)
		} else {
			list = append(list, "NULL")
		}
	}
	return strings.Join(list, ", ")
}

// rawColumns is the select list of the whole row.
func (l *changeLog) rawColumns() string {
	list := make([]string, len(l.columns))
	for i, c := range l.columns {
		list[i] = "+" + quoteName(c)
	}
	return strings.Join(list, ", ")
}

// strs runs a query for one column of text.
func strs(ctx context.Context, q queryer, query string, args ...any) (list []string, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}

// quoteName writes an identifier so that no character of it has a meaning.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteText writes an SQL text literal.
func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
