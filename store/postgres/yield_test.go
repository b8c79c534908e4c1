package postgres_test

import (
	"errors"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// TestChangesYield has changes that are made alone meet a transaction that locks
// in another order what both want. They give way, and are made after it.
func TestChangesYield(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(t *testing.T, s *postgres.Store)
		change  func(t *testing.T, s *postgres.Store) error
		other   string // what the other one wants, which the change has
	}{
		"dead letter close to the cap": {
			func(*testing.T, *postgres.Store) {},
			func(t *testing.T, s *postgres.Store) error {
				t.Helper()
				_, err := s.InsertDeliveries(t.Context(), deadLetter("a"))
				return err
			},
			`INSERT INTO {{schema}}.tb_delivery (key, state, observer, action, action_type, reason, run_at, created_at, updated_at, error, attempts)
VALUES ('a/notify/0', 'done', 'notify', 0, '', '', now(), now(), now(), '', '[]')`,
		},
		"requeue": {
			func(t *testing.T, s *postgres.Store) {
				t.Helper()
				insert(t, s, deadLetter("a"))
			},
			func(t *testing.T, s *postgres.Store) error {
				t.Helper()
				_, err := s.RequeueDelivery(t.Context(), "a/notify/0", time.Now())
				return err
			},
			"UPDATE {{schema}}.tb_delivery SET priority = 3 WHERE key = 'a/notify/0'",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			cfg := config(url + "&application_name=changes")
			cfg.MaxDead = postgres.Margin
			s := opened(t, cfg)
			test.prepare(t, s)
			other, watcher := testenv.Connect(t, url), testenv.Connect(t, url)
			testenv.Exec(t, other, "SET deadlock_timeout = '1 h'") // so that it is not the one to give way
			testenv.Exec(t, other, "BEGIN")
			testenv.Exec(t, other, "SELECT FROM fraiseql_observer.tb_dead_count FOR UPDATE")
			changed := make(chan error, 1)
			go func() { changed <- test.change(t, s) }()
			testenv.Eventually(t, watcher, `
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'changes' AND datname = current_database())`)
			testenv.Exec(t, other, s.SQL(test.other)) // goes on when the change has given way
			testenv.Exec(t, other, "ROLLBACK")
			if err := <-changed; err != nil {
				t.Errorf("got error %v, want it made after the other", err)
			}
			if got := len(keysOf(t, s, observer.DeliveryFilter{})); got != 1 {
				t.Errorf("got %d stored, want 1", got)
			}
		})
	}
}

// A requeue that gave way, and then finds the delivery claimed by somebody, tells
// that and not what it had done before.
func TestRequeueThatGaveWayTellsWhatIs(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url+"&application_name=changes"))
	other, watcher := testenv.Connect(t, url), testenv.Connect(t, url)
	// A dead letter that keeps nobody waiting, and behind it one that is parked and
	// waits for nothing: the requeue has the one when it wants the other.
	dead, gone, parked := strict("1", "7"), strict("2", "7"), strict("3", "7")
	for _, d := range []*observer.Delivery{dead, gone, parked} {
		d.Order = observer.OrderEntity
	}
	dead.State, dead.Attempts = observer.Dead, []observer.Attempt{{Number: 1}}
	insert(t, s, dead, gone, parked)
	testenv.Exec(t, watcher, "DELETE FROM fraiseql_observer.tb_delivery WHERE event_id = '2'")
	testenv.Exec(t, other, "SET deadlock_timeout = '1 h'") // so that it is not the one to give way
	testenv.Exec(t, other, "BEGIN")
	testenv.Exec(t, other, "SELECT FROM fraiseql_observer.tb_delivery WHERE event_id = '3' FOR UPDATE")
	type answer struct {
		state observer.State
		err   error
	}
	told := make(chan answer, 1)
	go func() {
		state, err := s.RequeueDelivery(t.Context(), dead.Key, time.Now())
		told <- answer{state, err}
	}()
	testenv.Eventually(t, watcher, `
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'changes' AND datname = current_database())`)
	testenv.Exec(t, other, "UPDATE fraiseql_observer.tb_delivery SET lease_owner = 'a', lease_until = now() + interval '1 h' WHERE event_id = '1'")
	testenv.Exec(t, other, "COMMIT")
	if got := <-told; !errors.Is(got.err, observer.ErrBusy) {
		t.Errorf("got %q and error %v, want ErrBusy", got.state, got.err)
	}
}
