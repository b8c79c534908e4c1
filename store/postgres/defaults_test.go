package postgres_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// TestStoreWithHostileDefaults runs the suite where the database has every
// default against it, and a pool of one connection.
func TestStoreWithHostileDefaults(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	for _, setting := range []string{
		"default_transaction_isolation = 'serializable'",
		"default_transaction_read_only = on",
		"synchronous_commit = off",
		"search_path = ''",
		"DateStyle = 'German'",
		"TimeZone = 'Asia/Kathmandu'",
		"bytea_output = 'escape'",
		"client_encoding = 'LATIN1'",
		"row_security = off",
		"enable_indexscan = off",
	} {
		testenv.Exec(t, conn, "ALTER DATABASE "+databaseOf(t, conn)+" SET "+setting)
	}
	suite(t, url+"&pool_max_conns=1")
}

func databaseOf(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	return pgx.Identifier{testenv.Value[string](t, conn, "SELECT current_database()::text")}.Sanitize()
}

// TestStoreInAnotherEncoding runs the suite in a database that lacks most
// characters.
func TestStoreInAnotherEncoding(t *testing.T) {
	t.Parallel()
	server := testenv.SharedPostgres(t)
	name := "test_latin1_" + strings.ToLower(rand.Text())
	testenv.Exec(t, testenv.Connect(t, server.URL()), "CREATE DATABASE "+name+" TEMPLATE template0 LOCALE 'C' ENCODING 'LATIN1'")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, server.URL())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	suite(t, inDatabase(t, server.URL(), name))
}

// TestChangesAreDurable looks at the setting from inside the transactions.
func TestChangesAreDurable(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"off": "on", "local": "local", "on": "on", "remote_apply": "remote_apply"} {
		url := testenv.Database(t)
		conn := testenv.Connect(t, url)
		testenv.Exec(t, conn, "ALTER DATABASE "+databaseOf(t, conn)+" SET synchronous_commit = "+value)
		s := opened(t, postgres.Config{URL: observer.NewSecret(url)})
		testenv.Exec(t, conn, `
CREATE TABLE seen (what text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.seen VALUES (current_setting('synchronous_commit') || ', ' || current_setting('transaction_isolation')
        || ', ' || current_setting('statement_timeout'));
    RETURN NULL;
END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON fraiseql_observer.tb_checkpoint EXECUTE FUNCTION see();
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON fraiseql_observer.tb_delivery EXECUTE FUNCTION see()`)
		everyChange(t, s)
		got := testenv.Value[string](t, conn, "SELECT string_agg(DISTINCT what, '; ') FROM seen")
		if want := want + ", read committed, 20s"; got != want {
			t.Errorf("with synchronous_commit = %s: got %s, want %s", value, got, want)
		}
	}
}

// everyChange makes a change of every kind.
func everyChange(t *testing.T, s *postgres.Store) {
	t.Helper()
	key := deadLetter("a").Key
	d := deadLetter("a")
	for _, call := range []func() error{
		func() error { return s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Position: "1"}) },
		func() error { _, err := s.InsertDeliveries(t.Context(), d); return err },
		func() error { _, err := s.ClaimDelivery(t.Context(), key, "a", lease); return err },
		func() error { return s.ExtendLease(t.Context(), key, "a", lease) },
		func() error { d.State = observer.Scheduled; return s.UpdateDelivery(t.Context(), d, "a") },
		func() error {
			_, err := s.ClaimDue(t.Context(), observer.Claim{Owner: "b", Lease: lease, Limit: 1})
			return err
		},
		func() error { d.Succeed(); return s.UpdateDelivery(t.Context(), d, "b") },
		func() error {
			_, err := s.PruneDeliveries(t.Context(), observer.Retention{DoneBefore: time.Now()}, 1)
			return err
		},
		func() error {
			return s.SaveEndpoint(t.Context(), observer.Endpoint{Name: "a", Pause: observer.PausedGone})
		},
		func() error {
			l, err := s.AcquireLease(t.Context(), "shop", "a", lease)
			return errors.Join(err, s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Term: l.Term}))
		},
		func() error { _, err := s.RenewLeases(t.Context(), lease, observer.Lease{Name: "shop"}); return err },
		func() error { return s.ReleaseLease(t.Context(), observer.Lease{Name: "shop"}) },
		func() error { _, err := s.PruneLeases(t.Context(), 0, 1); return err },
		func() error { return s.SaveReceipts(t.Context(), "a", map[string][]string{"shop": {"1", "2"}}) },
		func() error { _, err := s.Receipts(t.Context(), "a", "shop", 0, 1); return err },
		func() error { return s.RemoveReceipts(t.Context(), "a", "shop", 1) },
		func() error { _, err := s.PruneReceipts(t.Context(), 0, 1); return err },
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNothingStaysInTheSession is what a pooler in transaction mode needs. Without
// one, prepared statements are kept, and how soon the server notices that we are
// gone.
func TestNothingStaysInTheSession(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url      string
		prepared bool
		settings int
	}{
		"direct":          {testenv.Database(t), true, 4},
		"behind a pooler": {pooled(t, testenv.Database(t)), false, 0},
		"as the URL says": {testenv.Database(t) + "&default_query_exec_mode=cache_describe", false, 0},
	} {
		s := opened(t, postgres.Config{URL: observer.NewSecret(test.url + "&pool_max_conns=1")})
		everyChange(t, s)
		if _, err := s.DeliveryStats(t.Context()); err != nil {
			t.Fatal(err)
		}
		var prepared, locks, settings int
		err := s.Pool().QueryRow(t.Context(), `
SELECT (SELECT count(*) FROM pg_prepared_statements WHERE name <> ''), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_settings WHERE source = 'session')`).Scan(&prepared, &locks, &settings)
		if err != nil {
			t.Fatal(err)
		}
		if prepared > 0 != test.prepared || locks != 0 || settings != test.settings {
			t.Errorf("%s: got %d prepared statements, %d locks and %d settings, want any of the first: %t, none and %d",
				name, prepared, locks, settings, test.prepared, test.settings)
		}
	}
}

// pooled is a URL that leads to the server through what greets with a number of
// its own, as poolers do.
func pooled(t *testing.T, dsn string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	server, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server.Host) //nolint:noctx // to loopback
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() { _, _ = io.Copy(upstream, client); _ = upstream.Close() }()
			go func() { _ = greet(client, upstream); _, _ = io.Copy(client, upstream); _ = client.Close() }()
		}
	}()
	return changed(t, dsn, func(u *url.URL) { u.Host = l.Addr().String() })
}

// greet passes messages of the server on until it has told the number of its
// process, which is changed.
func greet(client io.Writer, server io.Reader) error {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(server, head); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return err
		}
		if head[0] == 'K' {
			body[3]++
		}
		if _, err := client.Write(append(head, body...)); err != nil || head[0] == 'K' {
			return err
		}
	}
}
