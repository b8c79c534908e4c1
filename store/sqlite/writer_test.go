package sqlite

import (
	"database/sql"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	observer "github.com/fraiseql/observer"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "state.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func pragma(t *testing.T, s *Store, text string) {
	t.Helper()
	if _, err := s.writer.db.ExecContext(t.Context(), "PRAGMA "+text); err != nil {
		t.Fatal(err)
	}
}

func letter(n int, data string) *observer.Delivery {
	e := &observer.Event{ID: strconv.Itoa(n), Operation: observer.Insert, Data: json.RawMessage(data)}
	d := observer.NewDelivery(e, "notify", 0, "webhook")
	d.State = observer.Dead
	return d
}

func TestFailuresOfTheDisk(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ damage, mend, want string }{
		"full":      {"max_page_count=1", "max_page_count=1000000", "free space on its disk"},
		"read-only": {"query_only=1", "query_only=0", "write permission"},
	} {
		s := openStore(t)
		if _, err := s.InsertDeliveries(t.Context(), letter(1, `{}`)); err != nil {
			t.Fatal(err)
		}
		pragma(t, s, test.damage)
		big := letter(2, `"`+strings.Repeat("x", 1<<20)+`"`)
		_, err := s.InsertDeliveries(t.Context(), big)
		if err == nil || !strings.Contains(err.Error(), s.path) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want one with %q and the file", name, err, test.want)
		}
		stats, err := s.DeliveryStats(t.Context())
		if n := stats.States[observer.Dead]; err != nil || n != 1 {
			t.Errorf("%s: got %d dead letters and error %v, want 1", name, n, err)
		}
		pragma(t, s, test.mend)
		if _, err := s.InsertDeliveries(t.Context(), big); err != nil {
			t.Errorf("%s: after mending: %v", name, err)
		}
	}
}

// A batch in which one change fails must not take the others with it, nor
// tell one of them that it is stored when it is not.
func TestOneFailureInABatchIsItsOwn(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	batch := make([]*operation, 5)
	broken := errors.New("broken")
	for i := range batch {
		batch[i] = &operation{reply: make(chan error, 1), run: func(tx *session) error {
			if _, err := tx.exec(saveCheckpoint, strconv.Itoa(i), "", "null", 1); err != nil {
				return err
			}
			switch i {
			case 1:
				return broken
			case 3:
				return observer.ErrBusy
			}
			return nil
		}}
	}
	batch[4].taken.Store(true) // its caller went away
	done := make(chan struct{})
	op := &operation{reply: make(chan error, 1), run: func(*session) error { <-done; return nil }}
	s.writer.ops <- op // keep the loop out of the connection
	go close(done)
	if err := <-op.reply; err != nil {
		t.Fatal(err)
	}
	s.writer.commit(t.Context(), batch)
	for i, want := range []error{nil, broken, nil, observer.ErrBusy} {
		if got := <-batch[i].reply; !errors.Is(got, want) || (got == nil) != (want == nil) {
			t.Errorf("change %d: got error %v, want %v", i, got, want)
		}
	}
	all, err := s.Checkpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"0": true, "1": false, "2": true, "3": false, "4": false} {
		if _, got := all[name]; got != want {
			t.Errorf("change %s stored: got %t, want %t", name, got, want)
		}
	}
}

// What a change finds stays so until it commits, whatever other processes do:
// nobody else begins to write after it began.
func TestAChangeHasTheLockBeforeItReads(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	other, err := sql.Open("sqlite", s.path+"?_busy_timeout=1")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close() //nolint:errcheck // it changed nothing
	err = s.writer.do(t.Context(), func(*session) error {
		_, err := other.ExecContext(t.Context(), "BEGIN IMMEDIATE")
		return err
	})
	if !isBusy(err) {
		t.Errorf("another writer: got error %v, want busy", err)
	}
}

// Whoever waits while a change is being made shares the next commit.
func TestConcurrentChangesShareCommits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t)
		var transactions []*session // of each change; only the writer appends
		release := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				err := s.writer.do(t.Context(), func(tx *session) error {
					<-release
					transactions = append(transactions, tx)
					_, err := tx.exec(saveCheckpoint, strconv.Itoa(i), "", "null", 1)
					return err
				})
				if err != nil {
					t.Errorf("change %d: %v", i, err)
				}
			})
		}
		synctest.Wait() // a first change is being made, with those that came before it began; the others wait
		close(release)
		wg.Wait()
		if n := len(slices.Compact(transactions)); len(transactions) != 20 || n > 2 {
			t.Errorf("got %d changes in %d transactions, want 20 in 2 at most", len(transactions), n)
		}
		all, err := s.Checkpoints(t.Context())
		if err != nil || len(all) != 20 {
			t.Errorf("got %d checkpoints and error %v, want 20", len(all), err)
		}
	})
}

func TestTheDurabilityOfTheDoc(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2"} {
		var got string
		if err := s.writer.db.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %q and error %v, want %s", name, got, err, want)
		}
	}
}
