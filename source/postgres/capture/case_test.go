package capture_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/capture"
)

// logged is the log as a list of lines: verb, entity, id, data, before-image.
const logged = `SELECT coalesce(string_agg(concat_ws(' ', modification_type, object_type, coalesce(entity_key, object_id::text, '-'),
	coalesce(object_data::text, '-'), coalesce(object_data_before::text, '-'), '!' || (extra_metadata ->> 'capture_error')), E'\n' ORDER BY pk_entity_change_log), '')
	FROM core.tb_entity_change_log`

// captured makes a database with a table and a capture.
func captured(t testing.TB, schema string, c capture.Capture) (*pgx.Conn, string) {
	t.Helper()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, schema)
	add(t, url, c)
	return conn, url
}

func add(t testing.TB, url string, c capture.Capture) capture.Capture {
	t.Helper()
	if c.Entity == "" {
		c.Entity = "E"
	}
	added, err := capture.Add(t.Context(), url, c)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

func wantLog(t *testing.T, conn *pgx.Conn, lines ...string) {
	t.Helper()
	if d := cmp.Diff(lines, strings.Split(testenv.Value[string](t, conn, logged), "\n")); d != "" {
		t.Errorf("log (-want +got):\n%s", d)
	}
}

// roleFor makes a role that goes with the test.
func roleFor(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	role := "test_" + strings.ToLower(rand.Text()[:12])
	testenv.Exec(t, conn, "CREATE ROLE "+role)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		again, err := pgx.ConnectConfig(ctx, conn.Config())
		if err != nil {
			t.Errorf("connect to drop role %s: %v", role, err)
			return
		}
		if _, err := again.Exec(ctx, "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
			t.Errorf("drop role %s: %v", role, err)
		}
		if err := again.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return role
}
