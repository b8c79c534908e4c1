package postgres_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// TestOutageHeals kills the server in the middle of writing: what was
// acknowledged is there afterwards, calls during the outage fail and say why,
// and the same store goes on when the server is back.
func TestOutageHeals(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{"synchronous_commit": "off", "wal_writer_delay": "10s"}})
	s := opened(t, config(server.URL()))
	var acknowledged atomic.Int64
	broken := make(chan error)
	go func() {
		for n := int64(1); ; n++ {
			err := s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Position: position(n)})
			if err == nil {
				_, err = s.InsertDeliveries(t.Context(), deadLetter(string(position(n))))
			}
			if err != nil {
				broken <- err
				return
			}
			if acknowledged.Add(1) == 100 {
				broken <- nil
			}
		}
	}()
	if err := <-broken; err != nil {
		t.Fatal(err)
	}
	server.Kill(t)
	wantOutage(t, <-broken)
	_, err := s.LoadCheckpoint(t.Context(), "shop")
	wantOutage(t, err)
	server.Start(t)
	n := acknowledged.Load()
	cp, err := s.LoadCheckpoint(t.Context(), "shop")
	if err != nil || cp.Position != position(n) && cp.Position != position(n+1) {
		t.Errorf("got %v and error %v, want position %d or the one after it", cp, err, n)
	}
	for i := int64(1); i <= n; i++ {
		if _, err := s.Delivery(t.Context(), deadLetter(string(position(i))).Key); err != nil {
			t.Errorf("acknowledged before the outage: %v", err)
		}
	}
	save(t, s, "shop", "healed")
}

func position(n int64) observer.Position { return observer.Position(strconv.FormatInt(n, 10)) }

func wantOutage(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, postgres.ErrConnect) {
		t.Errorf("got error %v, want one that matches ErrConnect", err)
	}
	wantText(t, "during the outage", err, "database postgres on 127.0.0.1:")
}

// TestClosedConnectionsAreReplaced is what a restart looks like to an idle
// store, and a firewall that forgets connections.
func TestClosedConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url+"&application_name=victim"))
	conn := testenv.Connect(t, url)
	for i := range 3 {
		save(t, s, "shop", "1")
		testenv.Exec(t, conn, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'victim'")
		if err := s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Position: "2"}); err != nil && !errors.Is(err, postgres.ErrConnect) {
			t.Errorf("round %d: got error %v, want none or one that matches ErrConnect", i, err)
		}
		save(t, s, "shop", "3")
	}
}

// TestWhatWasGivenUpIsNotDoneLater holds up a change until its caller has given
// up: its transaction has been sent whole by then.
func TestWhatWasGivenUpIsNotDoneLater(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	save(t, s, "shop", "1")
	holder, watcher := testenv.Connect(t, url), testenv.Connect(t, url)
	testenv.Exec(t, holder, "BEGIN")
	testenv.Exec(t, holder, "SELECT FROM fraiseql_observer.tb_checkpoint FOR UPDATE")
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() { given <- s.SaveCheckpoint(ctx, "shop", observer.Checkpoint{Position: "given up"}) }()
	testenv.Eventually(t, watcher, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())")
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	testenv.Eventually(t, watcher, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())")
	testenv.Exec(t, holder, "ROLLBACK")
	if cp, err := s.LoadCheckpoint(t.Context(), "shop"); err != nil || cp.Position != "1" {
		t.Errorf("got %v and error %v, want position 1", cp, err)
	}
	save(t, s, "shop", "2")
}

func TestSilenceIsAnOutage(t *testing.T) {
	t.Parallel()
	s := opened(t, config(testenv.Database(t)))
	err := s.Bounded(t.Context(), 50*time.Millisecond, func(ctx context.Context) error {
		_, err := s.Pool().Exec(ctx, "SELECT pg_sleep(60)")
		return err
	})
	wantText(t, "call", err, "no answer within 50ms", "pg_stat_activity")
	if !errors.Is(err, postgres.ErrConnect) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want ErrConnect and not that of a context", err)
	}
}

func TestErrorsOfTheServer(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	s := opened(t, config(url))
	for _, test := range []struct{ damage, repair, want string }{
		{"ALTER TABLE fraiseql_observer.tb_checkpoint RENAME TO gone", "ALTER TABLE fraiseql_observer.gone RENAME TO tb_checkpoint", "fraiseql-observer migrate"},
		{"CREATE RULE nothing AS ON INSERT TO fraiseql_observer.tb_checkpoint DO INSTEAD NOTHING", "DROP RULE nothing ON fraiseql_observer.tb_checkpoint", "stored 0 rows instead of 1"},
		{"ALTER TABLE fraiseql_observer.tb_checkpoint ADD CHECK (position <> '2') NOT VALID", "ALTER TABLE fraiseql_observer.tb_checkpoint DROP CONSTRAINT tb_checkpoint_position_check", "SQLSTATE 23514"},
	} {
		testenv.Exec(t, conn, test.damage)
		wantText(t, "save after "+test.damage, s.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Position: "2"}), "save checkpoint shop", "database test_", test.want)
		testenv.Exec(t, conn, test.repair)
		save(t, s, "shop", "3")
	}
}

func TestStandbyIsRefused(t *testing.T) {
	t.Parallel()
	primary := testenv.PrivatePostgres(t, testenv.Options{})
	s := opened(t, config(primary.URL()))
	save(t, s, "shop", "1")
	standby := primary.Standby(t, testenv.Options{})
	standby.CatchUp(t, primary)
	wantText(t, "open a standby", refused(t, config(standby.URL())), "standby", "127.0.0.1")
	cfg := config(standby.URL())
	cfg.ReadOnly = true
	if cp, err := opened(t, cfg).LoadCheckpoint(t.Context(), "shop"); err != nil || cp.Position != "1" {
		t.Errorf("look at a standby: got %v and error %v, want position 1", cp, err)
	}
}
