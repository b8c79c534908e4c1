package postgres_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// makeStressLog makes a change log as FraiseQL does.
func makeStressLog(t testing.TB, url string) {
	t.Helper()
	testenv.Exec(t, testenv.Connect(t, url), `
		CREATE SCHEMA core;
		CREATE SEQUENCE core.seq_entity_change_log;
		CREATE TABLE `+stressLog+` (
			pk_entity_change_log bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			id uuid NOT NULL DEFAULT gen_random_uuid(),
			object_type text NOT NULL,
			modification_type text NOT NULL,
			created_at timestamptz NOT NULL DEFAULT now(),
			object_id uuid, object_data jsonb, object_data_before jsonb,
			updated_fields text[], cascade jsonb, duration_ms int, started_at timestamptz, commit_time timestamptz,
			tenant_id uuid, fk_customer_org bigint, fk_contact bigint,
			seq bigint DEFAULT nextval('core.seq_entity_change_log'),
			actor_type text, acting_for uuid, schema_version text, trace_id text, trace_context jsonb,
			change_status text, extra_metadata jsonb, nats_published_at timestamptz, nats_event_id uuid)`)
}

// migrateStressLog makes a change log of our own.
func migrateStressLog(t testing.TB, url string) {
	t.Helper()
	if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err != nil {
		t.Fatal(err)
	}
}

const (
	// stressLock locks entities, always in the same order, so that writers wait
	// for each other and never in a circle.
	stressLock = "SELECT id::text FROM stress_entity WHERE id = ANY($1) ORDER BY id FOR UPDATE"
	stressDraw = "SELECT nextval(pg_get_serial_sequence('" + stressLog + "', 'pk_entity_change_log'))"

	stressBump   = "WITH changed AS (UPDATE stress_entity SET version = version + 1 WHERE id = ANY($1) RETURNING id, version) "
	stressValues = "'Thing', 'UPDATE', id, jsonb_build_object('id', id, 'version', version) FROM changed RETURNING " + stressColumns
	// stressColumns are the fields of a stressChange.
	stressColumns = "id::text, object_id::text, (object_data->>'version')::bigint"

	// stressWrite changes entities and logs it, stressWriteAt one under a key
	// that was drawn before.
	stressWrite = stressBump + "INSERT INTO " + stressLog +
		" (object_type, modification_type, object_id, object_data) SELECT " + stressValues
	stressWriteAt = stressBump + "INSERT INTO " + stressLog +
		" (pk_entity_change_log, object_type, modification_type, object_id, object_data) OVERRIDING SYSTEM VALUE SELECT $2, " + stressValues
)

// stressQueryer is a connection, or one with a limit of its own.
type stressQueryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// stressChanges runs a query that returns stressColumns.
func stressChanges(ctx context.Context, q stressQueryer, sql string, args ...any) ([]stressChange, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c stressChange, err error) {
		return c, row.Scan(&c.id, &c.entity, &c.version)
	})
}

// write changes an entity that nobody else changes, in the transaction that the
// connection is in, and logs it under a key that was drawn before, or under the
// next one where that is 0.
func (s *stressStand) write(conn *pgx.Conn, key int64) stressChange {
	s.Helper()
	entity := []string{testenv.Value[string](s, conn, "INSERT INTO stress_entity (version) VALUES (0) RETURNING id::text")}
	sql, args := stressWrite, []any{entity}
	if key != 0 {
		sql, args = stressWriteAt, []any{entity, key}
	}
	changes, err := stressChanges(s.Context(), conn, sql, args...)
	if err != nil || len(changes) != 1 {
		s.Fatalf("write: %v, %v", changes, err)
	}
	return changes[0]
}

// change commits one change.
func (s *stressStand) change(conn *pgx.Conn) stressChange {
	s.Helper()
	c := s.write(conn, 0)
	s.ledger.add(c)
	return c
}

// draw begins a transaction and draws a key in it. The transaction has no
// transaction id: nothing but its lock on the sequence tells that it is there.
func (s *stressStand) draw(conn *pgx.Conn) int64 {
	s.Helper()
	for {
		testenv.Exec(s, conn, "BEGIN")
		key := testenv.Value[int64](s, conn, stressDraw)
		if testenv.Value[bool](s, conn, "SELECT pg_current_xact_id_if_assigned() IS NULL") {
			return key
		}
		testenv.Exec(s, conn, "ROLLBACK") // the draw was written to the log of the server, as one in 32 is
	}
}

// commit commits the transaction that the connection is in, with its changes.
func (s *stressStand) commit(conn *pgx.Conn, changes ...stressChange) {
	s.Helper()
	testenv.Exec(s, conn, "COMMIT")
	s.ledger.add(changes...)
}

// audit compares what the writers told with what the log holds.
func (s *stressStand) audit() {
	s.Helper()
	if diff := cmp.Diff(s.ledger.all(), s.held(), cmp.AllowUnexported(stressChange{})); diff != "" {
		s.Errorf("the log does not hold what the writers committed (-committed +held):\n%s", diff)
	}
}

// held returns the changes that stand in the log.
func (s *stressStand) held() map[string]stressChange {
	s.Helper()
	rows, err := stressChanges(s.Context(), s.connect(), "SELECT "+stressColumns+" FROM "+stressLog)
	if err != nil {
		s.Fatal(err)
	}
	held := map[string]stressChange{}
	for _, c := range rows {
		held[c.id] = c
	}
	return held
}
