package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/sqlite"
)

func change(id string) *observer.Event {
	return &observer.Event{
		ID: id, Operation: observer.Insert, EntityType: "E", EntityID: "1",
		Data: []byte(`{"a":1}`), Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func (d *database) commit(t testing.TB, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := d.append(t.Context(), true, change(id)); err != nil {
			t.Fatal(err)
		}
	}
}

// wakes commits while the stream rests, and fails unless that wakes it.
func (d *database) wakes(t *testing.T, s observer.Stream, id string) {
	t.Helper()
	sqlite.Rest(s)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var m observer.Message
	before, done := sqlite.Vain(s), make(chan error, 1)
	go func() {
		var err error
		m, err = s.Next(ctx)
		done <- err
	}()
	for sqlite.Vain(s) == before { // its look is over, the next thing it does is wait
		runtime.Gosched()
	}
	d.commit(t, id)
	if err := <-done; err != nil || m.ID() != id {
		t.Fatalf("got %+v, %v; want %s", m, err, id)
	}
}

// Polling is an hour away, so only a wake-up can bring these.
func TestWokenWithoutPolling(t *testing.T) {
	t.Parallel()
	for _, journal := range []string{"WAL", "DELETE", "TRUNCATE", "PERSIST"} {
		t.Run(journal, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			d.must(t, "PRAGMA journal_mode = "+journal)
			s := openStream(t, sqlite.New(sqlite.Config{Path: d.path, PollInterval: time.Hour}), "")
			for i := range 30 {
				d.wakes(t, s, strconv.Itoa(i))
			}
		})
	}
}

// The -wal file goes with the last connection and comes back with the next.
func TestWokenAfterTheWALWasMadeAnew(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	s := openStream(t, sqlite.New(sqlite.Config{Path: d.path, PollInterval: time.Hour}), "")
	for _, statement := range []string{
		"PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint(RESTART)",
	} {
		d.must(t, statement)
		d.wakes(t, s, statement)
	}
	path := d.path
	for i := range 3 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = connect(t, path)
		d.wakes(t, s, strconv.Itoa(i))
	}
}

// Where the file cannot be watched polling finds the changes.
func TestPollsWithoutWakeUps(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	s := openStream(t, sqlite.New(sqlite.Config{Path: d.path, PollInterval: time.Millisecond}), "")
	sqlite.Unwatch(s)
	for i := range 5 {
		d.wakes(t, s, strconv.Itoa(i))
	}
}

// A symbolic link to the file must not hide its -wal file from the watch.
func TestWokenThroughALink(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(d.path, link); err != nil {
		t.Skip("no symbolic links here: ", err)
	}
	s := openStream(t, sqlite.New(sqlite.Config{Path: link, PollInterval: time.Hour}), "")
	d.wakes(t, s, "1")
}

// Reading must not wake the reader: looks are counted while nothing happens.
func TestIdleReaderRests(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.commit(t, "1")
	s := openStream(t, sqlite.New(sqlite.Config{Path: d.path, PollInterval: time.Hour}), "")
	next(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Next on an idle log: %v", err)
	}
	// Ten quick looks follow what was read; then there is silence.
	if n := sqlite.Vain(s); n > 14 {
		t.Errorf("%d looks at an idle log within 3 seconds", n)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(text, bytes.Repeat([]byte("not a database "), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := newDatabase(t, "CREATE TABLE tb_entity_change_log (pk_entity_change_log INTEGER PRIMARY KEY)")
	for _, tt := range []struct {
		name, path, want string
		is               error
	}{
		{"missing file", filepath.Join(dir, "missing.db"), "missing.db", sqlite.ErrNoDatabase},
		{"directory", dir, "is a directory: give the path of a file", sqlite.ErrCannotOpen},
		{"not a database", text, "notes.txt is not a SQLite database", sqlite.ErrCannotOpen},
		{"no log", newDatabase(t).path, "capture add", sqlite.ErrNoLog},
		{"somebody else's log", foreign.path, "AUTOINCREMENT", nil},
	} {
		s, err := sqlite.New(sqlite.Config{Path: tt.path}).Open(t.Context(), "")
		if err == nil {
			t.Errorf("%s: opened", tt.name)
			_ = s.Close(t.Context())
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: %v; want an error with %q", tt.name, err, tt.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "missing.db")); err == nil {
		t.Error("opening a missing database created it")
	}
}

// backup copies the database as it is now.
func (d *database) backup(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup.db")
	d.must(t, "VACUUM INTO ?", path)
	return path
}

func TestRestoredBackupIsReadAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		after  []string // committed after restoring, before reopening
		want   []string
		reason string
	}{
		{"moved back", nil, []string{"1", "2"}, "moved back"},
		{"moved back and grown a little", []string{"9"}, []string{"1", "2", "9"}, "moved back"},
		{"grown to where it was", []string{"8", "9"}, []string{"1", "2", "8", "9"}, "another event stands"},
		{"grown beyond", []string{"7", "8", "9"}, []string{"1", "2", "7", "8", "9"}, "another event stands"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			d.commit(t, "1", "2")
			backup := d.backup(t)
			d.commit(t, "3", "4")
			last := d.all(t)[3].Position

			restored := connect(t, backup)
			restored.commit(t, tt.after...)
			var logged bytes.Buffer
			src := sqlite.New(sqlite.Config{Path: backup, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			s := openStream(t, src, last)
			var got []string
			for range tt.want {
				m := next(t, s)
				got = append(got, m.ID())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if !strings.Contains(logged.String(), tt.reason) {
				t.Errorf("the log says %q, want the reason %q", logged.String(), tt.reason)
			}
			if n, _, err := src.Backlog(t.Context(), last); err != nil || n != int64(len(tt.want)) {
				t.Errorf("backlog %d, %v; want %d", n, err, len(tt.want))
			}
			if n, err := src.Prune(t.Context(), last, time.Now()); err == nil || n != 0 {
				t.Errorf("pruning by a position of the lost log deleted %d rows, %v", n, err)
			}
		})
	}
}

// A file swapped under an open stream ends it; reopening finds the new log.
func TestReplacedFile(t *testing.T) {
	t.Parallel()
	d, other := migrated(t), migrated(t)
	d.commit(t, "1")
	other.commit(t, "x")
	swap := other.backup(t)
	src := sqlite.New(sqlite.Config{Path: d.path, PollInterval: time.Hour})
	s := openStream(t, src, "")
	at := next(t, s).Position
	failed := make(chan error, 1)
	go func() {
		_, err := s.Next(t.Context())
		failed <- err
	}()
	// Whoever restores a file takes the old -wal away, or SQLite applies it.
	err := errors.Join(os.Remove(d.path+"-wal"), os.Remove(d.path+"-shm"), os.Rename(swap, d.path))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, sqlite.ErrReplaced) {
		t.Fatalf("the stream over a replaced file: %v, want ErrReplaced", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := next(t, openStream(t, src, at)); m.ID() != "x" {
		t.Errorf("the new file gave %s", m.ID())
	}
}

// A log that is made anew under the open stream is read from its start.
func TestLogMadeAnewUnderAStream(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.commit(t, "1", "2", "3")
	s := openStream(t, d.source(), "")
	for range 3 {
		next(t, s)
	}
	d.must(t, "BEGIN")
	d.must(t, "DELETE FROM tb_entity_change_log")
	d.must(t, "DELETE FROM sqlite_sequence")
	d.must(t, "INSERT INTO tb_entity_change_log (id, object_type, modification_type) VALUES ('4', 'E', 'CUSTOM')")
	d.must(t, "COMMIT")
	if m := next(t, s); m.ID() != "4" {
		t.Errorf("got %s, want 4", m.ID())
	}
}

func TestBacklogAndHead(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	src := d.source()
	head, err := src.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.commit(t, "1", "2", "3")
	if m := next(t, openStream(t, src, head)); m.ID() != "1" {
		t.Errorf("after the head of an empty log came %s", m.ID())
	}
	all := d.all(t)
	if head, err = src.Head(t.Context()); err != nil || head != all[2].Position {
		t.Errorf("head %s, %v; want %s", head, err, all[2].Position)
	}
	want := all[0].Event.Timestamp
	for i, after := range []observer.Position{"", all[0].Position, all[2].Position} {
		n, oldest, err := src.Backlog(t.Context(), after)
		rest := []int64{3, 2, 0}[i]
		if err != nil || n != rest || rest > 0 && !oldest.Equal(want) || rest == 0 && !oldest.IsZero() {
			t.Errorf("backlog after %q: %d rows since %s, %v; want %d", after, n, oldest, err, rest)
		}
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	const n = 230 // several batches of 50
	cutoff := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for i := range n {
		e := change(strconv.Itoa(i))
		e.Timestamp = cutoff.Add(time.Duration(i-150) * time.Minute)
		if err := d.append(t.Context(), true, e); err != nil {
			t.Fatal(err)
		}
	}
	d.must(t, "UPDATE tb_entity_change_log SET created_at = 'once' WHERE id IN ('20', '200')")
	all := d.all(t)
	src := d.source()
	for _, tt := range []struct {
		name string
		upTo observer.Position
		want int64
	}{
		{"nothing is handled", "", 0},
		{"below the checkpoint only, which stays", all[99].Position, 99},
		{"old ones only", all[n-1].Position, 51},
		{"again", all[n-1].Position, 0},
	} {
		if got, err := src.Prune(t.Context(), tt.upTo, cutoff); err != nil || got != tt.want {
			t.Errorf("%s: deleted %d, %v; want %d", tt.name, got, err, tt.want)
		}
	}
	if m := next(t, openStream(t, src, "")); m.ID() != "150" {
		t.Errorf("the first row left is %s", m.ID())
	}
	if m := next(t, openStream(t, src, all[99].Position)); m.ID() != "150" {
		t.Errorf("a position that was pruned goes on with %s", m.ID())
	}
}

// Several applications write, roll back and delete while the reader reopens at
// random: nothing is lost, repeated or out of order, in one order for all.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	const writers, each = 4, 60
	d := captured(t, sqlite.Capture{Table: "t"}, "CREATE TABLE t (w INTEGER, n INTEGER, PRIMARY KEY (w, n))")
	var wg sync.WaitGroup
	for w := range writers {
		conn := connect(t, d.path)
		wg.Go(func() { writeAndRollBack(t, conn, w, each) })
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
		_, _ = d.ExecContext(t.Context(), "INSERT INTO t VALUES (-1, -1)") // a failure shows as a missing end
	}()
	src := d.source()
	s := openStream(t, src, "")
	var got []string
	for {
		m := next(t, s)
		if m.Event.EntityID == "[-1,-1]" {
			break
		}
		got = append(got, m.ID())
		if len(got)%17 == 0 {
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			s = openStream(t, src, m.Position)
		}
	}
	<-done
	var want []string
	for _, m := range d.all(t) {
		want = append(want, m.ID())
	}
	if diff := cmp.Diff(want[:len(want)-1], got); diff != "" {
		t.Errorf("events (-log +read):\n%s", diff)
	}
	var kept int
	if err := d.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&kept); err != nil || len(got) != kept-1 {
		t.Errorf("%d rows were committed and %d events came, %v", kept-1, len(got), err)
	}
}

func writeAndRollBack(t *testing.T, d *database, w, each int) {
	t.Helper()
	for n := range each {
		tx, err := d.BeginTx(t.Context(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES (?1, ?2 * 2), (?1, ?2 * 2 + 1)", w, n); err != nil {
			t.Error(err)
		}
		end := tx.Commit
		if n%3 == 0 {
			end = tx.Rollback
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	}
}

// Large images end a batch before memory does.
func TestBatchIsBoundedByBytes(t *testing.T) {
	t.Parallel()
	d := captured(t, sqlite.Capture{Table: "t"}, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
	d.must(t, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12) INSERT INTO t SELECT i, hex(zeroblob(500000)) FROM n")
	s := openStream(t, d.source(), "")
	var ids []string
	for range 12 {
		ids = append(ids, next(t, s).Event.EntityID)
		if n := sqlite.Buffered(s); n > 9 {
			t.Fatalf("%d messages of a megabyte are buffered", n)
		}
	}
	if !slices.IsSortedFunc(ids, func(a, b string) int { return len(a) - len(b) }) || ids[11] != "12" {
		t.Errorf("entities %v", ids)
	}
}
