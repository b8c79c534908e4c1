package postgres_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

func config(url string) postgres.Config { return postgres.Config{URL: observer.NewSecret(url)} }

// refused opens what cannot be opened.
func refused(t testing.TB, cfg postgres.Config) error {
	t.Helper()
	s, err := postgres.Open(t.Context(), cfg)
	if err == nil {
		_ = s.Close()
	}
	return err
}

func TestOpenNewSchemaManyTimesAtOnce(t *testing.T) {
	t.Parallel()
	const openers = 8
	cfg := config(testenv.Database(t))
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range openers {
		wg.Go(func() {
			<-start
			s, err := postgres.Open(t.Context(), cfg)
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			if err := s.SaveCheckpoint(t.Context(), strconv.Itoa(i), observer.Checkpoint{}); err != nil {
				t.Errorf("save: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	all, err := opened(t, cfg).Checkpoints(t.Context())
	if err != nil || len(all) != openers {
		t.Errorf("got %d checkpoints and error %v, want %d", len(all), err, openers)
	}
	conn := testenv.Connect(t, cfg.URL.Reveal())
	if twice := testenv.Value[int](t, conn, "SELECT count(*) - count(DISTINCT version_id) FROM fraiseql_observer.tb_state_version"); twice != 0 {
		t.Errorf("got %d migrations applied again, want 0", twice)
	}
}

func TestMigrateAgainChangesNothing(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	for range 2 {
		if err := postgres.Migrate(t.Context(), url, ""); err != nil {
			t.Fatal(err)
		}
		save(t, opened(t, config(url)), "shop", "1")
	}
}

// The script and Migrate must agree on everything, so it is compared.
func TestScriptMakesWhatMigrateMakes(t *testing.T) {
	t.Parallel()
	const schema = `State "of" shop`
	script, err := postgres.Script(schema)
	if err != nil {
		t.Fatal(err)
	}
	scripted, migrated := testenv.Database(t), testenv.Database(t)
	conn := testenv.Connect(t, scripted)
	for range 2 { // it may be run again
		testenv.Exec(t, conn, script)
	}
	if err := postgres.Migrate(t.Context(), migrated, schema); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(described(t, migrated, schema), described(t, scripted, schema)); diff != "" {
		t.Errorf("objects (-migrated +scripted):\n%s", diff)
	}
	// Nothing is left to do, and it works.
	save(t, opened(t, postgres.Config{URL: observer.NewSecret(scripted), Schema: schema}), "shop", "1")
}

// described are the tables, columns, indexes, triggers and functions of a
// schema, and what was recorded.
func described(t *testing.T, url, schema string) []string {
	t.Helper()
	rows, err := testenv.Connect(t, url).Query(t.Context(), `
SELECT format('%s %s %s %s', table_name, column_name, data_type, is_nullable || coalesce(column_default, '')) FROM information_schema.columns WHERE table_schema = $1
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = $1
UNION ALL SELECT relname || coalesce(reloptions::text, '') FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
UNION ALL SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
UNION ALL SELECT format('version %s %s', version_id, is_applied) FROM "State ""of"" shop".tb_state_version
ORDER BY 1`, schema)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		list = append(list, line)
	}
	if rows.Err() != nil || len(list) < 40 {
		t.Fatalf("got %d lines and error %v, want at least 40", len(list), rows.Err())
	}
	return list
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	opened(t, config(url))
	testenv.Exec(t, testenv.Connect(t, url), "INSERT INTO fraiseql_observer.tb_state_version (version_id, is_applied) VALUES (9000, true)")
	for _, readOnly := range []bool{false, true} {
		cfg := config(url)
		cfg.ReadOnly = readOnly
		wantText(t, "open", refused(t, cfg), "newer release", "9000", "fraiseql_observer")
	}
	wantText(t, "migrate", postgres.Migrate(t.Context(), url, ""), "newer release", "9000")
}

func TestReadOnlyOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	cfg := config(url)
	cfg.ReadOnly = true
	for range 2 {
		err := refused(t, cfg)
		wantText(t, "open", err, "holds no state", "fraiseql-observer migrate", "127.0.0.1")
		if !errors.Is(err, observer.ErrNotFound) {
			t.Errorf("got error %v, want one that matches ErrNotFound", err)
		}
		testenv.Exec(t, conn, "CREATE SCHEMA IF NOT EXISTS fraiseql_observer") // the change log has it, too
	}
	if n := testenv.Value[int](t, conn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'fraiseql_observer'"); n != 0 {
		t.Errorf("got %d tables made by a look, want 0", n)
	}
}

func TestReadOnlySeesALiveStoreAndChangesNothing(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	writing := opened(t, config(url))
	role := newRole(t, url)
	testenv.Exec(t, testenv.Connect(t, url), "GRANT USAGE ON SCHEMA fraiseql_observer TO "+role+"; GRANT SELECT ON ALL TABLES IN SCHEMA fraiseql_observer TO "+role)
	cfg := config(asRole(t, url, role))
	cfg.ReadOnly = true
	reading := opened(t, cfg)
	for _, p := range []observer.Position{"1", "2"} {
		save(t, writing, "shop", p)
		all, err := reading.Checkpoints(t.Context())
		if err != nil || all["shop"].Position != p {
			t.Errorf("got %v and error %v, want shop at %s", all, err, p)
		}
	}
	wantText(t, "save", reading.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{}), "reading only")
	if cp, err := writing.LoadCheckpoint(t.Context(), "shop"); err != nil || cp.Position != "2" {
		t.Errorf("got %v and error %v, want position 2", cp, err)
	}
}

// TestRoleWithoutRights goes the way of an operator: each error says what to do,
// and doing it leads on.
func TestRoleWithoutRights(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	owner := testenv.Connect(t, url)
	role := newRole(t, url)
	cfg := config(asRole(t, url, role))
	wantText(t, "open what is not prepared", refused(t, cfg), "user "+role, "may not create", "fraiseql-observer migrate")
	if err := postgres.Migrate(t.Context(), url, ""); err != nil {
		t.Fatal(err)
	}
	for _, given := range []string{"SELECT 1", "GRANT USAGE ON SCHEMA fraiseql_observer TO " + role,
		"GRANT SELECT ON ALL TABLES IN SCHEMA fraiseql_observer TO " + role} {
		testenv.Exec(t, owner, given)
		err := refused(t, cfg)
		wantText(t, "open after "+given, err, role, "run as the owner: GRANT USAGE", "INSERT")
		if err == nil || errors.Is(err, postgres.ErrConnect) {
			t.Errorf("got error %v, want one that is not about the connection", err)
		}
	}
	_, advice, _ := strings.Cut(refused(t, cfg).Error(), "run as the owner: ")
	testenv.Exec(t, owner, advice)
	everyChange(t, opened(t, cfg))
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	for name, test := range map[string]struct {
		cfg     postgres.Config
		connect bool
		want    []string
	}{
		"no URL":         {postgres.Config{}, false, []string{"empty", "postgres://"}},
		"negative cap":   {postgres.Config{MaxDead: -1}, false, []string{"-1", "at least 1"}},
		"long schema":    {postgres.Config{Schema: strings.Repeat("x", 64)}, false, []string{"64 bytes", "63"}},
		"schema":         {postgres.Config{Schema: "a\x00b"}, false, []string{`a\x00b`}},
		"broken URL":     {config("postgres://app:secret%word@localhost/shop"), false, []string{"cannot be read", "%XX"}},
		"broken port":    {config("postgres://app:secret@localhost:port:secret/shop"), false, []string{"cannot be read"}},
		"broken pairs":   {config("host=localhost password='secret"), false, []string{"cannot be read"}},
		"nobody listens": {config("postgres://app:secret@127.0.0.1:1/shop?sslmode=disable"), true, []string{"database shop on 127.0.0.1:1", "connection refused", "check"}},
		"two hosts": {config("postgres://app:secret@127.0.0.1:1,127.0.0.1:2/shop?sslmode=disable"), true,
			[]string{"127.0.0.1:1, 127.0.0.1:2", "connection refused"}},
		"no socket":      {config("host=/nowhere user=app password=secret dbname=shop"), true, []string{"socket /nowhere/.s.PGSQL.5432", "no such file"}},
		"no such host":   {config("postgres://app:secret@host.invalid/shop"), true, []string{"host.invalid"}},
		"wrong password": {config(asRole(t, url, "postgres")), true, []string{"lets user postgres not in", "password", "127.0.0.1"}},
		"no database":    {config(inDatabase(t, url, "nowhere")), true, []string{"database nowhere on", "does not exist", "create it"}},
	} {
		err := refused(t, test.cfg)
		wantText(t, name, err, test.want...)
		if errors.Is(err, postgres.ErrConnect) != test.connect {
			t.Errorf("%s: got error %v, want one that matches ErrConnect: %t", name, err, test.connect)
		}
	}
}

func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	err := postgres.Migrate(t.Context(), "postgres://app:secret@127.0.0.1:1/shop?sslmode=disable", "")
	wantText(t, "migrate", err, "migrate state store", "127.0.0.1:1", "connection refused")
	if !errors.Is(err, postgres.ErrConnect) {
		t.Errorf("got error %v, want one that matches ErrConnect", err)
	}
	wantText(t, "migrate", postgres.Migrate(t.Context(), "postgres://app:secret%word@localhost/shop", ""), "cannot be read")
	wantText(t, "migrate", postgres.Migrate(t.Context(), "", strings.Repeat("x", 64)), "63")
	if _, err := postgres.Script(strings.Repeat("x", 64)); err == nil {
		t.Error("script for a name that is too long: got no error")
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := postgres.Open(ctx, config(testenv.Database(t)))
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	s := open(t, config(testenv.Database(t)))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{}); err == nil {
		t.Error("save after close: got no error")
	}
	if _, err := s.LoadCheckpoint(t.Context(), "shop"); err == nil || errors.Is(err, observer.ErrNotFound) {
		t.Errorf("load after close: got error %v, want one that is not ErrNotFound", err)
	}
}
