package doctor_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/changelog"
	"github.com/fraiseql/observer/source/postgres/doctor"
)

const logTable = "core.tb_entity_change_log"

// newDatabase is a fresh database with an empty change log.
func newDatabase(t *testing.T) (dsn string, conn *pgx.Conn) {
	t.Helper()
	dsn = testenv.Database(t)
	return dsn, migrated(t, dsn)
}

func migrated(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	if err := changelog.Migrate(t.Context(), dsn, changelog.Options{}); err != nil {
		t.Fatal(err)
	}
	return testenv.Connect(t, dsn)
}

func examine(t *testing.T, dsn string, o doctor.Options) doctor.Report {
	t.Helper()
	o.URL = observer.NewSecret(dsn)
	report, err := doctor.Examine(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// want is a finding: its level, and parts of its texts.
type want struct {
	check    string
	level    doctor.Level
	what, do string
}

func expect(t *testing.T, report doctor.Report, w want) {
	t.Helper()
	var seen []string
	for _, f := range of(report, w.check) {
		if f.Level == w.level && strings.Contains(f.What, w.what) && strings.Contains(f.Do, w.do) {
			return
		}
		seen = append(seen, fmt.Sprintf("%s: %s\n    do: %s", f.Level, f.What, f.Do))
	}
	t.Errorf("%s: want %s: %s\n    do: %s\ngot %s", w.check, w.level, w.what, w.do, strings.Join(seen, "\n"))
}

// good wants that a check found nothing wrong.
func good(t *testing.T, report doctor.Report, check string) {
	t.Helper()
	list := of(report, check)
	if len(list) != 1 || list[0].Level != doctor.OK || list[0].What == "" || list[0].Do != "" {
		t.Errorf("%s: want one good finding, got %+v", check, list)
	}
}

func of(report doctor.Report, check string) []doctor.Finding {
	return slices.DeleteFunc(slices.Clone(report.Findings), func(f doctor.Finding) bool { return f.Check != check })
}

// newRole makes a role that may log in and nothing else, and gives the URL with
// which it does.
func newRole(t *testing.T, conn *pgx.Conn, dsn string) (name, roleURL string) {
	t.Helper()
	name = "role_" + testenv.Value[string](t, conn, "SELECT replace(gen_random_uuid()::text, '-', '')")
	testenv.Exec(t, conn, "CREATE ROLE "+name+" LOGIN PASSWORD 'hunter2'")
	t.Cleanup(func() { dropRole(t, dsn, name) })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "hunter2")
	return name, u.String()
}

func dropRole(t *testing.T, dsn, name string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Error(err)
		return
	}
	for _, sql := range []string{"DROP OWNED BY " + name, "DROP ROLE " + name} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}
}

// sql are the statements of an advice: what ends with a semicolon.
func sql(advice string) []string {
	var list []string
	for statement := range strings.SplitSeq(advice, ";") {
		statement = strings.TrimSpace(statement)
		if word, _, _ := strings.Cut(statement, " "); word != "" && word == strings.ToUpper(word) && !strings.HasPrefix(word, "(") {
			list = append(list, statement)
		}
	}
	return list
}
