package capture_test

import (
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

// A row that jsonb cannot hold is recorded without its image, and its statement is
// not failed.
func TestLargeRows(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes a gigabyte of memory")
	}
	conn, _ := captured(t, "CREATE TABLE t (id int PRIMARY KEY, v text, w text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL, ALTER w SET STORAGE EXTERNAL", of("t"))
	testenv.Exec(t, conn, "INSERT INTO t VALUES (2, repeat('x', 140000000), repeat('y', 140000000))")
	wantLog(t, conn, `INSERT E 2 - - !total size of jsonb object elements exceeds the maximum of 268435455 bytes`)
}

// BenchmarkStatementOfManyRows reports what a statement of a million rows takes
// without capture and with it, after statements of one row have had their plans made.
func BenchmarkStatementOfManyRows(b *testing.B) {
	for _, kind := range []string{"bare", "captured", "before-image"} {
		b.Run(kind, func(b *testing.B) {
			const rows = "1000000"
			url := testenv.Database(b)
			conn := testenv.Connect(b, url)
			testenv.Exec(b, conn, "CREATE TABLE t (id bigint PRIMARY KEY, customer uuid DEFAULT gen_random_uuid(), total numeric(10,2) DEFAULT 12.5, status text DEFAULT 'new', at timestamptz DEFAULT now())")
			if kind != "bare" {
				c := of("t")
				c.BeforeImage = kind == "before-image"
				add(b, url, c)
			}
			testenv.Exec(b, conn, "INSERT INTO t VALUES (0); UPDATE t SET status = 'x'; DELETE FROM t")
			for _, statement := range []struct{ name, sql string }{
				{"insert", "INSERT INTO t (id) SELECT generate_series(1, " + rows + ")"},
				{"update", "UPDATE t SET status = 'paid'"},
				{"delete", "DELETE FROM t"},
			} {
				start := b.Elapsed()
				for range b.N {
					testenv.Exec(b, conn, statement.sql)
				}
				b.ReportMetric((b.Elapsed()-start).Seconds()/float64(b.N), "s/"+statement.name)
			}
		})
	}
}
