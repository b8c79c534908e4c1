package doctor_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/postgres/doctor"
)

const insert = "INSERT INTO " + logTable + " (object_type, modification_type, object_id) VALUES ('Order', 'INSERT', '00000000-0000-0000-0000-00000000c0de')"

func pid(t *testing.T, conn *pgx.Conn) int32 {
	t.Helper()
	return testenv.Value[int32](t, conn, "SELECT pg_backend_pid()")
}

func TestLongTransaction(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	writer := testenv.Connect(t, dsn)
	testenv.Exec(t, writer, "SET application_name = 'shop'; BEGIN")
	writing := pid(t, writer)
	testenv.Exec(t, writer, insert)
	report := examine(t, dsn, doctor.Options{})
	good(t, report, "long_transactions")
	if !strings.Contains(of(report, "long_transactions")[0].What, "(1 are open)") {
		t.Errorf("the open transaction is not counted: %+v", of(report, "long_transactions"))
	}
	short := doctor.Options{Limits: doctor.Limits{LongTransaction: time.Nanosecond}}
	report = examine(t, dsn, short)
	w := want{
		"long_transactions", doctor.Warning, fmt.Sprintf("pid %d, user %s, application shop, idle in transaction, INSERT INTO %s ", writing, report.Role, logTable),
		fmt.Sprintf("SELECT pg_terminate_backend(%d);", writing),
	}
	expect(t, report, w)
	if what := of(report, "long_transactions")[0].What; strings.Contains(what, "c0de") || strings.Contains(what, "Order") {
		t.Errorf("a value is shown: %s", what)
	}
	name, asRole := newRole(t, conn, dsn)
	expect(t, examine(t, asRole, short), want{"long_transactions", doctor.Note, fmt.Sprintf("open for an unknown time, and its changes wait for its end (pid %d, ", writing), ""})
	testenv.Exec(t, conn, "GRANT pg_read_all_stats TO "+name)
	expect(t, examine(t, asRole, short), w)
	testenv.Exec(t, conn, sql(w.do)[0])
	testenv.Eventually(t, conn, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'shop' AND datname = current_database())")
	good(t, examine(t, dsn, short), "long_transactions")
}

func TestOldSnapshot(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	testenv.Exec(t, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM "+logTable)
	good(t, examine(t, dsn, doctor.Options{}), "old_snapshots")
	// Other tests have transactions, too.
	report := examine(t, dsn, doctor.Options{Limits: doctor.Limits{OldSnapshot: time.Nanosecond}})
	expect(t, report, want{"old_snapshots", doctor.Warning, fmt.Sprintf("(pid %d, ", pid(t, conn)), fmt.Sprintf("pg_terminate_backend(%d)", pid(t, conn))})
}

func TestClock(t *testing.T) {
	t.Parallel()
	dsn, _ := newDatabase(t)
	shifted := func(by time.Duration) doctor.Options {
		return doctor.Options{Now: func() time.Time { return time.Now().Add(by) }}
	}
	good(t, examine(t, dsn, shifted(0)), "clock")
	good(t, examine(t, dsn, shifted(500*time.Millisecond)), "clock")
	expect(t, examine(t, dsn, shifted(-time.Hour)), want{"clock", doctor.Warning, "ahead of the one of this machine", "NTP"})
	expect(t, examine(t, dsn, shifted(time.Hour)), want{"clock", doctor.Warning, "behind the one of this machine", "NTP"})
}

func TestEncoding(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	good(t, examine(t, dsn, doctor.Options{}), "encoding")
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path += "_latin"
	name := strings.TrimPrefix(u.Path, "/")
	testenv.Exec(t, conn, "CREATE DATABASE "+name+" ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	expect(t, examine(t, u.String(), doctor.Options{}), want{"encoding", doctor.Warning, "encoded in LATIN1", "ENCODING 'UTF8'"})
	testenv.Exec(t, conn, "DROP DATABASE "+name+" WITH (FORCE)")
}

func TestDeadRows(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	testenv.Exec(t, conn, "ALTER TABLE "+logTable+" SET (autovacuum_enabled = off)")
	testenv.Exec(t, conn, "INSERT INTO "+logTable+" (object_type, modification_type) SELECT 'Order', 'CUSTOM' FROM generate_series(1, 200)")
	testenv.Exec(t, conn, "DELETE FROM "+logTable)
	testenv.Eventually(t, conn, "SELECT n_dead_tup = 200 FROM pg_stat_all_tables WHERE relid = '"+logTable+"'::regclass")
	good(t, examine(t, dsn, doctor.Options{}), "dead_rows")
	low := doctor.Options{Limits: doctor.Limits{DeadRows: 100}}
	report := examine(t, dsn, low)
	expect(t, report, want{"dead_rows", doctor.Warning, logTable + " has about 200 dead rows and 0 living", "VACUUM " + logTable + ";"})
	testenv.Exec(t, conn, sql(of(report, "dead_rows")[0].Do)[0])
	testenv.Eventually(t, conn, "SELECT n_dead_tup = 0 FROM pg_stat_all_tables WHERE relid = '"+logTable+"'::regclass")
	good(t, examine(t, dsn, low), "dead_rows")
}

// A lock on the log does not stop the examination.
func TestLockedLog(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	testenv.Exec(t, conn, "BEGIN; LOCK TABLE "+logTable)
	report := examine(t, dsn, doctor.Options{})
	expect(t, report, want{"size", doctor.Note, "could not be checked: canceling statement due to lock timeout", "holds a lock"})
	good(t, report, "old_snapshots")
}

func TestBacklogOfACheckpoint(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	testenv.Exec(t, conn, insert)
	head, err := postgres.New(postgres.Config{Name: "shop", URL: observer.NewSecret(dsn)}).Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for rows, says := range []string{"everything in it is handled", "1 of its rows are not known to be handled, the first of them recorded "} {
		if rows > 0 {
			testenv.Exec(t, conn, insert)
		}
		expect(t, examine(t, dsn, doctor.Options{Checkpoint: head}), want{"reader", doctor.OK, says, ""})
	}
	expect(t, examine(t, dsn, doctor.Options{Checkpoint: "rowid 7"}), want{"reader", doctor.Problem, "not a position", "mend"})
}

func TestCaptures(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	expect(t, examine(t, dsn, doctor.Options{}), want{"captures", doctor.Note, "no table is captured", "capture add"})
	testenv.Exec(t, conn, `CREATE TABLE orders (id bigint PRIMARY KEY); CREATE TABLE "Lost Ones" (id bigint PRIMARY KEY)`)
	for _, table := range []string{"orders", `"Lost Ones"`} {
		if _, err := capture.Add(t.Context(), dsn, capture.Capture{Table: table, Entity: "Order"}); err != nil {
			t.Fatal(err)
		}
	}
	good(t, examine(t, dsn, doctor.Options{}), "captures")
	testenv.Exec(t, conn, `ALTER TABLE orders DISABLE TRIGGER ALL; DROP TABLE "Lost Ones"`)
	report := examine(t, dsn, doctor.Options{})
	expect(t, report, want{"captures", doctor.Problem, "triggers are disabled: changes are not recorded", "capture add --table public.orders --entity Order"})
	expect(t, report, want{"captures", doctor.Warning, "the table is gone", `--table 'public."Lost Ones"'`})
}

// A partitioned log is examined with its partitions.
func TestPartitionedLog(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	conn := testenv.Connect(t, dsn)
	testenv.Exec(t, conn, `CREATE SCHEMA core;
CREATE TABLE core.tb_entity_change_log (pk_entity_change_log bigint GENERATED ALWAYS AS IDENTITY, id uuid NOT NULL DEFAULT gen_random_uuid(),
  object_type text NOT NULL, modification_type text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (pk_entity_change_log))
  PARTITION BY RANGE (pk_entity_change_log);
CREATE UNLOGGED TABLE core.p1 PARTITION OF core.tb_entity_change_log FOR VALUES FROM (1) TO (1000) WITH (autovacuum_enabled = off)`)
	migrated(t, dsn)
	report := examine(t, dsn, doctor.Options{})
	expect(t, report, want{"log", doctor.OK, "a partitioned table", ""})
	expect(t, report, want{"log_storage", doctor.Problem, "core.p1 is UNLOGGED", "ALTER TABLE core.p1 SET LOGGED;"})
	expect(t, report, want{"autovacuum", doctor.Warning, "core.p1", "ALTER TABLE core.p1 RESET (autovacuum_enabled);"})
	good(t, report, "log_key")
}
