package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// redriven stores a dead letter that somebody claims, and one that is parked
// behind it, whose key it gives.
func redriven(t *testing.T, s *postgres.Store) (parked string) {
	t.Helper()
	dead, next := strict("1", "7"), strict("2", "7")
	dead.State = observer.Dead
	insert(t, s, dead)
	if _, err := s.ClaimDelivery(t.Context(), dead.Key, "killed", lease); err != nil {
		t.Fatal(err)
	}
	insert(t, s, next)
	return next.Key
}

func wantState(t *testing.T, s *postgres.Store, when, key string, want observer.State) {
	t.Helper()
	if d, err := s.Delivery(t.Context(), key); err != nil || d.State != want {
		t.Errorf("%s: got %v and error %v, want %s", when, d, err, want)
	}
}

// Pruning leaves lanes alone whose dead letters somebody runs: it waits for none of
// them.
func TestPruneLeavesRunningLanesAlone(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	clock := &stillClock{now: time.Now()}
	cfg := config(url)
	cfg.Now = clock.Now
	s := opened(t, cfg)
	parked := redriven(t, s)
	holder := testenv.Connect(t, url)
	holdLanes(t, s, holder)
	prune := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := s.PruneDeliveries(ctx, observer.Retention{}, 10)
		return err
	}
	if err := prune(10 * time.Second); err != nil {
		t.Errorf("while the lease runs, with the lane locked: %v", err)
	}
	clock.advance(lease)
	if err := prune(time.Second); err == nil {
		t.Error("when the lease is over: it does not wait for the lane")
	}
	testenv.Exec(t, holder, "ROLLBACK")
	if err := prune(10 * time.Second); err != nil {
		t.Error(err)
	}
	wantState(t, s, "in the end", parked, observer.Queued)
}

// Lanes that cannot be looked after are no reason to keep what is old.
func TestPruneGoesOnBesideAFailure(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, s *postgres.Store, exec func(string)) (parked string){
		"to end lost claims": func(t *testing.T, s *postgres.Store, _ func(string)) string {
			t.Helper()
			return redriven(t, s)
		},
		"to queue what waits for nothing": func(t *testing.T, s *postgres.Store, exec func(string)) string {
			t.Helper()
			insert(t, s, strict("1", "7"), strict("2", "7"))
			exec("DELETE FROM fraiseql_observer.tb_delivery WHERE event_id = '1'")
			return strict("2", "7").Key
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			conn := testenv.Connect(t, url)
			exec := func(statement string) { testenv.Exec(t, conn, statement) }
			clock := &stillClock{now: time.Now()}
			cfg := config(url)
			cfg.Now = clock.Now
			s := opened(t, cfg)
			insert(t, s, deadLetter("old"))
			parked := prepare(t, s, exec)
			clock.advance(lease + time.Second)
			exec(`
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON fraiseql_observer.tb_delivery FOR EACH ROW EXECUTE FUNCTION refuse()`)
			removed, err := s.PruneDeliveries(t.Context(), observer.Retention{DeadBefore: clock.Now().Add(-lease)}, 10)
			if removed != 1 || err == nil || !strings.Contains(err.Error(), "queue what waits for nothing") || !strings.Contains(err.Error(), "not now") {
				t.Errorf("got %d removed and error %v, want 1 and why no lane could go on", removed, err)
			}
			wantState(t, s, "while it is refused", parked, observer.Parked)
			exec("DROP TRIGGER refuse ON fraiseql_observer.tb_delivery")
			if _, err := s.PruneDeliveries(t.Context(), observer.Retention{}, 10); err != nil {
				t.Error(err)
			}
			wantState(t, s, "when it is allowed again", parked, observer.Queued)
		})
	}
}
