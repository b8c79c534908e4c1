package capture_test

import (
	"fmt"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// PostgreSQL refuses to prepare a transaction that has notified. Capture must not
// bring that about, whether the reader sleeps (and holds the lock) or not.
func TestCaptureLetsTransactionsPrepare(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{"max_prepared_transactions": "5"}})
	for _, asleep := range []bool{false, true} {
		t.Run(fmt.Sprintf("reader asleep %t", asleep), func(t *testing.T) {
			t.Parallel()
			url := server.Database(t)
			conn, reader := testenv.Connect(t, url), testenv.Connect(t, url)
			testenv.Exec(t, conn, "CREATE TABLE t (id int PRIMARY KEY)")
			add(t, url, capture.Capture{Table: "public.t"})
			if asleep {
				testenv.Exec(t, reader, "SELECT pg_advisory_lock($1)", changelog.WakeKey(changelog.Name{}))
			}
			gid := fmt.Sprintf("asleep %t", asleep)
			testenv.Exec(t, conn, "BEGIN")
			testenv.Exec(t, conn, "INSERT INTO t VALUES (1)")
			testenv.Exec(t, conn, "PREPARE TRANSACTION '"+gid+"'")
			wantLog(t, conn, "")
			testenv.Exec(t, conn, "COMMIT PREPARED '"+gid+"'")
			wantLog(t, conn, `INSERT E 1 {"id": 1} -`)
		})
	}
}
