package changelog_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

func TestMigrateCreatesTheLog(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]changelog.Options{
		"default": {},
		"other":   {Log: changelog.Name{Schema: `My "Schema`, Table: `The.Log's`}, Schema: `own $body$ 'x' \`},
		"one":     {Log: changelog.Name{Schema: "demo"}, Schema: "demo"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			conn := testenv.Connect(t, url)
			if err := changelog.Ready(t.Context(), conn, o); !errors.Is(err, changelog.ErrNotReady) || !errors.Is(err, changelog.ErrNoLog) {
				t.Fatalf("before: %v", err)
			}
			for range 2 {
				if err := changelog.Migrate(t.Context(), url, o); err != nil {
					t.Fatal(err)
				}
			}
			if err := changelog.Ready(t.Context(), conn, o); err != nil {
				t.Fatal(err)
			}
			testenv.Exec(t, conn, "INSERT INTO "+o.Log.String()+" (object_type, modification_type) VALUES ('Order', 'CUSTOM')")
			if got := testenv.Value[string](t, conn, "SELECT concat_ws(' ', pk_entity_change_log, seq, length(id::text)) FROM "+o.Log.String()); got != "1 1 36" {
				t.Errorf("row: %s", got)
			}
		})
	}
}

func TestManyProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { errs[i] = changelog.Migrate(t.Context(), url, changelog.Options{}) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	conn := testenv.Connect(t, url)
	versions := testenv.Value[string](t, conn, "SELECT string_agg(version_id::text, ' ' ORDER BY version_id) FROM fraiseql_observer.changelog_version")
	if versions != "0 1" {
		t.Errorf("versions %s", versions)
	}
}

func TestScriptIsWhatMigrateRuns(t *testing.T) {
	t.Parallel()
	o := changelog.Options{Log: changelog.Name{Schema: `a "b'`}, Notify: changelog.NotifyAlways}
	migrated, printed := testenv.Database(t), testenv.Database(t)
	if err := changelog.Migrate(t.Context(), migrated, o); err != nil {
		t.Fatal(err)
	}
	conn := testenv.Connect(t, printed)
	for range 2 {
		testenv.Exec(t, conn, changelog.Script(o))
	}
	if err := changelog.Ready(t.Context(), conn, o); err != nil {
		t.Error(err)
	}
	other := testenv.Connect(t, migrated)
	const shape = `SELECT string_agg(concat_ws(' ', table_schema, table_name, column_name, data_type, is_nullable, column_default), E'\n' ORDER BY table_schema, table_name, ordinal_position)
		FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')`
	if a, b := testenv.Value[string](t, conn, shape), testenv.Value[string](t, other, shape); a != b {
		t.Errorf("printed:\n%s\nmigrated:\n%s", a, b)
	}
	const versions = "SELECT string_agg(version_id::text, ' ' ORDER BY id) FROM fraiseql_observer.changelog_version"
	if a, b := testenv.Value[string](t, conn, versions), testenv.Value[string](t, other, versions); a != b || a != "0 1" {
		t.Errorf("versions %s and %s", a, b)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err != nil {
		t.Fatal(err)
	}
	conn := testenv.Connect(t, url)
	l, err := changelog.Inspect(t.Context(), conn, changelog.Name{})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(l.Sequence, l.SequenceCache, l.Identity, l.Partitioned, l.HasWakeTrigger, l.Notify, l.RowSecurity, len(l.Columns))
	if want := "core.tb_entity_change_log_pk_entity_change_log_seq 1 ALWAYS false true auto false 28\n"; got != want {
		t.Errorf("layout %s, want %s", got, want)
	}
	if oid := testenv.Value[uint32](t, conn, "SELECT 'core.tb_entity_change_log'::regclass::oid"); l.TableOID != oid {
		t.Errorf("table %d, want %d", l.TableOID, oid)
	}
	if oid := testenv.Value[uint32](t, conn, "SELECT 'core.tb_entity_change_log_pk_entity_change_log_seq'::regclass::oid"); l.SequenceOID != oid {
		t.Errorf("sequence %d, want %d", l.SequenceOID, oid)
	}
}
