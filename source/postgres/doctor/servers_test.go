package doctor_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/changelog"
	"github.com/fraiseql/observer/source/postgres/doctor"
)

// What belongs to a whole server needs one of its own: one as in production, and
// its standby.
func TestHealthyServer(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Durable: true})
	dsn := server.Database(t)
	conn := migrated(t, dsn)
	testenv.Exec(t, conn, "CREATE TABLE fraiseql_observer.tb_checkpoint (name text)")
	testenv.Exec(t, conn, "CREATE TABLE orders (id bigint PRIMARY KEY)")
	captureOrders(t, dsn)
	report := examine(t, dsn, doctor.Options{})
	golden(t, "healthy.txt", report)
	if report.Worst() != doctor.OK {
		t.Errorf("the worst finding is %s", report.Worst())
	}

	testenv.Exec(t, conn, "ALTER ROLE postgres SET synchronous_commit = off")
	expect(t, examine(t, dsn, doctor.Options{}), want{"durability", doctor.Warning, "synchronous_commit is off for role postgres", "RESET"})
	testenv.Exec(t, conn, "ALTER ROLE postgres RESET synchronous_commit")
	good(t, examine(t, dsn, doctor.Options{}), "durability")

	testenv.Exec(t, conn, "CREATE SUBSCRIPTION orders_copy CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)")
	good(t, examine(t, dsn, doctor.Options{}), "subscriptions")
	testenv.Exec(t, conn, "ALTER SUBSCRIPTION orders_copy ENABLE")
	expect(t, examine(t, dsn, doctor.Options{}), want{"subscriptions", doctor.Note, "what the subscription orders_copy applies", "capture them in the database that publishes"})

	slots(t, dsn)
	queue(t, dsn)
	standby(t, server)
}

func slots(t *testing.T, dsn string) {
	t.Helper()
	conn := testenv.Connect(t, dsn)
	testenv.Exec(t, conn, "SELECT pg_create_physical_replication_slot('unused')")
	good(t, examine(t, dsn, doctor.Options{}), "replication_slots")
	testenv.Exec(t, conn, "SELECT pg_create_physical_replication_slot('left', true)")
	report := examine(t, dsn, doctor.Options{})
	expect(t, report, want{"replication_slots", doctor.Note, "replication slot left has no reader and holds back", "pg_drop_replication_slot('left')"})
	low := doctor.Options{Limits: doctor.Limits{HeldWAL: 1}}
	testenv.Exec(t, conn, "CREATE TABLE written (a int)")
	expect(t, examine(t, dsn, low), want{"replication_slots", doctor.Warning, "replication slot left has no reader and holds back", ""})
	testenv.Exec(t, conn, "SELECT pg_drop_replication_slot('left')")
	good(t, examine(t, dsn, low), "replication_slots")
}

func queue(t *testing.T, dsn string) {
	t.Helper()
	listener, notifier := testenv.Connect(t, dsn), testenv.Connect(t, dsn)
	testenv.Exec(t, listener, "LISTEN busy")
	testenv.Exec(t, listener, "BEGIN")
	testenv.Exec(t, notifier, "DO $$ BEGIN FOR i IN 1..40 LOOP PERFORM pg_notify('busy', i || repeat('x', 7000)); END LOOP; END $$")
	good(t, examine(t, dsn, doctor.Options{}), "notification_queue")
	low := doctor.Options{Limits: doctor.Limits{Queue: 1e-9}}
	expect(t, examine(t, dsn, low), want{"notification_queue", doctor.Warning, "commits that notify fail", "SELECT pid, xact_start"})
}

func standby(t *testing.T, primary *testenv.Postgres) {
	t.Helper()
	copied := primary.Standby(t, testenv.Options{Durable: true})
	report := examine(t, copied.URL(), doctor.Options{})
	expect(t, report, want{"standby", doctor.Problem, "the server is a standby", "target_session_attrs=read-write"})
}

func TestPreparedTransactions(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{"max_prepared_transactions": "5"}})
	dsn := server.Database(t)
	conn := migrated(t, dsn)
	expect(t, examine(t, dsn, doctor.Options{}), want{"wake_up", doctor.Note, "max_prepared_transactions is 5", "migrate --notify always"})
	for mode, w := range map[changelog.Notify]want{
		changelog.NotifyAlways: {"wake_up", doctor.Warning, "PREPARE TRANSACTION fails", "migrate --notify auto"},
		changelog.NotifyNever:  {"wake_up", doctor.Note, "the wake-up mode is never", "migrate --notify auto"},
	} {
		if err := changelog.Migrate(t.Context(), dsn, changelog.Options{Notify: mode}); err != nil {
			t.Fatal(err)
		}
		expect(t, examine(t, dsn, doctor.Options{}), w)
	}

	testenv.Exec(t, conn, "BEGIN; "+insert+"; PREPARE TRANSACTION 'it''s \\1'")
	report := examine(t, dsn, doctor.Options{})
	good(t, report, "prepared_transactions")
	good(t, report, "old_snapshots")
	good(t, report, "long_transactions")
	short := doctor.Options{Limits: doctor.Limits{LongTransaction: time.Nanosecond, OldSnapshot: time.Nanosecond}}
	report = examine(t, dsn, short)
	w := want{"prepared_transactions", doctor.Warning, `prepared transaction it's \1 of postgres has been open for`, `ROLLBACK PREPARED E'it''s \\1';`}
	expect(t, report, w)
	expect(t, report, want{"old_snapshots", doctor.Warning, `prepared transaction it's \1 in database`, `COMMIT PREPARED E'it''s \\1';`})
	testenv.Exec(t, conn, strings.TrimSuffix(w.do, ";"))
	report = examine(t, dsn, short)
	good(t, report, "prepared_transactions")
}

// A server on which as much as possible is wrong at once.
func TestSickServer(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{
		"wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off", "full_page_writes": "off", "synchronous_commit": "off",
		"max_connections": "10", "session_replication_role": "replica", "max_prepared_transactions": "2", "statement_timeout": "3s",
	}})
	dsn := server.Database(t)
	conn := migrated(t, dsn)
	testenv.Exec(t, conn, "CREATE TABLE orders (id bigint PRIMARY KEY)")
	captureOrders(t, dsn)
	testenv.Exec(t, conn, `ALTER SEQUENCE core.tb_entity_change_log_pk_entity_change_log_seq CACHE 50;
ALTER TABLE core.tb_entity_change_log DROP COLUMN entity_key, DISABLE TRIGGER fraiseql_wake_up, SET UNLOGGED;
ALTER TABLE orders DISABLE TRIGGER ALL`)
	testenv.Exec(t, conn, "BEGIN; "+insert+"; PREPARE TRANSACTION 'forgotten'")
	testenv.Exec(t, conn, "SET application_name = 'shop'; BEGIN")
	testenv.Exec(t, conn, insert)
	report := examine(t, dsn, doctor.Options{Limits: doctor.Limits{LongTransaction: time.Nanosecond}})
	golden(t, "sick.txt", report)
	if report.Worst() != doctor.Problem {
		t.Errorf("the worst finding is %s", report.Worst())
	}
}
