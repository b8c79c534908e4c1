//go:build unix

package e2e

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of the application

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/sqlite"
)

// flavour is the kind of database that a site observes and keeps its state in.
type flavour string

const (
	onSQLite   flavour = "sqlite"
	onPostgres flavour = "postgres"
)

// onEach runs a test on every kind of database.
func onEach(t *testing.T, test func(t *testing.T, on flavour)) {
	t.Helper()
	for _, on := range []flavour{onSQLite, onPostgres} {
		t.Run(string(on), func(t *testing.T) {
			t.Parallel()
			test(t, on)
		})
	}
}

// noBreaker is for receivers of which much fails on purpose, most of all when
// retries come together after a start. The breaker has tests of its own.
const noBreaker = "[breaker]\nenabled = false\n"

// newSite is [newSite] with a database of this kind.
func (on flavour) newSite(t *testing.T, text string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), on: on}
	if on == onPostgres {
		s.server = testenv.Database(t)
	}
	return s.begin(text)
}

// databaseURL and stateText are how the configuration names them.
func (s *site) databaseURL() string {
	if s.on == onPostgres {
		return s.server
	}
	return "sqlite:" + s.database()
}

func (s *site) stateText() string {
	if s.stateURL != "" {
		return fmt.Sprintf("[state]\nurl = %q\n", s.stateURL)
	}
	if s.on == onPostgres {
		return "" // the default: in the database that is observed
	}
	return "[state]\nurl = \"sqlite:" + s.state() + "\"\n"
}

// prepare makes the database of the application and captures its table.
func (s *site) prepare() *shop {
	s.t.Helper()
	if s.on == onPostgres {
		shop := openShop(s)
		shop.exec(items)
		if _, err := capture.Add(s.t.Context(), s.server, capture.Capture{Table: "items", Entity: "Item"}); err != nil {
			s.t.Fatal(err)
		}
		return shop
	}
	if err := os.WriteFile(s.database(), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	shop := openShop(s)
	shop.exec(items)
	if _, err := sqlite.AddCapture(s.t.Context(), s.database(), sqlite.Capture{Table: "items", Entity: "Item"}); err != nil {
		s.t.Fatal(err)
	}
	return shop
}

func (s *site) open() (*sql.DB, error) {
	if s.on == onPostgres {
		return sql.Open("pgx", s.server)
	}
	return sql.Open("sqlite", s.database()+"?_txlock=immediate&_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
}

// password is that of the PostgreSQL database, "" when there is none.
func (s *site) password() string {
	return passwordIn(s.t, s.server)
}

func passwordIn(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return password
}

// in writes a statement as the database wants it.
func (on flavour) in(query string) string {
	if on == onSQLite {
		return query
	}
	query = strings.NewReplacer("FROM tb_entity_change_log", "FROM core.tb_entity_change_log", "object_id = ?", "entity_key = ?::bigint::text").Replace(query)
	for n := 1; strings.Contains(query, "?"); n++ {
		query = strings.Replace(query, "?", "$"+strconv.Itoa(n), 1)
	}
	return query
}
