package testenv

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience bounds what a server is asked to do. It is waited for in full only
// when something is wrong.
const patience = time.Minute

// Connect opens a connection that is closed when the test ends, before a server
// that was asked for earlier. One connection serves one goroutine at a time.
func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect to PostgreSQL: %v", err)
	}
	t.Cleanup(func() { hangUp(t, conn) })
	return conn
}

// hangUp closes a connection, that may be closed or broken already.
func hangUp(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	// A server that a test killed cannot say goodbye: an error here means that
	// the connection is closed, which is what was wanted.
	_ = conn.Close(ctx)
}

// Exec runs SQL, or fails the test. Without arguments it may be several
// statements separated by semicolons, which then run in one transaction.
func Exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%v\nin %s", err, sql)
	}
}

// Value returns the one value of the one row that a query finds, or fails the
// test:
//
//	n := testenv.Value[int](t, conn, "SELECT count(*) FROM orders")
func Value[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%v\nin %s", err, sql)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%v\nin %s", err, sql)
	}
	return value
}

// Eventually asks a query for a boolean, every few milliseconds until it is
// true. The test fails when that takes longer than a minute.
func Eventually(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !Value[bool](t, conn, sql, args...) {
		if time.Now().After(deadline) {
			t.Fatalf("not true within %s: %s", patience, sql)
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("not true when the test ended: %s", sql)
		}
	}
}
