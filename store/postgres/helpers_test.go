package postgres_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

const lease = time.Minute

// opened is closed with the test.
func opened(t testing.TB, cfg postgres.Config) *postgres.Store {
	t.Helper()
	s := open(t, cfg)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func deadLetter(id string) *observer.Delivery {
	return &observer.Delivery{
		Key: id + "/notify/0", Observer: "notify", State: observer.Dead, Error: "status 400",
		Event:    &observer.Event{ID: id, Operation: observer.Insert, Data: json.RawMessage(`{"id":1}`)},
		Attempts: []observer.Attempt{{Number: 1, Error: "status 400"}},
		Request:  json.RawMessage(`{"url":"http://localhost/"}`),
	}
}

func insert(t testing.TB, s *postgres.Store, ds ...*observer.Delivery) {
	t.Helper()
	if _, err := s.InsertDeliveries(t.Context(), ds...); err != nil {
		t.Fatal(err)
	}
}

func save(t testing.TB, s *postgres.Store, name string, p observer.Position) {
	t.Helper()
	if err := s.SaveCheckpoint(t.Context(), name, observer.Checkpoint{Position: p}); err != nil {
		t.Fatal(err)
	}
}

// inDatabase is a URL for another database.
func inDatabase(t testing.TB, dsn, name string) string {
	t.Helper()
	return changed(t, dsn, func(u *url.URL) { u.Path = "/" + name })
}

// asRole is a URL for another role, with the password "secret word".
func asRole(t testing.TB, dsn, name string) string {
	t.Helper()
	return changed(t, dsn, func(u *url.URL) { u.User = url.UserPassword(name, "secret word") })
}

func changed(t testing.TB, dsn string, change func(*url.URL)) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

// newRole makes a role that may log in, and nothing else, until the test ends.
func newRole(t testing.TB, dsn string) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	testenv.Exec(t, testenv.Connect(t, dsn), "CREATE ROLE "+name+" LOGIN PASSWORD 'secret word'")
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(ctx, "DROP OWNED BY "+name+"; DROP ROLE "+name); err != nil {
			t.Error(err)
		}
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return name
}

// wantText checks an error that people read: one line, with all that is wanted
// and without a password.
func wantText(t testing.TB, what string, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: got no error", what)
		return
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got error %q, want %q in it", what, err, text)
		}
	}
	if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: got error %q, want one line without the password", what, err)
	}
}
