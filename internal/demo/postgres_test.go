package demo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/testenv"
)

func postgres(t *testing.T) (*config.Database, string) {
	t.Helper()
	url := testenv.Database(t)
	db, err := config.NewDatabase("shop", observer.NewSecret(url))
	if err != nil {
		t.Fatal(err)
	}
	return &db, url
}

// clean checks that the demo left no schema and no session behind.
func clean(t *testing.T, url string) {
	t.Helper()
	conn := testenv.Connect(t, url)
	if n := testenv.Value[int](t, conn, `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'fraiseql%' OR nspname = 'core'`); n != 0 {
		t.Errorf("%d schemas are left", n)
	}
	testenv.Eventually(t, conn, `SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()`)
}

func TestEverythingArrivesOnPostgres(t *testing.T) {
	t.Parallel()
	db, url := postgres(t)
	text, err := runUntil(t, Options{Rate: 100, Database: db}, 5, "order-events ", "order-shipped ", "attempt 2  accepted", "refused 422")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	t.Log(text[max(0, len(text)-1500):])
	expected, delivered, dead := count(t, text, "expected"), count(t, text, "delivered"), count(t, text, "dead")
	if expected != delivered+dead || delivered == 0 || dead == 0 {
		t.Errorf("expected %d, delivered %d, dead %d: want all three, and nothing missing", expected, delivered, dead)
	}
	for _, row := range []string{"lost", "repeated", "waiting"} {
		if n := count(t, text, row); n != 0 {
			t.Errorf("%s is %d, want 0", row, n)
		}
	}
	if !strings.Contains(text, "schemas fraiseql_demo_") || strings.Contains(text, "never committed") {
		t.Errorf("unexpected text:\n%s", text)
	}
	clean(t, url)
}

// A loss is reported, and cleaned up after like success.
func TestLossIsReportedOnPostgres(t *testing.T) {
	t.Parallel()
	db, url := postgres(t)
	opts := Options{Rate: 50, Database: db, drain: 300 * time.Millisecond, tamper: func(ctx context.Context, s *shop) error {
		var name, table string
		err := s.db.QueryRowContext(ctx, `SELECT quote_ident(tgname), tgrelid::regclass::text FROM pg_trigger
			WHERE tgrelid::regclass::text LIKE '%.orders' AND tgtype & 4 = 4`).Scan(&name, &table)
		if err == nil {
			_, err = s.db.ExecContext(ctx, "DROP TRIGGER "+name+" ON "+table)
		}
		return err
	}}
	text, err := runUntil(t, opts, 3, "UPDATE  attempt 1  accepted")
	if !errors.Is(err, ErrLost) {
		t.Fatalf("error is %v, want ErrLost\n%s", err, text)
	}
	clean(t, url)
}

func TestPostgresThatIsNotThere(t *testing.T) {
	t.Parallel()
	db, err := config.NewDatabase("shop", observer.NewSecret("postgres://me:hunter2@127.0.0.1:1/shop"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), Options{Database: &db}, &transcript{}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v", err)
	}
}
