package postgres_test

import (
	"errors"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// waiting are the sessions that wait for a lock.
const waiting = `
SELECT count(*) = $1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'holders' AND datname = current_database()`

func acquire(t *testing.T, s *postgres.Store, holder string, ttl time.Duration) observer.Lease {
	t.Helper()
	l, err := s.AcquireLease(t.Context(), "shop", holder, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A save that has found its lease, and not ended yet, keeps others from taking
// it: they load what it saved.
func TestInvariant5WhoTakesALeaseLoadsWhatIsBeingSaved(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	cfg := config(url + "&application_name=holders")
	clock := &stillClock{now: time.Now()}
	cfg.Now = clock.Now
	s := opened(t, cfg)
	save(t, s, "shop", "1")
	l := acquire(t, s, "a", lease)
	blocker, watcher := testenv.Connect(t, url), testenv.Connect(t, url)
	testenv.Exec(t, blocker, "BEGIN")
	testenv.Exec(t, blocker, "SELECT FROM fraiseql_observer.tb_checkpoint WHERE name = 'shop' FOR UPDATE")
	saved := make(chan error, 1)
	go func() {
		saved <- s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Position: "2", Term: l.Term})
	}()
	testenv.Eventually(t, watcher, waiting, 1)
	clock.advance(lease)
	loaded := make(chan observer.Position, 1)
	go func() {
		defer close(loaded)
		if _, err := s.AcquireLease(t.Context(), "shop", "b", lease); err != nil {
			t.Error(err)
		}
		cp, err := s.LoadCheckpoint(t.Context(), "shop")
		if err != nil {
			t.Error(err)
		}
		loaded <- cp.Position
	}()
	testenv.Eventually(t, watcher, waiting, 2)
	testenv.Exec(t, blocker, "ROLLBACK")
	if err := <-saved; err != nil {
		t.Errorf("save: %v", err)
	}
	if got := <-loaded; got != "2" {
		t.Errorf("who took the lease loaded %q, want what was being saved", got)
	}
	err := s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Position: "3", Term: l.Term})
	if !errors.Is(err, observer.ErrFenced) {
		t.Errorf("a save after that: got error %v, want ErrFenced", err)
	}
}

// Somebody takes a lease of which a save is to find out: it waits, and stores
// nothing.
func TestInvariant5SaveWaitsForWhoTakesItsLease(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url+"&application_name=holders"))
	l := acquire(t, s, "a", lease)
	taker, watcher := testenv.Connect(t, url), testenv.Connect(t, url)
	testenv.Exec(t, taker, "BEGIN")
	testenv.Exec(t, taker, "UPDATE fraiseql_observer.tb_lease SET holder = 'b', term = term + 1")
	saved := make(chan error, 1)
	go func() {
		saved <- s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Position: "2", Term: l.Term})
	}()
	testenv.Eventually(t, watcher, waiting, 1)
	testenv.Exec(t, taker, "COMMIT")
	if err := <-saved; !errors.Is(err, observer.ErrFenced) {
		t.Errorf("save: got error %v, want ErrFenced", err)
	}
	if cp, err := s.LoadCheckpoint(t.Context(), "shop"); !errors.Is(err, observer.ErrNotFound) {
		t.Errorf("stored %+v, error %v", cp, err)
	}
}

// By the clock of the database itself, which all processes share.
func TestLeasesByTheClockOfTheDatabase(t *testing.T) {
	t.Parallel()
	s := opened(t, config(testenv.Database(t)))
	l := acquire(t, s, "a", time.Hour)
	if _, err := s.AcquireLease(t.Context(), "shop", "b", time.Hour); !errors.Is(err, observer.ErrBusy) {
		t.Errorf("b: got error %v, want ErrBusy", err)
	}
	if err := s.ReleaseLease(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	short := acquire(t, s, "a", time.Millisecond)
	<-time.After(10 * time.Millisecond)
	if taken := acquire(t, s, "b", time.Hour); taken.Term <= short.Term || taken.Remaining < time.Hour-time.Minute {
		t.Errorf("b got %+v after term %d", taken, short.Term)
	}
}

// Renewing leaves the index alone.
func TestLeasesLeaveTheIndexAlone(t *testing.T) {
	t.Parallel()
	const times = 500
	url := testenv.Database(t)
	s := open(t, config(url+"&pool_max_conns=1"))
	l := acquire(t, s, "a", lease)
	for range times {
		if held, err := s.RenewLeases(t.Context(), lease, l); err != nil || len(held) != 1 {
			t.Fatalf("held %d, error %v", len(held), err)
		}
		if err := s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Term: l.Term}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil { // sessions report what they did when they end
		t.Fatal(err)
	}
	conn := testenv.Connect(t, url)
	testenv.Eventually(t, conn, "SELECT n_tup_upd >= $1 FROM pg_stat_user_tables WHERE relname = 'tb_lease'", times)
	if hot := testenv.Value[int](t, conn, "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'tb_lease'"); hot < times*9/10 {
		t.Errorf("%d of %d renewals left the index alone, want 90%%", hot, times)
	}
}

// An emptied counter gives no term that was given before.
func TestLeasesWithoutTheirCounter(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	testenv.Exec(t, testenv.Connect(t, url), "DELETE FROM fraiseql_observer.tb_lease_term")
	_, err := s.AcquireLease(t.Context(), "shop", "a", lease)
	wantText(t, "acquire", err, "tb_lease_term has no row")
}
