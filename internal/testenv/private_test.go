package testenv_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestKilledServerKeepsWhatWasCommitted(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Durable: true, Settings: map[string]string{"max_prepared_transactions": "2"}})
	target := server.Database(t)
	conn := testenv.Connect(t, target)
	testenv.Exec(t, conn, "CREATE TABLE kept (what text)")
	testenv.Exec(t, conn, "INSERT INTO kept VALUES ('committed')")
	testenv.Exec(t, conn, "BEGIN; INSERT INTO kept VALUES ('prepared'); PREPARE TRANSACTION 'p'")
	testenv.Exec(t, conn, "BEGIN; INSERT INTO kept VALUES ('open')")
	server.Kill(t)
	if listening(t, target) {
		t.Error("the port still accepts connections")
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the connection survived")
	}
	server.Start(t)
	conn = testenv.Connect(t, target)
	testenv.Exec(t, conn, "COMMIT PREPARED 'p'")
	got := testenv.Value[string](t, conn, "SELECT string_agg(what, ',' ORDER BY what) FROM kept")
	if got != "committed,prepared" {
		t.Errorf("after the kill: %s", got)
	}
	if !strings.Contains(server.Log(), "was interrupted") {
		t.Errorf("the log tells of no recovery:\n%s", server.Log())
	}
}

// TestKillReachesBusyProcesses: a backend that computes does not notice the end
// of its postmaster, and the next start would find its shared memory in use.
func TestKillReachesBusyProcesses(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{})
	watcher := testenv.Connect(t, server.URL())
	ended := make(chan error, 4)
	for range cap(ended) {
		busy := testenv.Connect(t, server.URL())
		go func() {
			_, err := busy.Exec(t.Context(), "SELECT count(*) FROM generate_series(1, 1e9::bigint) g, generate_series(1, 1e9::bigint) h")
			ended <- err
		}()
	}
	testenv.Eventually(t, watcher, "SELECT count(*) >= $1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%1e9%generate%'", cap(ended))
	server.Kill(t)
	for range cap(ended) {
		if err := <-ended; err == nil {
			t.Error("a query of the killed server came to its end")
		}
	}
	server.Start(t)
	if testenv.Value[int](t, testenv.Connect(t, server.URL()), "SELECT 1") != 1 {
		t.Error("the server does not answer")
	}
}

func TestRemovedServerLeavesNoMemory(t *testing.T) { //nolint:tparallel // what follows looks at what the subtest left
	t.Parallel()
	const table = "/proc/sysvipc/shm"
	if _, err := os.Stat(table); err != nil {
		t.Skip("only Linux lists shared memory in a file")
	}
	var key, home string
	has := func(t *testing.T) bool {
		t.Helper()
		content, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(content), " "+key+" ")
	}
	t.Run("a test that kills its server and leaves it", func(t *testing.T) {
		server := testenv.PrivatePostgres(t, testenv.Options{})
		conn := testenv.Connect(t, server.URL())
		home = testenv.Value[string](t, conn, "SHOW data_directory")
		key = testenv.Value[string](t, conn, "SELECT (string_to_array(trim(split_part(pg_read_file('postmaster.pid'), E'\\n', 7)), ' '))[1]")
		server.Kill(t)
		if !has(t) {
			t.Fatal("a killed server leaves memory, but none was found: this test would find none later either")
		}
	})
	if has(t) {
		t.Error("the shared memory is still there")
	}
	if _, err := os.Stat(home); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", home, err)
	}
}

func TestStoppedServerStartsWithItsSettings(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{})
	port := server.Port(t)
	testenv.Exec(t, testenv.Connect(t, server.URL()), "ALTER SYSTEM SET max_connections = 17")
	server.Stop(t)
	if listening(t, server.URL()) {
		t.Error("the stopped server listens")
	}
	server.Start(t)
	if server.Port(t) != port {
		t.Errorf("the port moved from %d to %d", port, server.Port(t))
	}
	if got := testenv.Value[string](t, testenv.Connect(t, server.URL()), "SHOW max_connections"); got != "17" {
		t.Errorf("max_connections is %s", got)
	}
	if !strings.Contains(server.Log(), "database system is shut down") || strings.Contains(server.Log(), "was interrupted") {
		t.Errorf("the log does not tell of an orderly stop:\n%s", server.Log())
	}
}

func TestKilledBackendEndsAllConnections(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{})
	victim, bystander := testenv.Connect(t, server.URL()), testenv.Connect(t, server.URL())
	server.KillBackend(t, testenv.Value[int](t, victim, "SELECT pg_backend_pid()"))
	if err := victim.Ping(t.Context()); err == nil {
		t.Error("the killed connection answers")
	}
	eventually(t, "the connection beside it ends", func() bool { return bystander.Ping(t.Context()) != nil })
	eventually(t, "the server recovers", func() bool {
		conn, err := pgx.Connect(t.Context(), server.URL())
		return err == nil && conn.Close(t.Context()) == nil
	})
}

// TestPromotedStandbyUsesIdsAgain is what makes promotion of a lagging standby
// hard for a reader: two histories with the same ids.
func TestPromotedStandbyUsesIdsAgain(t *testing.T) {
	t.Parallel()
	primary := testenv.PrivatePostgres(t, testenv.Options{})
	old := testenv.Connect(t, primary.URL())
	testenv.Exec(t, old, "CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY, what text)")
	testenv.Exec(t, old, "INSERT INTO log (what) VALUES ('before')")
	standby := primary.Standby(t, testenv.Options{})
	standby.CatchUp(t, primary)
	promoted := testenv.Connect(t, standby.URL())
	if !testenv.Value[bool](t, promoted, "SELECT pg_is_in_recovery() AND count(*) = 1 FROM log") {
		t.Fatal("the standby is none, or has not what its primary had")
	}
	standby.Detach(t)
	testenv.Exec(t, old, "INSERT INTO log (what) SELECT 'lost' FROM generate_series(1, 100)")
	standby.Promote(t)
	testenv.Exec(t, promoted, "INSERT INTO log (what) VALUES ('after')")
	if got := testenv.Value[string](t, promoted, "SELECT string_agg(what, ',' ORDER BY id) FROM log"); got != "before,after" {
		t.Errorf("the new history is %s", got)
	}
	id := testenv.Value[int64](t, promoted, "SELECT id FROM log WHERE what = 'after'")
	if !testenv.Value[bool](t, old, "SELECT EXISTS (SELECT FROM log WHERE what = 'lost' AND id = $1)", id) {
		t.Errorf("id %d was not used in the old history", id)
	}
	// The checkpoint of the promotion comes a little later.
	testenv.Eventually(t, promoted, "SELECT timeline_id = 2 FROM pg_control_checkpoint()")
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 30s: %s", what)
		}
	}
}
