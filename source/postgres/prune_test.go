package postgres_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
)

// left are the entities that the log still has.
func (d *database) left(t testing.TB) []string {
	t.Helper()
	rows, err := d.Query(t.Context(), "SELECT entity_key FROM "+logTable+" ORDER BY pk_entity_change_log")
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// positionAfter reads n messages and gives the position of the last.
func (d *database) positionAfter(t testing.TB, n int) (p observer.Position) {
	t.Helper()
	s, err := d.source().Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	for range n {
		m, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p = m.Position
	}
	return p
}

func prunes(t testing.TB, src *postgres.Source, at observer.Position, olderThan time.Time, want int64) {
	t.Helper()
	if n, err := src.Prune(t.Context(), at, olderThan); err != nil || n != want {
		t.Errorf("pruned %d rows, %v; want %d", n, err, want)
	}
}

func TestPruneKeeps(t *testing.T) {
	t.Parallel()
	now := time.Now()
	hourAgo := now.Add(-time.Hour)
	const change = "UPDATE " + logTable + " SET created_at = "
	tests := map[string]struct {
		prepare   string // of the rows 1 to 6, all of now
		read      int
		olderThan time.Time
		want      []string
	}{
		"the row it stands on":           {read: 6, olderThan: farFuture(), want: []string{"6"}},
		"what was not read":              {read: 3, olderThan: farFuture(), want: []string{"3", "4", "5", "6"}},
		"everything that is young":       {read: 6, olderThan: hourAgo, want: []string{"1", "2", "3", "4", "5", "6"}},
		"what comes after a young row":   {change + "now() - interval '2 h' WHERE entity_key <> '3'", 6, hourAgo, []string{"3", "4", "5", "6"}},
		"what comes after one of no age": {"ALTER TABLE " + logTable + " ALTER created_at DROP NOT NULL;" + change + "NULL WHERE entity_key = '2'", 6, farFuture(), []string{"2", "3", "4", "5", "6"}},
		"a row of the far future":        {change + "'infinity' WHERE entity_key = '2'", 6, farFuture(), []string{"2", "3", "4", "5", "6"}},
		"nothing of the far past":        {change + "'-infinity' WHERE entity_key < '4'", 6, hourAgo, []string{"4", "5", "6"}},
		"nothing before a beginning":     {read: 0, olderThan: farFuture(), want: []string{"1", "2", "3", "4", "5", "6"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			for i := range 6 {
				insert(t, d, strconv.Itoa(i+1))
			}
			if tt.prepare != "" {
				d.must(t, tt.prepare)
			}
			before := len(d.left(t))
			prunes(t, d.source(), d.positionAfter(t, tt.read), tt.olderThan, int64(before-len(tt.want)))
			if diff := cmp.Diff(tt.want, d.left(t)); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
		})
	}
}

// A transaction that is still running may write below what was read.
func TestPruneKeepsWhatAHoleMayBring(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	insert(t, d, "1")
	tx, err := d.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	insert(t, tx, "2")
	insert(t, d, "3")
	insert(t, d, "4")
	at := d.positionAfter(t, 3)
	prunes(t, d.source(), at, farFuture(), 1)
	commit(t, tx)
	prunes(t, d.source(), at, farFuture(), 0)
	if diff := cmp.Diff([]string{"2", "3", "4"}, d.left(t)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"2"}, entities(t, d, at, 1)); diff != "" {
		t.Error(diff)
	}
}

// A checkpoint keeps a hole that was found with its last event, though nobody can
// fill it any more. It must not keep the rows above it for ever.
func TestPrunePassesADeadHole(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	tx, err := d.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	insert(t, tx, "gone")
	for i := range 3 {
		insert(t, d, strconv.Itoa(i))
	}
	at := d.positionAfter(t, 3)
	prunes(t, d.source(), at, farFuture(), 0)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	prunes(t, d.source(), at, farFuture(), 2)
}

func TestPruneWithoutRight(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	role, as := d.role(t, "")
	d.must(t, fmt.Sprintf("GRANT USAGE ON SCHEMA core TO %[1]s; GRANT SELECT ON "+logTable+" TO %[1]s", role))
	insert(t, d, "1")
	insert(t, d, "2")
	_, err := as.source().Prune(t.Context(), d.positionAfter(t, 2), farFuture())
	if err == nil || !strings.Contains(err.Error(), "GRANT DELETE ON ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one that says what to grant", err)
	}
	d.must(t, "GRANT DELETE ON "+logTable+" TO "+role)
	prunes(t, as.source(), d.positionAfter(t, 2), farFuture(), 1)
}

// What an old snapshot can still see stays in the index. Neither a batch nor the
// next run walks over it again.
func TestPruneUnderAnOldSnapshot(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.must(t, "INSERT INTO "+logTable+" (object_type, modification_type) SELECT 'Order', 'INSERT' FROM generate_series(1, 20001)")
	old := testenv.Connect(t, d.url)
	testenv.Exec(t, old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM "+logTable)
	src := postgres.New(postgres.Config{Name: "shop", URL: observer.NewSecret(d.url), BatchSize: 1000})
	at, err := src.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const fetched = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE relid = '" + logTable + "'::regclass AND indexrelname LIKE '%pkey'"
	statistics := func() int64 {
		d.Reset()
		wait(t, 1200*time.Millisecond) // a session that lives reports once a second
		return d.count(t, fetched)
	}
	before := statistics()
	prunes(t, src, at, farFuture(), 20000)
	first := statistics()
	if n := first - before; n > 100_000 {
		t.Errorf("20 batches read %d entries of the index for 20,000 rows", n)
	}
	for range 5 {
		prunes(t, src, at, farFuture(), 0)
	}
	if n := statistics() - first; n > 2_000 {
		t.Errorf("five runs that found nothing read %d entries of the index", n)
	}
	if n := testenv.Value[int](t, old, "SELECT count(*) FROM "+logTable); n != 20001 {
		t.Fatalf("the old snapshot sees %d rows", n)
	}
}

// partitioned makes a log of parts by key, with 10 rows each: 1 to 4, a part for
// the future and, where asked for, a default one.
func partitioned(t *testing.T, by string, more ...string) *database {
	t.Helper()
	url := testenv.Database(t)
	d := &database{url: url}
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, `CREATE SCHEMA core; CREATE SEQUENCE core.keys;
CREATE TABLE `+logTable+` (pk_entity_change_log bigint NOT NULL DEFAULT nextval('core.keys'), id uuid NOT NULL DEFAULT gen_random_uuid(),
 object_type text NOT NULL, modification_type text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), entity_key text,
 PRIMARY KEY (pk_entity_change_log, created_at)) PARTITION BY `+by)
	for _, statement := range more {
		testenv.Exec(t, conn, statement)
	}
	*d = *migrated(t, url)
	return d
}

func byKey() []string {
	var list []string
	for i := range 5 {
		list = append(list, fmt.Sprintf("CREATE TABLE core.part_%d PARTITION OF %s FOR VALUES FROM (%d) TO (%d)", i, logTable, i*10+1, i*10+11))
	}
	return list
}

// parts are the partitions that are left, with the number of their rows.
func (d *database) parts(t testing.TB) string {
	t.Helper()
	rows, err := d.Query(t.Context(), "SELECT c.relname::text FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = '"+logTable+"'::regclass ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%s:%d", name, d.count(t, "SELECT count(*) FROM core."+name))
	}
	return strings.Join(names, " ")
}

func TestPrunePartitions(t *testing.T) {
	t.Parallel()
	young := "UPDATE " + logTable + " SET created_at = now() + interval '1 day' WHERE pk_entity_change_log = "
	tests := map[string]struct {
		by      string
		parts   []string
		prepare string
		rows    int64
		want    string
	}{
		// 35 rows, all of which were read: the parts 0 to 2 can go.
		"by key":               {"RANGE (pk_entity_change_log)", byKey(), "", 34, "part_3:1 part_4:0"},
		"a young row in one":   {"RANGE (pk_entity_change_log)", byKey(), young + "15", 24, "part_1:10 part_3:1 part_4:0"},
		"a young row last":     {"RANGE (pk_entity_change_log)", byKey(), young + "20", 24, "part_1:10 part_3:1 part_4:0"},
		"with a default":       {"RANGE (pk_entity_change_log)", append(byKey()[:2], "CREATE TABLE core.rest PARTITION OF "+logTable+" DEFAULT"), "", 34, "rest:1"},
		"one that is not last": {"RANGE (pk_entity_change_log)", append(byKey()[1:], "CREATE TABLE core.part_0 PARTITION OF "+logTable+" FOR VALUES FROM (1) TO (11)"), "", 34, "part_3:1 part_4:0"},
		"by parts of parts": {"RANGE (pk_entity_change_log)", []string{
			"CREATE TABLE core.a PARTITION OF " + logTable + " FOR VALUES FROM (1) TO (31) PARTITION BY RANGE (pk_entity_change_log)",
			"CREATE TABLE core.a1 PARTITION OF core.a FOR VALUES FROM (1) TO (31)",
			"CREATE TABLE core.b PARTITION OF " + logTable + " FOR VALUES FROM (31) TO (99)",
		}, "", 34, "b:1"},
		"by hash": {"HASH (pk_entity_change_log)", []string{"CREATE TABLE core.h PARTITION OF " + logTable + " FOR VALUES WITH (MODULUS 1, REMAINDER 0)"}, "", 34, "h:1"},
		"by time": {"RANGE (created_at)", []string{
			"CREATE TABLE core.past PARTITION OF " + logTable + " FOR VALUES FROM ('2020-01-01') TO (now() - interval '1 day')",
			"CREATE TABLE core.today PARTITION OF " + logTable + " FOR VALUES FROM (now() - interval '1 day') TO ('2099-01-01')",
			"CREATE TABLE core.later PARTITION OF " + logTable + " FOR VALUES FROM ('2099-01-01') TO ('2100-01-01')",
		}, "UPDATE " + logTable + " SET created_at = now() - interval '2 days' WHERE pk_entity_change_log <= 20", 34, "later:0 today:1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := partitioned(t, tt.by, tt.parts...)
			for i := range 35 {
				insert(t, d, strconv.Itoa(i+1))
			}
			if tt.prepare != "" {
				d.must(t, tt.prepare)
			}
			prunes(t, d.source(), d.positionAfter(t, 35), time.Now().Add(time.Hour), tt.rows)
			if got := d.parts(t); got != tt.want {
				t.Errorf("left %s, want %s", got, tt.want)
			}
		})
	}
}

// Somebody who uses the log keeps a partition from being dropped, for now, and
// nobody waits for that longer than a moment.
func TestPrunePartitionInUse(t *testing.T) {
	t.Parallel()
	d := partitioned(t, "RANGE (pk_entity_change_log)", byKey()...)
	for i := range 35 {
		insert(t, d, strconv.Itoa(i+1))
	}
	at := d.positionAfter(t, 35)
	tx, err := d.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	insert(t, tx, "36")
	begin := time.Now()
	prunes(t, d.source(), at, farFuture(), 0)
	if took := time.Since(begin); took > soon/2 {
		t.Errorf("gave up after %s", took)
	}
	commit(t, tx)
	prunes(t, d.source(), at, farFuture(), 34)
}

// Who may not drop deletes.
func TestPrunePartitionsOfAnother(t *testing.T) {
	t.Parallel()
	for grants, where := range map[string]string{
		"GRANT USAGE ON SCHEMA core TO %[1]s; GRANT SELECT, DELETE ON " + logTable + " TO %[1]s":          "log",
		"GRANT USAGE ON SCHEMA core TO %[1]s; GRANT SELECT, DELETE ON ALL TABLES IN SCHEMA core TO %[1]s": "partitions",
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			d := partitioned(t, "RANGE (pk_entity_change_log)", byKey()...)
			for i := range 35 {
				insert(t, d, strconv.Itoa(i+1))
			}
			role, as := d.role(t, "")
			d.must(t, fmt.Sprintf(grants, role))
			prunes(t, as.source(), d.positionAfter(t, 35), farFuture(), 34)
			if got, want := d.parts(t), "part_0:0 part_1:0 part_2:0 part_3:1 part_4:0"; got != want {
				t.Errorf("left %s, want %s", got, want)
			}
		})
	}
}
