package testenv_test

import (
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	one := testenv.Connect(t, testenv.Database(t))
	other := testenv.Connect(t, testenv.Database(t))
	testenv.Exec(t, one, "CREATE TABLE only_here (); CREATE SCHEMA mine")
	for _, query := range []string{
		"SELECT to_regclass('only_here') IS NOT NULL",
		"SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'mine')",
	} {
		if !testenv.Value[bool](t, one, query) || testenv.Value[bool](t, other, query) {
			t.Errorf("%s: want true in one database and false in the other", query)
		}
	}
}
