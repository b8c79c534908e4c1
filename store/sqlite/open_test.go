package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/store/sqlite"
)

// names are file names with characters that mean something in a URI.
func names() []string {
	return []string{"state.db", "with space.db", "what?mode=memory.db", "a#b.db", "50%41.db", "zażółć&x=1;y.db", ":memory:", "+.db"}
}

func TestOpenCreatesTheFileOfThatNameForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("file names and modes of Unix")
	}
	for _, name := range names() {
		dir := filepath.Join(t.TempDir(), "a dir?#%20")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		s := open(t, sqlite.Config{Path: filepath.Join(dir, name)})
		save(t, s, "shop", "1")
		if diff := cmp.Diff(map[string]string{name: "-rw-------", name + "-shm": "-rw-------", name + "-wal": "-rw-------"}, modes(t, dir)); diff != "" {
			t.Errorf("files while %q is open (-want +got):\n%s", name, diff)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{name: "-rw-------"}, modes(t, dir)); diff != "" {
			t.Errorf("files after %q was closed (-want +got):\n%s", name, diff)
		}
	}
}

func modes(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		found[entry.Name()] = info.Mode().String()
	}
	return found
}

func save(t *testing.T, s *sqlite.Store, name string, p observer.Position) {
	t.Helper()
	if err := s.SaveCheckpoint(t.Context(), name, observer.Checkpoint{Position: p}); err != nil {
		t.Fatal(err)
	}
}

func TestOpenTakesARelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	opened(t, sqlite.Config{Path: "state.db"})
	if _, err := os.Stat("state.db"); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	if err := open(t, sqlite.Config{Path: newer}).Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, newer, "INSERT INTO tb_observer_state_version (version_id, is_applied) VALUES (9000, 1)")
	for name, test := range map[string]struct {
		cfg  sqlite.Config
		want []string
	}{
		"no path":              {sqlite.Config{}, []string{"path", "empty"}},
		"negative cap":         {sqlite.Config{Path: "x", MaxDead: -1}, []string{"-1", "at least 1"}},
		"negative timeout":     {sqlite.Config{Path: "x", BusyTimeout: -1}, []string{"-1ns", "positive"}},
		"no directory":         {sqlite.Config{Path: filepath.Join(dir, "no", "such", "state.db")}, []string{filepath.Join(dir, "no", "such"), "create it first"}},
		"a directory":          {sqlite.Config{Path: dir}, []string{dir, "is a directory"}},
		"not a database":       {sqlite.Config{Path: text}, []string{text, "not a SQLite database", "another path"}},
		"newer":                {sqlite.Config{Path: newer}, []string{newer, "newer release", "9000"}},
		"newer, to look at it": {sqlite.Config{Path: newer, ReadOnly: true}, []string{newer, "newer release", "9000"}},
	} {
		s, err := sqlite.Open(t.Context(), test.cfg)
		if err == nil {
			t.Errorf("%s: opened", name)
			_ = s.Close()
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got error %q, want one with %q", name, err, want)
			}
		}
	}
}

// execute runs a statement on the file, past the store.
func execute(t *testing.T, path, statement string, args ...any) {
	t.Helper()
	db := rawDB(t, path)
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func rawDB(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestReadOnlyOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "state.db"), filepath.Join(dir, "no", "state.db"), empty} {
		s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, ReadOnly: true})
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, observer.ErrNotFound) || !strings.Contains(err.Error(), path) {
			t.Errorf("open %s: got error %v, want one that names it and matches ErrNotFound", path, err)
		}
	}
	if diff := cmp.Diff(map[string]string{"empty.db": "-rw-------"}, modes(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestReadOnlySeesALiveStoreAndChangesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	writing := opened(t, sqlite.Config{Path: path})
	reading := opened(t, sqlite.Config{Path: path, ReadOnly: true})
	for _, p := range []observer.Position{"1", "2"} {
		save(t, writing, "shop", p)
		all, err := reading.Checkpoints(t.Context())
		if err != nil || all["shop"].Position != p {
			t.Errorf("got %v and error %v, want shop at %s", all, err, p)
		}
	}
	err := reading.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Position: "3"})
	if err == nil || !strings.Contains(err.Error(), "reading only") {
		t.Errorf("save: got error %v, want one that says reading only", err)
	}
	if cp, err := writing.LoadCheckpoint(t.Context(), "shop"); err != nil || cp.Position != "2" {
		t.Errorf("got %v and error %v, want position 2", cp, err)
	}
}

func TestOpenOneNewFileManyTimesAtOnce(t *testing.T) {
	t.Parallel()
	for range 3 {
		path := filepath.Join(t.TempDir(), "state.db")
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 24 {
			wg.Go(func() {
				<-start
				s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, BusyTimeout: time.Minute})
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				if err := s.SaveCheckpoint(t.Context(), string(rune('a'+i)), observer.Checkpoint{}); err != nil {
					t.Errorf("save: %v", err)
				}
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
		close(start)
		wg.Wait()
		wantOpenedBy(t, path, 24)
	}
}

// wantOpenedBy checks that n openers left one checkpoint each, that every
// migration was applied once and that the file is sound.
func wantOpenedBy(t *testing.T, path string, n int) {
	t.Helper()
	s := opened(t, sqlite.Config{Path: path, ReadOnly: true})
	all, err := s.Checkpoints(t.Context())
	if err != nil || len(all) != n {
		t.Errorf("got %d checkpoints and error %v, want %d", len(all), err, n)
	}
	var twice int
	row := rawDB(t, path).QueryRowContext(t.Context(), "SELECT count(*) - count(DISTINCT version_id) FROM tb_observer_state_version")
	if err := row.Scan(&twice); err != nil || twice != 0 {
		t.Errorf("got %d migrations applied again and error %v, want 0", twice, err)
	}
	wantSound(t, path)
}

func wantSound(t *testing.T, path string) {
	t.Helper()
	var result string
	err := rawDB(t, path).QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&result)
	if err != nil || result != "ok" {
		t.Errorf("integrity check: got %q and error %v, want ok", result, err)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(t.TempDir(), "state.db")})
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	s := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "state.db")})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if err := s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{}); err == nil {
		t.Error("save after close: got no error")
	}
	if _, err := s.LoadCheckpoint(t.Context(), "shop"); err == nil || errors.Is(err, observer.ErrNotFound) {
		t.Errorf("load after close: got error %v, want one that is not ErrNotFound", err)
	}
}

func TestSharesAFileWithOtherTables(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop.db")
	execute(t, path, "CREATE TABLE goose_db_version (version_id INTEGER)")
	execute(t, path, "INSERT INTO goose_db_version VALUES (77)")
	save(t, opened(t, sqlite.Config{Path: path}), "shop", "1")
	var version int
	if err := rawDB(t, path).QueryRowContext(t.Context(), "SELECT version_id FROM goose_db_version").Scan(&version); err != nil || version != 77 {
		t.Errorf("the application's version: got %d and error %v, want 77", version, err)
	}
}

// A file of an application that does not use write-ahead logging can be
// switched to it only while nobody writes, and SQLite does not wait for that.
func TestOpenWaitsForWritersOfAFileWithoutWAL(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop.db")
	execute(t, path, "CREATE TABLE orders (id INTEGER)")
	conn, err := rawDB(t, path).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	time.AfterFunc(30*time.Millisecond, func() {
		_, err := conn.ExecContext(context.WithoutCancel(t.Context()), "COMMIT")
		ended <- err
	})
	save(t, opened(t, sqlite.Config{Path: path}), "shop", "1")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOpenGivesUpOnALockedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "shop.db")
	execute(t, path, "CREATE TABLE orders (id INTEGER)")
	conn, err := rawDB(t, path).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, BusyTimeout: 20 * time.Millisecond})
	if err == nil {
		_ = s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), path+" is locked by another program") {
		t.Errorf("got error %v, want one that says that the file is locked", err)
	}
}
