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

// saving is a change that saves a checkpoint, in two statements, and answers.
func saving(name string, answer error) *operation {
	return &operation{reply: make(chan error, 1), run: func(tx *session) error {
		for range 2 {
			if _, err := tx.exec(saveCheckpoint, name, "", "null", 1); err != nil {
				return err
			}
		}
		return answer
	}}
}

// A batch in which one change fails must not take the others with it, nor
// tell one of them that it is stored when it is not. What answers with an error
// leaves nothing behind.
func TestOneFailureInABatchIsItsOwn(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, answers := range map[string][]error{
		"an answer":               {nil, observer.ErrBusy, nil},
		"only an answer":          {observer.ErrFull},
		"answers only":            {observer.ErrBusy, observer.ErrFull},
		"a failure":               {nil, broken, nil},
		"a failure and an answer": {nil, broken, nil, observer.ErrNotFound, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			var batch []*operation
			for i, answer := range answers {
				batch = append(batch, saving(strconv.Itoa(i), answer))
			}
			keepAway(t, s)
			s.writer.commit(t.Context(), batch)
			all, err := s.Checkpoints(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range answers {
				if got := <-batch[i].reply; !errors.Is(got, want) || (got == nil) != (want == nil) {
					t.Errorf("change %d: got error %v, want %v", i, got, want)
				}
				if _, stored := all[strconv.Itoa(i)]; stored != (want == nil) {
					t.Errorf("change %d: stored is %t, and its answer %v", i, stored, want)
				}
			}
		})
	}
}

// A change is not made after its caller went away, also when others share its
// transaction.
func TestNothingIsChangedForWhoWentAway(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	batch := []*operation{saving("a", nil), saving("gone", nil), saving("b", nil)}
	batch[1].taken.Store(true)
	keepAway(t, s)
	s.writer.commit(t.Context(), batch)
	all, err := s.Checkpoints(t.Context())
	if _, stored := all["gone"]; err != nil || stored || len(all) != 2 {
		t.Errorf("got %v and error %v, want a and b", all, err)
	}
}

// keepAway returns when the loop of the writer has nothing to do, so that a test
// may use its connection.
func keepAway(t *testing.T, s *Store) {
	t.Helper()
	done := make(chan struct{})
	op := &operation{reply: make(chan error, 1), run: func(*session) error { <-done; return nil }}
	s.writer.ops <- op
	close(done)
	if err := <-op.reply; err != nil {
		t.Fatal(err)
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
