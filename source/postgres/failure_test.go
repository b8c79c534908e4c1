package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
)

// again opens the source until that works, as a relay does.
func again(t testing.TB, src *postgres.Source, after observer.Position) *follower {
	t.Helper()
	eventually(t, "the source opens again", func() bool {
		s, err := src.Open(t.Context(), after)
		if err != nil {
			return false
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		return true
	})
	return follow(t, src, after)
}

func TestBackendIsTerminated(t *testing.T) {
	t.Parallel()
	for _, asleep := range []bool{true, false} {
		d := newDatabase(t)
		src := postgres.New(d.config())
		r := follow(t, src, "")
		insert(t, d, "before")
		at := r.message(t).Position
		if asleep {
			d.asleep(t)
		}
		if n := d.count(t, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fraiseql-observer'"); n != 1 {
			t.Fatalf("%d sessions", n)
		}
		if err := r.fails(t); !strings.Contains(err.Error(), "of shop: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q", err)
		}
		insert(t, d, "meanwhile")
		if got := again(t, src, at).next(t); got != "meanwhile" {
			t.Errorf("got %s", got)
		}
	}
}

func TestServerIsKilled(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Durable: true})
	d := migrated(t, server.Database(t))
	src := postgres.New(d.config())
	r := follow(t, src, "")
	insert(t, d, "before")
	at := r.message(t).Position
	d.asleep(t)
	server.Kill(t)
	_ = r.fails(t)
	if _, err := src.Open(t.Context(), at); !errors.Is(err, postgres.ErrConnect) {
		t.Errorf("error %v while the server is down", err)
	}
	server.Start(t)
	d.Reset()
	r = again(t, src, at)
	insert(t, d, "after")
	if got := r.next(t); got != "after" {
		t.Errorf("got %s", got)
	}
}

// A peer that has gone without a word answers nothing and closes nothing.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	for name, interval := range map[string]time.Duration{"asleep": time.Hour, "polling": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			cfg, way := d.through(t)
			cfg.PollInterval = interval
			src := postgres.New(cfg)
			src.SetPatience(500 * time.Millisecond)
			r := follow(t, src, "")
			insert(t, d, "before")
			at := r.message(t).Position
			if name == "asleep" {
				d.asleep(t)
			}
			way.freeze()
			frozen := time.Now()
			insert(t, d, "meanwhile")
			if err := r.fails(t); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "gave no answer in time") {
				t.Errorf("error %q", err)
			}
			if took := time.Since(frozen); took > soon/2 {
				t.Errorf("noticed after %s", took)
			}
			r.stop()
			way.thaw()
			if got := again(t, src, at).next(t); got != "meanwhile" {
				t.Errorf("got %s", got)
			}
		})
	}
}

// Whatever is asked of a peer that goes without a word, and whenever it goes, is
// answered with an error.
func TestHalfOpenConnectionIsNoTrap(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	insert(t, d, "1")
	insert(t, d, "2")
	at := d.positionAfter(t, 2)
	for name, ask := range map[string]func(*postgres.Source) error{
		"Open":    func(s *postgres.Source) error { _, err := s.Open(t.Context(), at); return err },
		"Head":    func(s *postgres.Source) error { _, err := s.Head(t.Context()); return err },
		"Prune":   func(s *postgres.Source) error { _, err := s.Prune(t.Context(), at, farFuture()); return err },
		"Refetch": func(s *postgres.Source) error { _, err := s.Refetch(t.Context(), "row 1"); return err },
	} {
		for _, last := range []int64{1, 2, 5, 8} { // the first that gets no answer
			t.Run(fmt.Sprintf("%s %d", name, last), func(t *testing.T) {
				t.Parallel()
				cfg, way := d.through(t)
				way.last.Store(last)
				src := postgres.New(cfg)
				src.SetPatience(300 * time.Millisecond)
				begin := time.Now()
				if err := ask(src); err == nil || time.Since(begin) > soon {
					t.Errorf("%v after %s", err, time.Since(begin))
				}
			})
		}
	}
}

// Closing does not wait for a peer that has gone for longer than a moment.
func TestHalfOpenConnectionIsClosed(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	cfg, way := d.through(t)
	s, err := postgres.New(cfg).Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	way.freeze()
	begin := time.Now()
	_ = s.Close(t.Context())
	if took := time.Since(begin); took > soon/2 {
		t.Errorf("closed after %s", took)
	}
}

func TestLogIsLocked(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	src := postgres.New(d.config())
	r := follow(t, src, "")
	insert(t, d, "before")
	at := r.message(t).Position
	lock := testenv.Connect(t, d.url)
	testenv.Exec(t, lock, "BEGIN; LOCK TABLE "+logTable)
	insert(t, lock, "under the lock")
	testenv.Exec(t, lock, "SELECT pg_sleep(0.3); COMMIT")
	if got := r.next(t); got != "under the lock" {
		t.Errorf("got %s", got)
	}

	// Longer than the patience: an error that says so, and no session that waits
	// for ever.
	r.stop()
	src.SetPatience(300 * time.Millisecond)
	r = follow(t, src, at)
	if got := r.next(t); got != "under the lock" {
		t.Errorf("got %s", got)
	}
	testenv.Exec(t, lock, "BEGIN; LOCK TABLE "+logTable)
	insert(t, lock, "later")
	if err := r.fails(t); !strings.Contains(err.Error(), "the table is locked") {
		t.Errorf("error %q", err)
	}
	r.stop()
	eventually(t, "the session is gone", func() bool {
		return testenv.Value[int](t, lock, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'fraiseql-observer'") == 0
	})
	testenv.Exec(t, lock, "COMMIT")
	src.SetPatience(soon)
	r = again(t, src, at)
	r.next(t)
	if got := r.next(t); got != "later" {
		t.Errorf("got %s", got)
	}
}

// What an operator gets to see is one line that says what happened and where,
// and no password.
func TestCannotConnect(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{})
	conn := testenv.Connect(t, server.URL())
	testenv.Exec(t, conn, "CREATE ROLE somebody LOGIN PASSWORD 'right'")
	good, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	const password = "hunter2:/@x"
	change := func(f func(u *url.URL)) string {
		u := *good
		u.RawQuery = "sslmode=disable"
		f(&u)
		return u.String()
	}
	tests := map[string]struct{ url, want string }{
		"wrong password":   {change(func(u *url.URL) { u.User = url.UserPassword("somebody", password) }), "password authentication failed"},
		"unknown role":     {change(func(u *url.URL) { u.User = url.UserPassword("nobody", password) }), "password authentication failed"},
		"unknown database": {change(func(u *url.URL) { u.Path = "/nowhere" }), `database "nowhere" does not exist`},
		"refused":          {change(func(u *url.URL) { u.Host = closed.Addr().String(); u.User = url.UserPassword("a", password) }), "connection refused"},
		"TLS required":     {change(func(u *url.URL) { u.RawQuery = "sslmode=require"; u.User = url.UserPassword("a", password) }), "TLS"},
		"TLS preferred": {change(func(u *url.URL) {
			u.RawQuery = "sslmode=prefer"
			u.User = url.UserPassword("somebody", password)
		}), "password authentication failed"},
		"unknown host":     {change(func(u *url.URL) { u.Host = "no.such.host.invalid:1"; u.User = url.UserPassword("a", password) }), "no.such.host.invalid"},
		"two hosts":        {"postgres://a:hunter2@" + closed.Addr().String() + "," + closed.Addr().String() + "/db?sslmode=disable", "connection refused"},
		"no URL":           {"postgres://a:hunter2:/@x@host:port/db", "cannot be read"},
		"unescaped":        {"postgres://a:hunter2%@host/db", "cannot be read"},
		"keywords":         {"host=127.0.0.1 password='hunter2 port=x", "cannot be read"},
		"no CA file":       {"postgres://a:hunter2@host/db?sslmode=verify-full&sslrootcert=/no/such/file", "/no/such/file"},
		"unknown sslmode":  {"postgres://a:hunter2@host/db?sslmode=maybe", "cannot be read"},
		"another database": {"mysql://a:hunter2@host/db", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := postgres.New(postgres.Config{Name: "shop", URL: observer.NewSecret(tt.url)}).Open(t.Context(), "")
			if !errors.Is(err, postgres.ErrConnect) {
				t.Fatalf("error %v, want one that matches ErrConnect", err)
			}
			text := err.Error()
			if strings.Contains(text, "hunter2") || strings.Contains(text, "\n") || !strings.Contains(text, tt.want) {
				t.Errorf("error %q, want one line with %q", text, tt.want)
			}
			t.Log(text)
		})
	}
}
