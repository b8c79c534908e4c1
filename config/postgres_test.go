package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

func TestPostgresDatabases(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/good/postgres.toml")
	if err != nil {
		t.Fatal(err)
	}
	c := parse(t, string(text), fileEnviron(string(text)))
	equal(t, "kind of stock", c.Databases[0].Kind(), config.SQLite)
	equal(t, "start of stock", c.Databases[0].Start, config.StartBeginning)
	shop := c.Databases[1]
	equal(t, "kind", shop.Kind(), config.Postgres)
	equal(t, "place", shop.Place(), "db.example.com:5432/shop")
	equal(t, "start", shop.Start, config.StartNow)
	equal(t, "log", shop.LogName(), changelog.Name{Schema: "Audit", Table: "log of changes"})
	equal(t, "url", shop.URL.Reveal(), "postgresql://app:canary%40@db.example.com/shop")
	equal(t, "hosts", c.Databases[2].Place(), "db1:5433,db2:5434/shop")
	equal(t, "log unless set", c.Databases[2].LogName(), changelog.DefaultName())
}

// The state is in the first PostgreSQL database unless it is named, whatever
// kind that is.
func TestStateFollowsTheDatabases(t *testing.T) {
	t.Parallel()
	const sqlite, first, second = "[[databases]]\nname = \"a\"\nurl = \"sqlite:a.db\"\n",
		"[[databases]]\nname = \"b\"\nurl = \"postgres://h/b\"\n", "[[databases]]\nname = \"c\"\nurl = \"postgres://h/c\"\n"
	for _, c := range []struct{ text, kind, place, url string }{
		{sqlite, config.SQLite, "dir/fraiseql-observer.state.db", "sqlite:fraiseql-observer.state.db"},
		{sqlite + first + second, config.Postgres, "h:5432/b, schema fraiseql_observer", "postgres://h/b"},
		{second + first + "[state]\nschema = \"Own\"\n", config.Postgres, "h:5432/c, schema Own", "postgres://h/c"},
		{first + "[state]\nurl = \"sqlite:s.db\"\n", config.SQLite, "dir/s.db", "sqlite:s.db"},
		{sqlite + "[state]\nurl = \"postgres://h:6000/state\"\n", config.Postgres, "h:6000/state, schema fraiseql_observer", "postgres://h:6000/state"},
	} {
		st := parse(t, c.text, nil).State
		equal(t, "kind", st.Kind(), c.kind)
		equal(t, "place", st.Place(), c.place)
		equal(t, "url", st.URL.Reveal(), c.url)
		equal(t, "has a file", st.FilePath() != "", c.kind == config.SQLite)
	}
}

func TestNewPostgresDatabase(t *testing.T) {
	t.Parallel()
	d, err := config.NewDatabase("default", observer.NewSecret("postgres://u:hunter2@h/shop"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "place", d.Place(), "h:5432/shop")
	equal(t, "log", d.LogName(), changelog.DefaultName())
	equal(t, "start", d.Start, config.StartBeginning)
	for _, text := range append(printed(t, d), d.Place()) {
		if strings.Contains(text, "hunter2") {
			t.Errorf("it prints its password: %s", text)
		}
	}
}
