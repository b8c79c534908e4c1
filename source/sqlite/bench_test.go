package sqlite_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/fraiseql/observer/source/sqlite"
)

const benchRows = 20_000

func benchLog(b *testing.B) *database {
	b.Helper()
	d := captured(b, sqlite.Capture{Table: "orders"}, "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, status TEXT, total REAL, note TEXT)")
	d.must(b, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
		INSERT INTO orders SELECT i, 'customer ' || i, 'new', i / 100.0, 'an ordinary note of ordinary length' FROM n`, benchRows)
	b.ReportAllocs()
	return d
}

// BenchmarkRead reads the log through the source, and in turn by a bare scan of
// the same columns that keeps nothing, so that both meet the same machine.
// "ratio" is the source's rate over the scan's.
func BenchmarkRead(b *testing.B) {
	d := benchLog(b)
	src := sqlite.New(sqlite.Config{Path: d.path})
	var reading, scanning time.Duration
	for b.Loop() {
		began := time.Now()
		readAll(b, src)
		read := time.Now()
		scanAll(b, d)
		reading += read.Sub(began)
		scanning += time.Since(read)
	}
	b.ReportMetric(float64(b.N)*benchRows/reading.Seconds(), "rows/s")
	b.ReportMetric(float64(b.N)*benchRows/scanning.Seconds(), "bare-rows/s")
	b.ReportMetric(scanning.Seconds()/reading.Seconds(), "ratio")
}

func readAll(b *testing.B, src *sqlite.Source) {
	b.Helper()
	s := openStream(b, src, "")
	for range benchRows {
		if m, err := s.Next(b.Context()); err != nil || m.Event == nil {
			b.Fatal(m, err)
		}
	}
	if err := s.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func scanAll(b *testing.B, d *database) {
	b.Helper()
	rows, err := d.QueryContext(b.Context(), `SELECT pk_entity_change_log, id, object_type, modification_type, created_at, object_id,
		object_data, object_data_before, tenant_id, fk_contact, seq, duration_ms, actor_type, acting_for, schema_version, extra_metadata
		FROM tb_entity_change_log ORDER BY pk_entity_change_log`)
	if err != nil {
		b.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // everything was read
	values := make([]any, 16)
	dest := make([]any, len(values))
	for i := range values {
		dest[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			b.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCommitToNext is the time from the call that commits to the message.
func BenchmarkCommitToNext(b *testing.B) {
	d := migrated(b)
	s := openStream(b, sqlite.New(sqlite.Config{Path: d.path, PollInterval: time.Hour}), "")
	i := 0
	for b.Loop() {
		i++
		d.commit(b, strconv.Itoa(i))
		if m := next(b, s); m.ID() != strconv.Itoa(i) {
			b.Fatal(m.ID())
		}
	}
}

// BenchmarkInsert says what capturing costs the application: a prepared INSERT
// of one row in a transaction of its own, with and without triggers.
func BenchmarkInsert(b *testing.B) {
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("captured=%t", with), func(b *testing.B) {
			d := newDatabase(b, "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, c, d)")
			if with {
				if _, err := sqlite.AddCapture(b.Context(), d.path, sqlite.Capture{Table: "t", Entity: "E"}); err != nil {
					b.Fatal(err)
				}
			}
			st, err := d.PrepareContext(b.Context(), "INSERT INTO t (a, b, c, d) VALUES (1, 'text', 2.5, NULL)")
			if err != nil {
				b.Fatal(err)
			}
			defer st.Close() //nolint:errcheck // nothing depends on it
			for b.Loop() {
				if _, err := st.ExecContext(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
