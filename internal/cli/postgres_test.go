package cli_test

import (
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestPostgresScripts are scripts with a PostgreSQL database each, whose URL is
// $PG. No command prints its password.
func TestPostgresScripts(t *testing.T) {
	t.Parallel()
	server := testenv.SharedPostgres(t)
	p := scripts(filepath.Join("testdata", "postgres"))
	setup := p.Setup
	p.Setup = func(env *testscript.Env) error {
		env.Setenv("PG", server.Database(t))
		return setup(env)
	}
	p.Cmds["psql"] = psqlCommand
	testscript.Run(t, p)
}

// psql SQL runs statements in $PG.
func psqlCommand(ts *testscript.TestScript, _ bool, args []string) {
	conn, err := pgx.Connect(testContext(), ts.Getenv("PG"))
	ts.Check(err)
	text := args[0]
	if len(args) > 1 {
		text = ts.ReadFile(args[1]) // psql -f FILE
	}
	_, err = conn.Exec(testContext(), text)
	ts.Check(err)
	ts.Check(conn.Close(testContext()))
}
