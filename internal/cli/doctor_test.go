package cli_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fraiseql/observer/internal/cli"
	"github.com/fraiseql/observer/internal/testenv"
)

// doctor runs the command on a database and gives what it prints.
func runDoctor(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = cli.Main(t.Context(), append([]string{"doctor"}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// The code says what the worst finding is.
func TestDoctorExitCode(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t)
	for _, c := range []struct {
		prepare string
		args    []string
		code    int
		says    string
	}{
		{"", nil, 4, "problem  log"},
		{"migrate", nil, 0, "ok       right_to_state          the role may"},
		{"ALTER TABLE core.tb_entity_change_log DISABLE TRIGGER fraiseql_wake_up", nil, 0, "warning  wake_up"},
		{"", []string{"--strict"}, 4, "warning  wake_up"},
		{"ALTER SEQUENCE core.tb_entity_change_log_pk_entity_change_log_seq CACHE 10", nil, 4, "problem  sequence"},
	} {
		switch c.prepare {
		case "":
		case "migrate":
			var out strings.Builder
			if code := cli.Main(t.Context(), []string{"migrate", "--database", dsn}, &out, &out); code != 0 {
				t.Fatalf("migrate: code %d: %s", code, out.String())
			}
		default:
			testenv.Exec(t, testenv.Connect(t, dsn), c.prepare)
		}
		code, stdout, stderr := runDoctor(t, append(c.args, "--database", dsn)...)
		if code != c.code || !strings.Contains(stdout, c.says) || stderr != "" {
			t.Errorf("after %q: code %d, want %d; want %q in\n%s%s", c.prepare, code, c.code, c.says, stdout, stderr)
		}
	}
}

func TestDoctorJSON(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := runDoctor(t, "--format", "json", "--database", testenv.Database(t))
	var got struct {
		Worst, Database, Role, Log string
		Findings                   []struct{ Check, Level, What, Do string }
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v in %s%s", err, stdout, stderr)
	}
	if code != 4 || got.Worst != "problem" || got.Log != "core.tb_entity_change_log" || len(got.Findings) < 10 || got.Findings[0].Check != "server_version" {
		t.Errorf("code %d, %+v", code, got)
	}
}

func TestDoctorRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		url  string
		code int
		says string
	}{
		"unreachable": {"postgres://u:hunter2@127.0.0.1:1/shop", 3, "cannot connect to PostgreSQL at 127.0.0.1:1/shop"},
		"sqlite":      {"sqlite:" + filepath.Join(t.TempDir(), "shop.db"), 2, "fraiseql-observer status"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := runDoctor(t, "--database", c.url)
			if code != c.code || stdout != "" || !strings.Contains(stderr, c.says) || strings.Contains(stderr, "hunter2") {
				t.Errorf("code %d, want %d; want %q in %s%s", code, c.code, c.says, stdout, stderr)
			}
		})
	}
}
