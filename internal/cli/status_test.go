package cli_test

import (
	"os"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
)

// Rows after the checkpoint that are handled already are no backlog.
func TestBacklogLeavesOutWhatIsDoneAhead(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.sql("INSERT INTO orders (status) VALUES (1), (2), (3)")
	check(t, p.store().SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Done: []string{"a", "b"}}))
	out := p.must("status", "--detailed")
	if !strings.Contains(out, "1 row, the oldest from") || !strings.Contains(out, "2 rows") {
		t.Errorf("status printed\n%s\nwant a backlog of 1 row and 2 rows done ahead", out)
	}
}

// --database means the same in every command: a name selects one of several
// databases, a URL replaces the only one.
func TestDatabaseFlag(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	one, err := os.ReadFile(p.path("fraiseql-observer.toml"))
	check(t, err)
	two := strings.Replace(string(one), "[network]", "[[databases]]\nname = \"other\"\nurl = \"sqlite:other.db\"\n[network]", 1)
	check(t, os.WriteFile(p.path("two.toml"), []byte(two), 0o600))

	for _, c := range []struct {
		args          string
		code          int
		stdout, error string
	}{
		{"status --config two.toml", 3, "database other", ""},
		{"status --config two.toml --database shop", 0, "database shop", ""},
		{"status --config two.toml --database sqlite:shop.db", 2, "", "name one of shop, other"},
		{"status --config two.toml --database nope", 2, "", `no database called "nope"; it has shop, other`},
		{"run --config two.toml", 3, "", "database other: no such database file"},
		{"run --config two.toml --database other", 3, "", "database other: no such database file"},
		{"run --database sqlite:elsewhere.db", 3, "", "elsewhere.db"},
		{"dlq stats --config two.toml --database shop", 0, "no dead letters", ""},
		{"dlq stats --config two.toml --database nope", 2, "", "no database called"},
		{"validate-config two.toml --database nope", 2, "", "no database called"},
		{"capture list --database sqlite:shop.db", 0, "orders", ""},
		{"capture list --database sqlite:", 2, "", "names no file"},
	} {
		r := p.run(strings.Fields(c.args)...)
		if r.code != c.code || !strings.Contains(r.stdout, c.stdout) || !strings.Contains(r.stderr, c.error) {
			t.Errorf("%s: code %d, printed %q and %q; want %d, %q, %q", c.args, r.code, r.stdout, r.stderr, c.code, c.stdout, c.error)
		}
	}
	if out := p.must("status", "--config", "two.toml", "--database", "shop"); strings.Contains(out, "other") {
		t.Errorf("the other database is shown too:\n%s", out)
	}
}

// --format of run is the format of the log.
func TestRunLogsAsJSON(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	d := p.launch("run", "--format", "json")
	d.await(`"msg":"running"`)
	check(t, d.cmd.Process.Kill())
	d.wait()
}
