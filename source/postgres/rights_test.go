package postgres_test

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/postgres"
)

// role creates a role that may log in, and gives a database as it reaches it.
func (d *database) role(t *testing.T, attributes string) (name string, as *database) {
	t.Helper()
	u, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	name = strings.ReplaceAll(strings.TrimPrefix(u.Path, "/"), "test_", "role_")
	quoted := pgx.Identifier{name}.Sanitize()
	d.must(t, "CREATE ROLE "+quoted+" LOGIN PASSWORD 'secret' "+attributes)
	t.Cleanup(func() { // roles belong to the server, which other tests share
		if _, err := d.Exec(contextOf(t), "DROP OWNED BY "+quoted+"; DROP ROLE "+quoted); err != nil {
			t.Error(err)
		}
	})
	u.User = url.UserPassword(name, "secret")
	return quoted, &database{url: u.String()}
}

// rowsAs reads n rows as a role and gives the first error.
func rowsAs(t *testing.T, as *database, n int) error {
	t.Helper()
	src := postgres.New(postgres.Config{Name: "shop", URL: observer.NewSecret(as.url)})
	s, err := src.Open(t.Context(), "")
	if err != nil {
		return err
	}
	defer func() { _ = s.Close(t.Context()) }()
	for range n {
		if _, err := s.Next(t.Context()); err != nil {
			return err
		}
	}
	return nil
}

const owner = "ALTER TABLE " + logTable + " OWNER TO %[1]s"

func TestRights(t *testing.T) {
	t.Parallel()
	const usage, selects = "GRANT USAGE ON SCHEMA core TO %[1]s;", "GRANT SELECT ON " + logTable + " TO %[1]s;"
	const secure = "ALTER TABLE " + logTable + " ENABLE ROW LEVEL SECURITY;"
	tests := map[string]struct {
		attributes, grants string
		want               error
		advice             string
	}{
		"only SELECT":               {grants: usage + selects},
		"SELECT, and the sequence":  {grants: usage + selects + "GRANT SELECT ON ALL SEQUENCES IN SCHEMA core TO %[1]s"},
		"nothing":                   {want: postgres.ErrDenied, advice: "GRANT SELECT ON"},
		"no SELECT":                 {grants: usage, want: postgres.ErrDenied, advice: "GRANT SELECT ON"},
		"no USAGE":                  {grants: selects, want: postgres.ErrDenied, advice: `USAGE ON SCHEMA "core"`},
		"some columns":              {grants: usage + "GRANT SELECT (id) ON " + logTable + " TO %[1]s", want: postgres.ErrDenied, advice: "GRANT SELECT ON"},
		"RLS without a policy":      {grants: usage + selects + secure, want: postgres.ErrHidden, advice: "BYPASSRLS"},
		"RLS with a policy":         {grants: usage + selects + secure + "CREATE POLICY p ON " + logTable + " USING (true)", want: postgres.ErrHidden, advice: "BYPASSRLS"},
		"RLS and BYPASSRLS":         {attributes: "BYPASSRLS", grants: usage + selects + secure},
		"RLS and owner":             {grants: usage + secure + owner},
		"RLS forced upon the owner": {grants: usage + secure + owner + "; ALTER TABLE " + logTable + " FORCE ROW LEVEL SECURITY", want: postgres.ErrHidden},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			role, as := d.role(t, tt.attributes)
			if tt.grants != "" {
				d.must(t, fmt.Sprintf(tt.grants, role))
			}
			for i := range 3 {
				insert(t, d, strconv.Itoa(i))
			}
			d.must(t, "DELETE FROM "+logTable+" WHERE entity_key = '1'")
			err := rowsAs(t, as, 2)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.advice) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("error %q, want one line with %q", err, tt.advice)
			}
		})
	}
}

// Rights that are taken away, and policies that come, while the log is read.
func TestRightsChange(t *testing.T) {
	t.Parallel()
	for change, want := range map[string]error{
		"ALTER TABLE " + logTable + " ENABLE ROW LEVEL SECURITY": postgres.ErrHidden,
		"REVOKE SELECT ON " + logTable + " FROM %[1]s":           postgres.ErrDenied,
	} {
		t.Run(strings.Fields(change)[0], func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			role, as := d.role(t, "")
			d.must(t, fmt.Sprintf("GRANT USAGE ON SCHEMA core TO %[1]s; GRANT SELECT ON "+logTable+" TO %[1]s", role))
			r := follow(t, postgres.New(as.config()), "")
			insert(t, d, "before")
			r.next(t)
			d.asleep(t)
			if strings.Contains(change, "%") {
				change = fmt.Sprintf(change, role)
			}
			d.must(t, change)
			insert(t, d, "after")
			if err := r.fails(t); !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
		})
	}
}
