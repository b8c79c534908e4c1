package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
)

type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// insert writes a row of the entity and leaves the transaction as it is.
func insert(t *testing.T, on execer, entity string) {
	t.Helper()
	_, err := on.Exec(t.Context(), `INSERT INTO `+logTable+` (object_type, modification_type, entity_key, object_data) VALUES ('Order', 'INSERT', $1, '{}')`, entity)
	if err != nil {
		t.Fatal(err)
	}
}

// From now means: what is visible is past, and what is still being written is
// not, wherever its key lies.
func TestHeadKeepsWhatIsStillRunning(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("a transaction runs %t", running), func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			insert(t, d, "past 1")
			tx, err := d.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			insert(t, tx, "running")
			insert(t, d, "past 2")
			want := []string{"running", "new"}
			if !running {
				commit(t, tx)
				want = want[1:]
			}
			head, err := d.source().Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if running {
				commit(t, tx)
			}
			insert(t, d, "new")
			if rows, _, err := d.source().Backlog(t.Context(), head); err != nil || rows != int64(len(want)) {
				t.Errorf("backlog of %d rows, %v; want %d", rows, err, len(want))
			}
			if diff := cmp.Diff(want, entities(t, d, head, len(want))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func commit(t *testing.T, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// entities reads n messages after a position and gives their entities.
func entities(t *testing.T, d *database, after observer.Position, n int) []string {
	t.Helper()
	s, err := d.source().Open(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	var list []string
	for range n {
		m, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m.Event.EntityID)
	}
	return list
}

// reading reads n messages as a relay does: after an error it opens again.
func reading(t *testing.T, d *database, s observer.Stream, at observer.Position, n int) []string {
	t.Helper()
	var list []string
	for len(list) < n {
		m, err := s.Next(t.Context())
		if err != nil {
			_ = s.Close(t.Context())
			if s, err = d.source().Open(t.Context(), at); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close(t.Context()) }()
			continue
		}
		list, at = append(list, m.Event.EntityID), m.Position
	}
	return list
}

func TestHeadOfAnEmptyLog(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	head, err := d.source().Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	insert(t, d, "first")
	if diff := cmp.Diff([]string{"first"}, entities(t, d, head, 1)); diff != "" {
		t.Error(diff)
	}
}

// Keys that the sequence gives a second time are read, and what was read before
// does not come again where it can be told apart.
func TestKeysGivenAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change string
		want   []string
	}{
		"restarted":                {"TRUNCATE " + logTable + " RESTART IDENTITY", []string{"new 0", "new 1", "new 2"}},
		"truncated":                {"TRUNCATE " + logTable, []string{"new 0", "new 1", "new 2"}},
		"set back, rows are there": {"DELETE FROM " + logTable + " WHERE pk_entity_change_log < 6; SELECT setval(pg_get_serial_sequence('" + logTable + "', 'pk_entity_change_log'), 2)", []string{"new 0", "new 1", "new 2"}},
	}
	for name, tt := range tests {
		for _, open := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/stream open %t", name, open), func(t *testing.T) {
				t.Parallel()
				d := newDatabase(t)
				for i := range 8 {
					insert(t, d, fmt.Sprintf("old %d", i))
				}
				s, err := d.source().Open(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = s.Close(t.Context()) }()
				var at observer.Position
				for range 8 {
					m, err := s.Next(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					at = m.Position
				}
				testenv.Exec(t, testenv.Connect(t, d.url), tt.change)
				for i := range 3 {
					insert(t, d, fmt.Sprintf("new %d", i))
				}
				if !open {
					_ = s.Close(t.Context())
				}
				got := reading(t, d, s, at, 3)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// The sequence can be past the key that was read again before anybody looked.
func TestKeysGivenAgainAndPassed(t *testing.T) {
	t.Parallel()
	for _, open := range []bool{true, false} {
		t.Run(fmt.Sprintf("stream open %t", open), func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			insert(t, d, "old 0")
			insert(t, d, "old 1")
			s, err := d.source().Open(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close(t.Context()) }()
			var at observer.Position
			for range 2 {
				m, err := s.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				at = m.Position
			}
			testenv.Exec(t, testenv.Connect(t, d.url), "TRUNCATE "+logTable+" RESTART IDENTITY;"+
				"INSERT INTO "+logTable+" (object_type, modification_type, entity_key) SELECT 'Order', 'INSERT', 'new ' || n FROM generate_series(1, 4) AS n")
			if open {
				if m, err := s.Next(t.Context()); err == nil {
					t.Fatalf("went on with %s", m.Event.EntityID)
				}
			}
			if diff := cmp.Diff([]string{"new 1", "new 2", "new 3", "new 4"}, entities(t, d, at, 4)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A crash can lose commits that the server did not wait for, and the sequence's
// way with them. The keys come again with other rows; what was read and kept is
// not read again.
func TestSequenceBehindTheLogAfterACrash(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	s, err := d.source().Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	var at observer.Position
	for i := range 40 { // one by one, as each leaves its mark
		insert(t, d, fmt.Sprintf("kept %d", i))
		m, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at = m.Position
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, testenv.Connect(t, d.url), "DELETE FROM "+logTable+" WHERE pk_entity_change_log > 38;"+
		"SELECT setval(pg_get_serial_sequence('"+logTable+"', 'pk_entity_change_log'), 38)")
	insert(t, d, "new 1")
	if diff := cmp.Diff([]string{"new 1"}, entities(t, d, at, 1)); diff != "" {
		t.Error(diff)
	}
}
