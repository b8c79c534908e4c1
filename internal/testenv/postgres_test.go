package testenv_test

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	one := testenv.Connect(t, testenv.Database(t))
	other := testenv.Connect(t, testenv.Database(t))
	testenv.Exec(t, one, "CREATE TABLE only_here (); CREATE SCHEMA mine")
	for _, query := range []string{
		"SELECT to_regclass('only_here') IS NOT NULL",
		"SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'mine')",
	} {
		if !testenv.Value[bool](t, one, query) || testenv.Value[bool](t, other, query) {
			t.Errorf("%s: want true in one database and false in the other", query)
		}
	}
}

func TestDatabaseIsGoneAfterItsTest(t *testing.T) { //nolint:tparallel // what follows looks at what the subtest left
	t.Parallel()
	server := testenv.SharedPostgres(t)
	var name string
	var left *pgx.Conn
	t.Run("a test that leaves a connection open", func(t *testing.T) {
		target := server.Database(t)
		name = databaseOf(t, target)
		var err error
		if left, err = pgx.Connect(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		testenv.Exec(t, left, "CREATE TABLE locked (); BEGIN; LOCK TABLE locked")
	})
	defer func() { _ = left.Close(t.Context()) }()
	conn := testenv.Connect(t, server.URL())
	if testenv.Value[bool](t, conn, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name) {
		t.Errorf("database %s is still there", name)
	}
	if err := left.Ping(t.Context()); err == nil {
		t.Error("the connection that was left still answers")
	}
}

func TestDropEndsPreparedTransactions(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{"max_prepared_transactions": "2"}})
	target := server.Database(t)
	conn := testenv.Connect(t, target)
	testenv.Exec(t, conn, "CREATE TABLE t (); BEGIN; LOCK TABLE t; PREPARE TRANSACTION 'it''s'")
	if err := testenv.Drop(t.Context(), server.URL(), target, databaseOf(t, target)); err != nil {
		t.Fatal(err)
	}
	other := testenv.Connect(t, server.URL())
	if n := testenv.Value[int](t, other, "SELECT count(*) FROM pg_prepared_xacts"); n != 0 {
		t.Errorf("%d prepared transactions left", n)
	}
}

func TestPrivateServerHasItsSettings(t *testing.T) {
	t.Parallel()
	want := map[string]string{"max_prepared_transactions": "20", "wal_level": "logical", "cluster_name": "it's", "fsync": "on"}
	settings := map[string]string{"max_prepared_transactions": "20", "wal_level": "logical", "cluster_name": "it's"}
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: settings, Durable: true})
	conn := testenv.Connect(t, server.URL())
	got := map[string]string{}
	for name := range want {
		got[name] = testenv.Value[string](t, conn, "SELECT current_setting($1)", name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestServerIsReachedFromThisAccountOnly(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{})
	conn := testenv.Connect(t, server.URL())
	if got := testenv.Value[string](t, conn, "SHOW listen_addresses"); got != "127.0.0.1" {
		t.Errorf("listens on %q", got)
	}
	home := filepath.Dir(testenv.Value[string](t, conn, "SHOW data_directory"))
	if got := testenv.Value[string](t, conn, "SHOW unix_socket_directories"); got != home {
		t.Errorf("the socket is in %s, want it in %s", got, home)
	}
	if info, err := os.Stat(home); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v; want it closed to others", home, info.Mode(), err)
	}
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("postgres", "guessed")
	if stranger, err := pgx.Connect(t.Context(), u.String()); err == nil {
		t.Errorf("a wrong password was accepted: %v", stranger.Close(t.Context()))
	}
}

func TestSharedServerCannotBeStopped(t *testing.T) {
	t.Parallel()
	server := testenv.SharedPostgres(t)
	for name, method := range map[string]func(testing.TB){
		"Start": server.Start, "Stop": server.Stop, "Kill": server.Kill, "Promote": server.Promote, "Detach": server.Detach,
		"KillBackend": func(tb testing.TB) { tb.Helper(); server.KillBackend(tb, 0) },
		"Standby":     func(tb testing.TB) { tb.Helper(); server.Standby(tb, testenv.Options{}) },
	} {
		tb := &recorder{TB: t}
		tb.run(method)
		if !strings.Contains(tb.fatal, "shared with other tests") {
			t.Errorf("%s: fatal message %q", name, tb.fatal)
		}
	}
	if testenv.Value[int](t, testenv.Connect(t, server.URL()), "SELECT 1") != 1 {
		t.Error("the server does not answer")
	}
}

func TestConnectionStringsOfDatabases(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dsn, want string }{
		{"postgres://u:p%20w@h:1/db?sslmode=disable", "postgres://u:p%20w@h:1/new?sslmode=disable"},
		{"postgresql://h", "postgresql://h/new"},
		{"host=/run user=u dbname=db", "host=/run user=u dbname=db dbname=new"},
	} {
		got, err := testenv.WithDatabase(c.dsn, "new")
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.dsn, got, err, c.want)
		}
		config, err := pgx.ParseConfig(got)
		if err != nil || config.Database != "new" {
			t.Errorf("%s: not understood as database new: %v", got, err)
		}
	}
	if _, err := testenv.WithDatabase("postgres://u:secret@h:port", "new"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v, want one without the password", err)
	}
}

func TestNamesOfDatabases(t *testing.T) {
	t.Parallel()
	test := "TestÄ/\"quoted\"; DROP " + strings.Repeat("long", 30)
	one, two := testenv.DatabaseName(test), testenv.DatabaseName(test)
	if one == two {
		t.Errorf("two tests got the name %s", one)
	}
	if len(one) > 63 || strings.Trim(one, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || !strings.HasPrefix(one, "test_test___quoted") {
		t.Errorf("name %q", one)
	}
}

func TestLogOfOneDatabase(t *testing.T) {
	t.Parallel()
	mine := "2026-11-23 10:00:00.000 UTC [7] test_mine_x ERROR:  no\n"
	statement := "2026-11-23 10:00:00.000 UTC [7] test_mine_x STATEMENT:  SELECT\n\t\t1\n"
	other := "2026-11-23 10:00:00.000 UTC [8] test_other_y ERROR:  no\n\tmore\n"
	server := "2026-11-23 10:00:00.000 UTC [1]  LOG:  checkpoint\n"
	if diff := cmp.Diff(mine+server+statement, testenv.About(mine+other+server+other+statement, "test_mine_x")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// recorder stands in for a test that is expected to fail.
type recorder struct {
	testing.TB
	fatal string
}

func (r *recorder) Fatal(args ...any) {
	for _, arg := range args {
		if text, ok := arg.(string); ok {
			r.fatal += text
		}
	}
	runtime.Goexit()
}

// run runs what may end its goroutine.
func (r *recorder) run(f func(testing.TB)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
}

func databaseOf(t *testing.T, dsn string) string {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return config.Database
}

// listening reports whether something accepts connections at the address of a URL.
func listening(t *testing.T, dsn string) bool {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", u.Host)
	return err == nil && conn.Close() == nil
}
