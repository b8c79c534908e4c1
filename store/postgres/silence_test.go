package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// behind opens a store whose network the proxy can cut. Its sessions have a name.
func behind(t *testing.T, direct, parameters string) (*postgres.Store, *testenv.Proxy) {
	t.Helper()
	var proxy *testenv.Proxy
	through := changed(t, direct, func(u *url.URL) {
		proxy = testenv.NewProxy(t, u.Host)
		u.Host = proxy.Address
	})
	return opened(t, config(through+"&application_name=holders"+parameters)), proxy
}

// eachCut runs a test with each way in which connections go without a word, and new
// ones can be made.
func eachCut(t *testing.T, test func(t *testing.T, cut func(*testenv.Proxy))) {
	t.Helper()
	t.Run("answers get lost", func(t *testing.T) {
		t.Parallel()
		test(t, (*testenv.Proxy).Cut)
	})
	t.Run("packets get lost", func(t *testing.T) {
		t.Parallel()
		test(t, func(p *testenv.Proxy) { p.Lose(t) })
	})
}

// within bounds a call by what is far more than it should take, and far less than
// all timeouts of the driver take one after the other.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// fill has a pool make all the connections it may have.
func fill(t *testing.T, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	var all []*pgxpool.Conn
	for range pool.Config().MaxConns {
		c, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return func() {
		for _, c := range all {
			c.Release()
		}
	}
}

func TestLeasesAreRenewedWhenConnectionsDieSilently(t *testing.T) {
	t.Parallel()
	eachCut(t, func(t *testing.T, cut func(*testenv.Proxy)) {
		t.Helper()
		s, proxy := behind(t, testenv.Database(t), "")
		l := acquire(t, s, "a", time.Hour)
		for range 3 {
			if held, err := s.RenewLeases(t.Context(), time.Hour, l); err != nil || len(held) != 1 {
				t.Fatalf("renew: %v, %v", held, err)
			}
			cut(proxy)
			// Once, as a holder does it that has a lease of half a minute.
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if held, err := s.RenewLeases(ctx, time.Hour, l); err != nil || len(held) != 1 {
				t.Errorf("renew after the cut: %v, %v", held, err)
			}
			cancel()
		}
	})
}

// All the connections that calls may have are in use. There is one more, and no
// more than were asked for.
func TestRenewalsDoNotWaitForOtherCalls(t *testing.T) {
	t.Parallel()
	direct := testenv.Database(t)
	for parameters, want := range map[string]int{"": 8, "&pool_max_conns=3": 3, "&pool_max_conns=1": 2} {
		s, _ := behind(t, direct, parameters)
		l := acquire(t, s, "a", time.Hour)
		release := fill(t, s.Pool())
		if held, err := s.RenewLeases(within(t), time.Hour, l); err != nil || len(held) != 1 {
			t.Errorf("%q: renew: %v, %v", parameters, held, err)
		}
		testenv.Eventually(t, testenv.Connect(t, direct),
			"SELECT count(*) = $1 FROM pg_stat_activity WHERE application_name = 'holders' AND datname = current_database()", want)
		release()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A server that is slow is asked several times, and each of them may answer: the
// first one is not given up.
func TestRenewalsWaitForASlowServer(t *testing.T) {
	t.Parallel()
	direct := testenv.Database(t)
	s, _ := behind(t, direct, "")
	l := acquire(t, s, "a", time.Hour)
	blocker, watcher := testenv.Connect(t, direct), testenv.Connect(t, direct)
	testenv.Exec(t, blocker, "BEGIN")
	testenv.Exec(t, blocker, "SELECT FROM fraiseql_observer.tb_lease FOR UPDATE")
	renewed := make(chan error, 1)
	go func() {
		_, err := s.RenewLeases(t.Context(), time.Hour, l)
		renewed <- err
	}()
	testenv.Eventually(t, watcher, waiting, 4)
	testenv.Exec(t, blocker, "ROLLBACK")
	if err := <-renewed; err != nil {
		t.Errorf("renew: %v", err)
	}
}

// All idle connections are dead. The first call finds that out, and no other one.
func TestIdleConnectionsDieTogether(t *testing.T) {
	t.Parallel()
	eachCut(t, func(t *testing.T, cut func(*testenv.Proxy)) {
		t.Helper()
		direct := testenv.Database(t)
		// That many connections take far too long one after the other.
		s, proxy := behind(t, direct, "&pool_max_conns=20")
		fill(t, s.Pool())()
		testenv.Eventually(t, testenv.Connect(t, direct), `
SELECT count(*) >= 19 FROM pg_stat_activity
WHERE application_name = 'holders' AND datname = current_database() AND state_change < clock_timestamp() - interval '1.2 seconds'`)
		cut(proxy)
		ctx := within(t)
		for i := range 3 {
			if err := s.SaveCheckpoint(ctx, "shop", observer.Checkpoint{Position: position(int64(i))}); err != nil {
				t.Errorf("save %d: %v", i, err)
			}
			if _, err := s.InsertDeliveries(ctx, deadLetter(string(position(int64(i))))); err != nil {
				t.Errorf("insert %d: %v", i, err)
			}
		}
	})
}

// The only connection there may be is dead: after the call that found it dead
// another one is made, soon.
func TestDeadConnectionFreesItsPlace(t *testing.T) {
	t.Parallel()
	eachCut(t, func(t *testing.T, cut func(*testenv.Proxy)) {
		t.Helper()
		s, proxy := behind(t, testenv.Database(t), "&pool_max_conns=1")
		save(t, s, "shop", "1")
		cut(proxy)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := s.LoadCheckpoint(ctx, "shop"); err == nil {
			t.Error("load over a dead connection: got no error")
		}
		if _, err := s.LoadCheckpoint(within(t), "shop"); err != nil {
			t.Errorf("load: %v", err)
		}
	})
}

// saveThatWaits has the server work on saving position 2 of the shop, over one of
// all the connections there may be, until goOn is called.
func saveThatWaits(ctx context.Context, t *testing.T, direct string, s *postgres.Store) (saved <-chan error, goOn func()) {
	t.Helper()
	fill(t, s.Pool())()
	blocker := testenv.Connect(t, direct)
	testenv.Exec(t, blocker, "BEGIN")
	testenv.Exec(t, blocker, "SELECT FROM fraiseql_observer.tb_checkpoint FOR UPDATE")
	ended := make(chan error, 1)
	go func() { ended <- s.SaveCheckpoint(ctx, "shop", observer.Checkpoint{Position: "2"}) }()
	testenv.Eventually(t, testenv.Connect(t, direct), waiting, 1)
	return ended, func() { testenv.Exec(t, blocker, "ROLLBACK") }
}

// The server does what it was asked to do, and its answer gets lost.
func TestLostAnswersAreNotAwaited(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// lose: the packets get lost, too
		lose bool
		// others find out that connections are dead
		others bool
	}{
		"others get none either": {false, true},
		"packets get lost":       {true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := testenv.Database(t)
			s, proxy := behind(t, direct, "")
			save(t, s, "shop", "1")
			ctx := within(t)
			saved, goOn := saveThatWaits(ctx, t, direct, s)
			if proxy.Cut(); test.lose {
				proxy.Lose(t)
			}
			goOn()
			if test.others {
				short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				_, _ = s.LoadCheckpoint(short, "shop")
				cancel()
			}
			if err := <-saved; !errors.Is(err, postgres.ErrConnect) {
				t.Errorf("got error %v, want one that matches ErrConnect", err)
			}
			if cp, err := s.LoadCheckpoint(within(t), "shop"); err != nil || cp.Position != "2" {
				t.Errorf("stored %v, error %v", cp, err)
			}
		})
	}
}

// One connection is dead. The server still works on what came over another one.
func TestAnswersThatTakeTimeAreAwaited(t *testing.T) {
	t.Parallel()
	direct := testenv.Database(t)
	s, proxy := behind(t, direct, "")
	save(t, s, "shop", "1")
	saved, goOn := saveThatWaits(t.Context(), t, direct, s)
	proxy.Mute("unheard")
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.LoadCheckpoint(short, "unheard"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("load over a dead connection: got error %v", err)
	}
	select { // until the server was asked about it
	case err := <-saved:
		t.Fatalf("save: ended with %v before the server did", err)
	case <-time.After(postgres.Grace * 5 / 3):
	}
	goOn()
	if err := <-saved; err != nil {
		t.Errorf("save: %v", err)
	}
}

// Nothing goes through for a while, new connections neither.
func TestRenewalsGoOnAfterTheNetwork(t *testing.T) {
	t.Parallel()
	s, proxy := behind(t, testenv.Database(t), "")
	l := acquire(t, s, "a", time.Hour)
	renew := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := s.RenewLeases(ctx, time.Hour, l)
		return err
	}
	if err := renew(time.Minute); err != nil {
		t.Fatal(err)
	}
	proxy.Mute("\x00")
	if err := renew(3 * time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("renew without a network: got error %v", err)
	}
	proxy.Pass()
	if err := renew(10 * time.Second); err != nil {
		t.Errorf("renew: %v", err)
	}
}
