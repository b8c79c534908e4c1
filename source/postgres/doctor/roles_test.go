package doctor_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/doctor"
)

// A role without rights gets a report, which says what to grant; when that is
// granted, it can do its work.
func TestRoleWithoutRights(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	testenv.Exec(t, conn, "CREATE TABLE fraiseql_observer.tb_checkpoint (name text)")
	name, asRole := newRole(t, conn, dsn)
	report := examine(t, asRole, doctor.Options{})
	for _, w := range []want{
		{"right_to_read", doctor.Problem, "it lacks USAGE on its schema, SELECT on it", "GRANT SELECT ON core.tb_entity_change_log TO " + name},
		{"right_to_read_sequence", doctor.Warning, "may not ask", "GRANT SELECT ON SEQUENCE"},
		{"sequence_range", doctor.Note, "could not be checked", "GRANT SELECT ON SEQUENCE"},
		{"right_to_prune", doctor.Warning, "may not delete", "GRANT DELETE ON core.tb_entity_change_log"},
		{"right_to_create", doctor.Note, "cannot run migrate", "migrate --print"},
		{"right_to_state", doctor.Problem, "lacks DELETE on tb_checkpoint, INSERT on tb_checkpoint", "ON ALL TABLES IN SCHEMA fraiseql_observer"},
		{"capture_lost", doctor.Note, "could not be checked", "GRANT SELECT ON fraiseql_observer.tb_capture_unrecorded"},
		{"activity_rights", doctor.Note, "cannot see how old", "GRANT pg_read_all_stats TO " + name},
	} {
		expect(t, report, w)
	}
	if len(of(report, "reader")) > 0 {
		t.Error("the reader was tried, though its problem is known")
	}
	grant(t, dsn, report)
	report = examine(t, asRole, doctor.Options{})
	for _, check := range []string{
		"right_to_read", "right_to_read_sequence", "sequence_range", "right_to_prune", "right_to_state", "capture_lost", "activity_rights", "reader",
	} {
		good(t, report, check)
	}
}

// grant does what the findings say.
func grant(t *testing.T, dsn string, report doctor.Report) {
	t.Helper()
	conn := testenv.Connect(t, dsn)
	for _, f := range report.Findings {
		for _, s := range sql(f.Do) {
			if strings.HasPrefix(s, "GRANT") {
				testenv.Exec(t, conn, s)
			}
		}
	}
}

func TestRowSecurity(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	name, asRole := newRole(t, conn, dsn)
	testenv.Exec(t, conn, "ALTER TABLE core.tb_entity_change_log ENABLE ROW LEVEL SECURITY")
	good(t, examine(t, dsn, doctor.Options{}), "row_security")
	report := examine(t, asRole, doctor.Options{})
	expect(t, report, want{"row_security", doctor.Problem, "hides rows of the log from role " + name, "ALTER ROLE " + name + " BYPASSRLS;"})
	testenv.Exec(t, conn, "ALTER ROLE "+name+" BYPASSRLS")
	good(t, examine(t, asRole, doctor.Options{}), "row_security")
}

// Functions that the reader needs can be taken away from everybody.
func TestHistoryFunctionsRefused(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	_, asRole := newRole(t, conn, dsn)
	testenv.Exec(t, conn, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
	report := examine(t, asRole, doctor.Options{})
	expect(t, report, want{"right_to_read", doctor.Problem, "EXECUTE on pg_control_system", "GRANT EXECUTE ON FUNCTION"})
	grant(t, dsn, report)
	good(t, examine(t, asRole, doctor.Options{}), "right_to_read")
}

func TestDefaultsOfARole(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	name, asRole := newRole(t, conn, dsn)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	in := " IN DATABASE " + strings.TrimPrefix(u.Path, "/")
	testenv.Exec(t, conn, "ALTER ROLE "+name+in+" SET session_replication_role = replica; ALTER ROLE "+name+in+" SET synchronous_commit = off; "+
		"ALTER ROLE "+name+" SET lock_timeout = '100ms'")
	report := examine(t, dsn, doctor.Options{})
	expect(t, report, want{"replica_role", doctor.Warning, "by default for role " + name, "ALTER ROLE " + name + in + " RESET session_replication_role;"})
	expect(t, report, want{"durability", doctor.Warning, "synchronous_commit is off for role " + name, "RESET synchronous_commit"})
	good(t, report, "role_settings")
	expect(t, examine(t, asRole, doctor.Options{}), want{"role_settings", doctor.Warning, "lock_timeout is 100 ms", "ALTER ROLE " + name + " SET lock_timeout = 0;"})
}

func TestConnectionsOfARole(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	name, asRole := newRole(t, conn, dsn)
	testenv.Exec(t, conn, "ALTER ROLE "+name+" CONNECTION LIMIT 12")
	good(t, examine(t, asRole, doctor.Options{}), "connections")
	testenv.Exec(t, conn, "ALTER ROLE "+name+" CONNECTION LIMIT 5")
	// The session of the examination before is counted until its process has ended.
	testenv.Eventually(t, conn, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = $1)", name)
	expect(t, examine(t, asRole, doctor.Options{}), want{"connections", doctor.Warning, "4 of 5 connections of role " + name + " are left", "CONNECTION LIMIT"})
}

// What cannot be reached is an error that says where, and never the password.
func TestCannotConnect(t *testing.T) {
	t.Parallel()
	dsn, conn := newDatabase(t)
	_, asRole := newRole(t, conn, dsn)
	for name, c := range map[string]struct {
		url     string
		connect bool
		says    string
	}{
		"refused":  {"postgres://u:hunter2@127.0.0.1:1/shop", true, "127.0.0.1:1/shop"},
		"password": {strings.Replace(asRole, "hunter2", "hunter2x", 1), true, "password authentication failed"},
		"database": {strings.Replace(dsn, "/test_", "/missing_", 1), true, "does not exist"},
		"no url":   {"postgres://u:hunter2@[::1/shop", false, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := doctor.Examine(t.Context(), doctor.Options{URL: observer.NewSecret(c.url)})
			if err == nil || errors.Is(err, doctor.ErrConnect) != c.connect || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want one that says %s", err, c.says)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}
