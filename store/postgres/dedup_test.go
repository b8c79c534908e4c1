package postgres_test

import (
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/deduptest"
	"github.com/fraiseql/observer/store/postgres"
)

func TestDedup(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	deduptest.RunState(t, func(t *testing.T) deduptest.StateSubject {
		t.Helper()
		var passed atomic.Int64
		began := time.Now()
		cfg := postgres.Config{
			URL: observer.NewSecret(url + "&pool_max_conns=3"), Schema: "dedup " + rand.Text(),
			Now: func() time.Time { return began.Add(time.Duration(passed.Load())) },
		}
		s := opened(t, cfg)
		return deduptest.StateSubject{State: s, Subject: deduptest.Subject{
			Store: s, Again: func(t *testing.T) observer.DedupStore { t.Helper(); return opened(t, cfg) },
			Unit: time.Millisecond, Pass: func(d time.Duration) { passed.Add(int64(d)) },
		}}
	})
}

// By the clock of the database itself, which all processes share.
func TestDedupByTheClockOfTheDatabase(t *testing.T) {
	t.Parallel()
	s := opened(t, config(testenv.Database(t)))
	claim := func(owner string, lease time.Duration) observer.DedupStanding {
		t.Helper()
		answer, err := s.ClaimDedup(t.Context(), observer.DedupClaim{Key: "k", Owner: owner}, lease)
		if err != nil {
			t.Fatal(err)
		}
		return answer.Standing
	}
	claim("a", time.Hour)
	if got := claim("b", time.Hour); got != observer.DedupBusy {
		t.Errorf("claim of b is %s", got)
	}
	claim("a", time.Millisecond)
	<-time.After(10 * time.Millisecond)
	if got := claim("b", time.Hour); got != observer.DedupClaimed {
		t.Errorf("claim of b after the lease is %s", got)
	}
}

// A claim that becomes a mark leaves the indexes alone.
func TestMarksLeaveTheIndexesAlone(t *testing.T) {
	t.Parallel()
	const many = 2000
	url := testenv.Database(t)
	s := open(t, config(url+"&pool_max_conns=1"))
	for i := range many {
		key := fmt.Sprintf("0191e8a0-0000-7000-8000-%012d/observer/0", i)
		if _, err := s.ClaimDedup(t.Context(), observer.DedupClaim{Key: key, Owner: "host/1#" + key}, lease); err != nil {
			t.Fatal(err)
		}
		if err := s.FinishDedup(t.Context(), observer.DedupMark{Key: key, Keep: lease}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil { // sessions report what they did when they end
		t.Fatal(err)
	}
	conn := testenv.Connect(t, url)
	testenv.Eventually(t, conn, "SELECT n_tup_upd >= $1 FROM pg_stat_user_tables WHERE relname = 'tb_dedup'", many)
	if hot := testenv.Value[int](t, conn, "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'tb_dedup'"); hot < many*9/10 {
		t.Errorf("%d of %d updates left the indexes alone, want 90%%", hot, many)
	}
}
