package postgres_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// underOldSnapshot is a store with a clock that stands still, one connection and
// deliveries to run, while somebody holds a snapshot: nothing that changes is
// ever cleaned up.
type underOldSnapshot struct {
	*postgres.Store
	clock *stillClock
	old   pgx.Tx
}

type stillClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *stillClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *stillClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newUnderOldSnapshot(t testing.TB, url string) *underOldSnapshot {
	t.Helper()
	u := &underOldSnapshot{clock: &stillClock{now: time.Now()}}
	cfg := config(url + "&pool_max_conns=1")
	cfg.Now = u.clock.Now
	u.Store = opened(t, cfg)
	tx, err := testenv.Connect(t, url).BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), u.SQL("SELECT count(*) FROM {{schema}}.tb_delivery")); err != nil {
		t.Fatal(err)
	}
	u.old = tx
	return u
}

// pages is how many pages of the deliveries and their indexes were touched by
// now. What the session noted goes to the statistics first.
func (u *underOldSnapshot) pages(t testing.TB) (n int64) {
	t.Helper()
	if _, err := u.Pool().Exec(t.Context(), "SELECT pg_stat_force_next_flush()"); err != nil {
		t.Skip("this PostgreSQL cannot say at once what was read: ", err)
	}
	err := u.Pool().QueryRow(t.Context(), `
SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read FROM pg_statio_user_tables WHERE relname = 'tb_delivery'`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// costs are the pages that each claim touched, and each look for what is next.
type costs struct{ claims, nexts []int64 }

// run claims and finishes n deliveries in batches, and adds what that cost.
func (u *underOldSnapshot) run(t testing.TB, c *costs, n, batch int) {
	t.Helper()
	for n > 0 {
		u.clock.advance(10 * time.Millisecond)
		before := u.pages(t)
		ds, err := u.ClaimDue(t.Context(), observer.Claim{Owner: "a", Lease: lease, Limit: batch})
		if err != nil || len(ds) != min(batch, n) {
			t.Fatalf("claimed %d with error %v, want %d", len(ds), err, min(batch, n))
		}
		c.claims = append(c.claims, u.pages(t)-before)
		n -= len(ds)
		var wg sync.WaitGroup
		for _, d := range ds {
			wg.Go(func() {
				d.Succeed()
				if err := u.UpdateDelivery(t.Context(), d, "a"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		before = u.pages(t)
		if next, err := u.NextDue(t.Context(), nil); err != nil || next.IsZero() && n > 0 {
			t.Fatalf("next due: got %s and error %v with %d left", next, err, n)
		}
		c.nexts = append(c.nexts, u.pages(t)-before)
	}
}

// fill stores n deliveries that are due one after the other, the last one now.
func (u *underOldSnapshot) fill(t testing.TB, from, n int) {
	t.Helper()
	for ; n > 0; n -= 1000 {
		ds := jobs(from, min(n, 1000))
		for i, d := range ds {
			d.RunAt = u.clock.Now().Add(time.Duration(i-n) * time.Millisecond)
		}
		insert(t, u.Store, ds...)
		from += len(ds)
	}
}

// wantFlat compares what was touched in the middle of the beginning and of the
// end. A few look from the very beginning, and may touch everything.
func wantFlat(t testing.TB, what string, pages []int64) {
	t.Helper()
	tenth := len(pages) / 10
	first, last := slices.Clone(pages[tenth:2*tenth]), slices.Clone(pages[len(pages)-tenth:])
	slices.Sort(first)
	slices.Sort(last)
	early, late := first[tenth/2], last[tenth/2]
	t.Logf("%s: %d pages at the beginning, %d at the end", what, early, late)
	if late > 2*early+1000 {
		t.Errorf("%s: touches %d pages at the beginning and %d at the end, want a flat cost", what, early, late)
	}
}

// TestClaimCostIsFlatUnderAnOldSnapshot works a backlog off, and then deliveries
// as they come.
func TestClaimCostIsFlatUnderAnOldSnapshot(t *testing.T) {
	t.Parallel()
	const n, batch = 30_000, 150
	u := newUnderOldSnapshot(t, testenv.Database(t))
	u.fill(t, 0, n)
	var backlog, coming costs
	u.run(t, &backlog, n, batch)
	for i := range 100 {
		u.fill(t, n+i*batch, batch)
		u.run(t, &coming, batch, batch)
		u.clock.advance(100 * time.Millisecond)
	}
	wantFlat(t, "claims from a backlog", backlog.claims)
	wantFlat(t, "next of a backlog", backlog.nexts)
	wantFlat(t, "claims as they come", coming.claims)
	wantFlat(t, "next as they come", coming.nexts)
	wantFlat(t, "pruning", u.prune(t, n+100*batch, batch))
	if err := u.old.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// prune removes n finished deliveries in batches, and gives the pages that each
// touched.
func (u *underOldSnapshot) prune(t testing.TB, n, batch int) (pages []int64) {
	t.Helper()
	until := observer.Retention{DoneBefore: u.clock.Now().Add(time.Minute)}
	for ; n > 0; n -= batch {
		u.clock.advance(10 * time.Millisecond)
		before := u.pages(t)
		if removed, err := u.PruneDeliveries(t.Context(), until, batch); err != nil || removed != batch {
			t.Fatalf("pruned %d with error %v, want %d", removed, err, batch)
		}
		pages = append(pages, u.pages(t)-before)
	}
	return pages
}

// BenchmarkClaimUnderOldSnapshot is the same with as many deliveries as wanted:
//
//	go test -run xxx -bench ClaimUnderOldSnapshot -benchtime 1000000x ./store/postgres
func BenchmarkClaimUnderOldSnapshot(b *testing.B) {
	const batch = 100
	u := newUnderOldSnapshot(b, testenv.PrivatePostgres(b, testenv.Options{}).Database(b))
	u.fill(b, 0, b.N)
	var c costs
	var first time.Duration
	b.ResetTimer()
	for part := range 10 {
		started := time.Now()
		u.run(b, &c, b.N*(part+1)/10-b.N*part/10, batch)
		switch took := time.Since(started); part {
		case 0:
			first = took
		case 9:
			b.ReportMetric(took.Seconds()/first.Seconds(), "last/first-tenth")
		}
	}
	b.StopTimer()
	if len(c.claims) >= 100 {
		wantFlat(b, "claims", c.claims)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}
