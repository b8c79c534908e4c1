package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// checkVersion makes sure that the tables are those this program knows, and
// migrates them when they are older and it may.
func (s *Store) checkVersion(ctx context.Context, url string) error {
	steps, err := steps()
	if err != nil {
		return err
	}
	var current int64
	if err := s.query(ctx, func(ctx context.Context) (err error) {
		current, err = s.schema.version(ctx, func(ctx context.Context, sql string, args ...any) scanner {
			return s.pool.QueryRow(ctx, sql, args...)
		})
		return s.lacks(err)
	}); err != nil {
		return err
	}
	switch latest := steps[len(steps)-1].version; {
	case current == latest:
		return nil
	case current > latest:
		return s.schema.newer(s.at, current, latest)
	case s.readOnly && current == 0:
		return &missingError{fmt.Sprintf("%s holds no state in schema %s yet; run: fraiseql-observer migrate", s.at, s.schema)}
	case s.readOnly:
		return fmt.Errorf("%s has tables of version %d in schema %s, this program reads version %d; run: fraiseql-observer migrate",
			s.at, current, s.schema, latest)
	}
	if err := Migrate(ctx, url, s.schema.name); err != nil {
		return s.mayNot(err)
	}
	return nil
}

// mayNot is about a role without the right to create tables: one with it has to
// prepare the database.
func (s *Store) mayNot(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42501" {
		return s.at.refused(
			fmt.Sprintf("user %s may not create the tables of the state store (%s)", s.at.user, e.Message),
			"run with a role that may: fraiseql-observer migrate", err)
	}
	return err
}

// checkRights finds out at the start what would fail later.
func (s *Store) checkRights(ctx context.Context) error {
	rights := []string{"SELECT"}
	if !s.readOnly {
		rights = append(rights, "INSERT", "UPDATE", "DELETE")
	}
	const query = `
SELECT p || ' on ' || c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, unnest($2::text[]) AS p
WHERE n.nspname = $1 AND c.relname IN ('tb_checkpoint', 'tb_delivery', 'tb_dead_count', 'tb_queue', 'tb_endpoint', 'tb_dedup', 'tb_dedup_view', 'tb_dedup_session',
        'tb_lease', 'tb_lease_term', 'tb_receipt')
    AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, p))
ORDER BY c.relname, p`
	rows, err := s.pool.Query(ctx, query, s.schema.name, rights)
	if err != nil {
		return err
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(missing) == 0 {
		return err
	}
	return s.grants("lacks " + strings.Join(missing, ", "))
}

// lacks replaces an error for a missing right by what to grant.
func (s *Store) lacks(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42501" {
		return s.grants("has no access (" + e.Message + ")")
	}
	return err
}

func (s *Store) grants(what string) error {
	rights := "SELECT, INSERT, UPDATE, DELETE"
	if s.readOnly {
		rights = "SELECT"
	}
	role := pgx.Identifier{s.at.user}.Sanitize()
	return s.at.refused(
		fmt.Sprintf("user %s %s", s.at.user, what),
		fmt.Sprintf("run as the owner: GRANT USAGE ON SCHEMA %s TO %s; GRANT %s ON ALL TABLES IN SCHEMA %s TO %s",
			s.schema, role, rights, s.schema, role), nil)
}
