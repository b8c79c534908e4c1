package app

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func stateOn(t *testing.T, url, schema string) config.State {
	t.Helper()
	cfg, err := config.Parse("o.toml", []byte("[[databases]]\nname = \"shop\"\nurl = '"+url+"'\n[state]\nschema = '"+schema+"'\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.State
}

func TestSessionLock(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	state, other := stateOn(t, url, "one"), stateOn(t, url, "two")
	running := func(state config.State, want bool) {
		t.Helper()
		if got, err := Running(t.Context(), state); err != nil || got != want {
			t.Errorf("Running = %v, %v; want %v", got, err, want)
		}
	}
	running(state, false)
	held, err := acquire(t.Context(), state, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	running(state, true)
	running(other, false) // a state in another schema is another state
	if _, err := acquire(t.Context(), state, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "schema one") {
		t.Errorf("a second daemon got %v, want ErrRunning with the place", err)
	}
	running(state, true)
	if err := held.release(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, testenv.Connect(t, url), "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory')")
	running(state, false)
}

// A server that has not noticed that its client is gone still holds the lock for
// it. The session is ended, and nobody else's.
func TestFormerSessionIsEnded(t *testing.T) {
	t.Parallel()
	state := stateOn(t, testenv.Database(t), "fraiseql_observer")
	taken, err := acquire(t.Context(), state, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l := taken.(*sessionLock)
	ghost := l.conn
	t.Cleanup(func() { _ = ghost.Close(t.Context()) })
	if err := l.take(t.Context()); !errors.Is(err, errFormer) {
		t.Fatalf("the lock of the former session: %v", err)
	}
	if err := l.retake(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ghost.Ping(t.Context()) == nil {
		t.Error("the former session goes on")
	}
	if _, err := acquire(t.Context(), state, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrRunning) {
		t.Errorf("after it was taken again another daemon got %v", err)
	}
	if err := l.release(); err != nil {
		t.Fatal(err)
	}
}
