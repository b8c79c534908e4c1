package app_test

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fraiseql/observer/app"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/sqlite"
)

// TestStartWarns: what makes an application fail, or an event incomplete, is
// said at the start.
func TestStartWarns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "shop.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	exec := func(query string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE TABLE orders (id INTEGER PRIMARY KEY)`)
	if _, err := sqlite.AddCapture(t.Context(), path, sqlite.Capture{Table: "orders", Entity: "Order"}); err != nil {
		t.Fatal(err)
	}
	exec(`ALTER TABLE orders ADD COLUMN status TEXT`)
	text := "[[databases]]\nname = \"shop\"\nurl = \"sqlite:shop.db\"\n"
	cfg, err := config.Parse(filepath.Join(dir, "o.toml"), []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	daemonLog := started(t, cfg)
	for _, want := range []string{"not in WAL mode", "journal_mode=delete", "run capture add for it again", "table=orders"} {
		if !strings.Contains(daemonLog, want) {
			t.Errorf("the log lacks %q:\n%s", want, daemonLog)
		}
	}
	exec(`PRAGMA journal_mode=WAL`)
	if again := started(t, cfg); strings.Contains(again, "not in WAL mode") {
		t.Errorf("in WAL mode:\n%s", again)
	}
}

// started runs a daemon until it says that it runs, and returns its log.
func started(t *testing.T, cfg *config.Config) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &runningLog{running: cancel}
	daemon, err := app.New(ctx, app.Options{Config: cfg, Logger: slog.New(slog.NewTextHandler(out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return out.text.String()
}

// runningLog keeps a log and calls running at the line that says so. Its
// handler calls it one line at a time.
type runningLog struct {
	text    bytes.Buffer
	running func()
}

func (l *runningLog) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("msg=running")) {
		l.running()
	}
	return l.text.Write(line)
}
