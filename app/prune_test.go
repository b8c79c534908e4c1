package app

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/sqlite"
)

// pruned is a daemon whose databases are only pruned, by the clock of the
// bubble that it is made in.
type pruned struct {
	*App
	log bytes.Buffer
}

// newPruned makes a daemon with the named databases, their files in one
// directory, and the given line in the sections of all.
func newPruned(t *testing.T, retention string, names ...string) *pruned {
	t.Helper()
	dir := t.TempDir()
	var text bytes.Buffer
	for _, name := range names {
		fmt.Fprintf(&text, "[[databases]]\nname = %q\nurl = \"sqlite:%s.db\"\n%s\n", name, name, retention)
		newLog(t, filepath.Join(dir, name+".db"))
	}
	cfg, err := config.Parse(filepath.Join(dir, "o.toml"), text.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &pruned{}
	if p.App, err = New(t.Context(), Options{Config: cfg, Logger: slog.New(slog.NewTextHandler(&p.log, nil))}); err != nil {
		t.Fatal(err)
	}
	return p
}

// newLog makes a database with an empty change log.
func newLog(t *testing.T, path string) {
	t.Helper()
	onFile(t, path, func(db *sql.DB) error {
		_, err := db.ExecContext(t.Context(), "CREATE TABLE orders (id INTEGER PRIMARY KEY)")
		return err
	})
	if _, err := sqlite.AddCapture(t.Context(), path, sqlite.Capture{Table: "orders", Entity: "Order"}); err != nil {
		t.Fatal(err)
	}
}

// onFile runs f on a connection of its own, which is closed inside the bubble
// that it was opened in.
func onFile(t *testing.T, path string, f func(*sql.DB) error) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	if err := f(db); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// start prunes until stop is called, and stop waits for its end.
func (p *pruned) start(t *testing.T) (stop func()) {
	t.Helper()
	return during(t, p.App, p.prune)
}

// during does what an App does beside everything else until stop is called,
// which waits for its end and closes the App.
func during(t *testing.T, a *App, do func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it ended with %v", err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// round lets the pruning that is due end, and every one within d after it.
func round(d time.Duration) {
	synctest.Wait()
	<-time.After(d)
	synctest.Wait()
}

// on runs f on the i-th database, past the daemon.
func (p *pruned) on(t *testing.T, i int, f func(*sql.DB) error) {
	t.Helper()
	onFile(t, p.topology.Databases[i].Config.FilePath(), f)
}

// record writes one entry of the given age for each id, and returns the
// position of the last one.
func (p *pruned) record(t *testing.T, i int, age time.Duration, ids ...string) observer.Position {
	t.Helper()
	p.on(t, i, func(db *sql.DB) error {
		for _, id := range ids {
			_, err := db.ExecContext(t.Context(), `INSERT INTO tb_entity_change_log
				(id, object_type, modification_type, object_id, object_data, created_at) VALUES (?, 'Order', 'INSERT', '1', '{}', ?)`,
				id, time.Now().Add(-age).UTC().Format(time.RFC3339Nano))
			if err != nil {
				return err
			}
		}
		return nil
	})
	head, err := p.topology.Databases[i].Source.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// handled saves a checkpoint as the relay of the i-th database does.
func (p *pruned) handled(t *testing.T, i int, cp observer.Checkpoint) {
	t.Helper()
	if err := p.topology.Store.SaveCheckpoint(t.Context(), p.topology.Databases[i].Config.Name, cp); err != nil {
		t.Fatal(err)
	}
}

// want compares the ids that are in the i-th log.
func (p *pruned) want(t *testing.T, i int, when, want string) {
	t.Helper()
	var got sql.NullString
	p.on(t, i, func(db *sql.DB) error {
		return db.QueryRowContext(t.Context(), `SELECT group_concat(id, ' ') FROM
			(SELECT id FROM tb_entity_change_log ORDER BY pk_entity_change_log)`).Scan(&got)
	})
	if d := cmp.Diff(want, got.String); d != "" {
		t.Errorf("%s: log (-want +got):\n%s", when, d)
	}
}

const day = 24 * time.Hour

// What is pruned is bounded by the checkpoint that is saved: the row it stands
// on, and everything after it, would be missed by the next start.
func TestPruneKeepsWhatTheSavedCheckpointDoesNotCover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPruned(t, `retention = "24h"`, "shop")
		floor := p.record(t, 0, 9*day, "a", "b", "c")
		top := p.record(t, 0, 9*day, "d", "e")
		// "e" is handled too, behind the unfinished "d".
		p.handled(t, 0, observer.Checkpoint{Position: floor, Done: []string{"e"}})
		stop := p.start(t)
		defer stop()
		round(0)
		p.want(t, 0, "at the start", "c d e")
		round(10 * pruneInterval)
		p.want(t, 0, "while the floor stays", "c d e")
		p.handled(t, 0, observer.Checkpoint{Position: top})
		round(pruneInterval - time.Second)
		p.want(t, 0, "before the floor that moved is looked at", "c d e")
		round(time.Second)
		p.want(t, 0, "after the floor moved", "e")
	})
}

// Handled entries leave the log at the age that is configured.
func TestPruneKeepsWhatIsYoung(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPruned(t, `retention = "24h"`, "shop")
		p.record(t, 0, day-90*time.Second, "a")
		p.record(t, 0, day-time.Hour, "b")
		p.handled(t, 0, observer.Checkpoint{Position: p.record(t, 0, 0, "c")})
		stop := p.start(t)
		defer stop()
		round(pruneInterval)
		p.want(t, 0, "within the retention", "a b c")
		round(pruneInterval)
		p.want(t, 0, "when the first is a day old", "b c")
		round(time.Hour)
		p.want(t, 0, "when the second is a day old", "c")
	})
}

// Without a retention nothing is old, and without a checkpoint nothing is
// handled.
func TestPruneNeedsARetentionAndACheckpoint(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		retention  string
		checkpoint bool
		want       string
	}{
		"retention 0":           {`retention = "0"`, true, "a b c"},
		"no checkpoint yet":     {`retention = "1s"`, false, "a b c"},
		"younger than default":  {``, true, "b c"},
		"checkpoint, retention": {`retention = "1s"`, true, "c"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPruned(t, tt.retention, "shop")
				p.record(t, 0, 8*day, "a")
				at := p.record(t, 0, 6*day, "b", "c")
				if tt.checkpoint {
					p.handled(t, 0, observer.Checkpoint{Position: at})
				}
				stop := p.start(t)
				round(2 * pruneInterval)
				p.want(t, 0, name, tt.want)
				stop()
				if strings.Contains(p.log.String(), "level=WARN") {
					t.Errorf("log:\n%s", &p.log)
				}
			})
		})
	}
}

// A checkpoint of a log that is not this one any more, as after restoring a
// backup, covers nothing in it.
func TestPruneLeavesARestoredLogAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPruned(t, `retention = "1s"`, "shop", "other")
		p.record(t, 0, day, "a", "b", "c")
		p.handled(t, 0, observer.Checkpoint{Position: p.record(t, 1, day, "x", "y", "z")})
		stop := p.start(t)
		round(pruneInterval)
		p.want(t, 0, "with the checkpoint of another log", "a b c")
		stop()
		if got := p.log.String(); !strings.Contains(got, "could not be pruned") || !strings.Contains(got, "another change log") {
			t.Errorf("log:\n%s", got)
		}
	})
}

// A log that cannot be pruned is said with its name, holds up no other, and is
// pruned when that is possible again.
func TestPruneTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPruned(t, `retention = "1s"`, "shop", "other")
		for i := range 2 {
			p.handled(t, i, observer.Checkpoint{Position: p.record(t, i, day, "a", "b")})
		}
		rename := func(from, to string) {
			t.Helper()
			p.on(t, 0, func(db *sql.DB) error {
				_, err := db.ExecContext(t.Context(), "ALTER TABLE "+from+" RENAME TO "+to)
				return err
			})
		}
		rename("tb_entity_change_log", "away")
		stop := p.start(t)
		round(0)
		p.want(t, 1, "beside one that cannot be pruned", "b")
		rename("away", "tb_entity_change_log")
		round(pruneInterval)
		p.want(t, 0, "when it can be pruned again", "b")
		stop()
		if got := p.log.String(); strings.Count(got, "could not be pruned") != 1 || !strings.Contains(got, "source=shop") {
			t.Errorf("log:\n%s", got)
		}
	})
}
