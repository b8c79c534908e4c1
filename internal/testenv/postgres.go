package testenv

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a PostgreSQL server. URL, Database and Log may be called by
// several goroutines, and so may the other methods, one at a time.
type Postgres struct {
	url     string   // of the database that databases are created from
	cluster *cluster // nil when the server is not ours to stop
	keeps   bool     // whether the server outlives the test, so that its databases must go
}

// Options sets what a private server is. The zero value is a server with the
// defaults of PostgreSQL that forgets what it was told when the machine loses
// power, though not when its processes are killed.
type Options struct {
	// Settings are lines of postgresql.conf, by name, such as
	// "max_prepared_transactions": "20" or "wal_level": "logical".
	Settings map[string]string
	// Durable makes the server write through to the disk, as one in production
	// does (fsync and full_page_writes). It is slower.
	Durable bool
}

// Database returns the URL of a fresh, empty database on the server that the
// tests of this binary share. It is dropped when the test ends, with whatever is
// still connected to it. The test is skipped where there is no PostgreSQL, and
// fails there under CI.
func Database(t testing.TB) string {
	t.Helper()
	return SharedPostgres(t).Database(t)
}

// SharedPostgres returns the server that the tests of this binary share. It must
// neither be stopped nor reconfigured. Settings that matter here are those of
// PostgreSQL, so max_prepared_transactions is 0 and wal_level is replica, unless
// TEST_DATABASE_URL names a server that has others.
func SharedPostgres(t testing.TB) *Postgres {
	t.Helper()
	server, err := shared.postgres(t.Context())
	if err != nil {
		unavailable(t, err)
	}
	return server
}

// PrivatePostgres starts a server for this test alone. It is gone when the test
// ends, and its log is shown when the test fails.
func PrivatePostgres(t testing.TB, opts Options) *Postgres {
	t.Helper()
	w, err := shared.workspace(t.Context())
	if err != nil {
		unavailable(t, err)
	}
	c, err := w.newCluster(t.Context(), opts)
	if err != nil {
		t.Fatalf("start a private PostgreSQL: %v", err)
	}
	return owned(t, c)
}

// owned hands a running cluster to a test, and takes it away when the test ends.
func owned(t testing.TB, c *cluster) *Postgres {
	t.Helper()
	p := &Postgres{url: c.url(), cluster: c}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of PostgreSQL on port %d:\n%s", c.port, tail(c.log(0)))
		}
		if err := c.remove(); err != nil {
			t.Errorf("remove PostgreSQL: %v", err)
		}
	})
	return p
}

// unavailable ends a test that cannot have its server.
func unavailable(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%v\nThis is CI (the variable CI is set), where it must be there.", err)
	}
	t.Skip(err)
}

// URL returns the URL of a database that always exists, for a superuser (or for
// the role of TEST_DATABASE_URL).
func (p *Postgres) URL() string { return p.url }

// Port returns the TCP port of a private server on 127.0.0.1. It stays the same
// when the server starts again.
func (p *Postgres) Port(t testing.TB) int {
	t.Helper()
	return p.own(t).port
}

// Database creates an empty database and returns its URL. On a server that
// outlives the test it is dropped when the test ends, its prepared transactions
// rolled back and its connections closed.
func (p *Postgres) Database(t testing.TB) string {
	t.Helper()
	name := databaseName(t.Name())
	conn := Connect(t, p.url)
	Exec(t, conn, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	hangUp(t, conn)
	target, err := withDatabase(p.url, name)
	if err != nil {
		t.Fatal(err)
	}
	if p.keeps {
		p.dropAfter(t, name, target)
	}
	return target
}

func (p *Postgres) dropAfter(t testing.TB, name, target string) {
	t.Helper()
	from := p.cluster.logSize()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if t.Failed() {
			t.Logf("log of PostgreSQL since the test began:\n%s", tail(about(p.cluster.log(from), name)))
		}
		if err := drop(ctx, p.url, target, name); err != nil {
			t.Errorf("drop database %s: %v", name, err)
		}
	})
}

// drop removes a database with what would keep it: a prepared transaction
// survives even DROP DATABASE ... WITH (FORCE).
func drop(ctx context.Context, maintenance, target, name string) error {
	if err := rollbackPrepared(ctx, target); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, maintenance)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	return errors.Join(err, conn.Close(ctx))
}

func rollbackPrepared(ctx context.Context, target string) error {
	conn, err := pgx.Connect(ctx, target)
	if err != nil {
		return nil //nolint:nilerr // the test dropped or closed it: there is nothing to roll back
	}
	rows, err := conn.Query(ctx, "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = current_database()")
	if err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, statement := range statements {
		_, failed := conn.Exec(ctx, statement)
		err = errors.Join(err, failed)
	}
	return errors.Join(err, conn.Close(ctx))
}

// databaseName makes a name that says which test it belongs to and that no other
// test has.
func databaseName(test string) string {
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	return fmt.Sprintf("test_%.40s_%s", readable, strings.ToLower(rand.Text()[:12]))
}

// withDatabase returns the connection string dsn for another database.
func withDatabase(dsn, name string) (string, error) {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return dsn + " dbname=" + name, nil // keywords and values: the last one counts
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", fmt.Errorf("read the connection string: %w", cmp.Or(errors.Unwrap(err), err))
	}
	u.Path = "/" + name
	return u.String(), nil
}
