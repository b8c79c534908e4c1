package sqlite

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	driver "modernc.org/sqlite"

	observer "github.com/fraiseql/observer"
)

func due(n int, queue, endpoint string, at time.Time) *observer.Delivery {
	d := observer.NewDelivery(&observer.Event{ID: strconv.Itoa(n)}, "notify", 0, "webhook")
	d.State, d.RunAt, d.Queue, d.Endpoint = observer.Queued, at, queue, endpoint
	return d
}

// pages counts the pages that the writer looks at, in memory or not, while f
// runs.
func pages(t *testing.T, s *Store, f func()) int {
	t.Helper()
	count := func(reset bool) (n int) {
		conn, err := s.writer.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // it only returns to the pool
		err = conn.Raw(func(c any) error {
			for _, op := range []driver.DBStatusOp{driver.DBStatusCacheHit, driver.DBStatusCacheMiss} {
				pages, _, err := c.(driver.DBStatus).Status(op, reset)
				if err != nil {
					return err
				}
				n += pages
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	count(true)
	f()
	return count(false)
}

// crowd has n deliveries wait for one endpoint and m behind them in a lane.
func crowd(t *testing.T, s *Store, n, m int) {
	t.Helper()
	queued, parked := due(0, "", "slow", time.Unix(1, 0)), due(1, "", "slow", time.Unix(1, 0))
	first := due(2, "", "slow", time.Unix(1, 0))
	for i, d := range []*observer.Delivery{first, parked} {
		d.Order, d.Event = observer.OrderStrict, &observer.Event{ID: strconv.Itoa(i + 1), EntityID: "x"}
	}
	if _, err := s.InsertDeliveries(t.Context(), queued, first, parked); err != nil {
		t.Fatal(err)
	}
	for key, copies := range map[string]int{queued.Key: n, parked.Key: m} {
		_, err := s.writer.db.ExecContext(t.Context(), `
WITH RECURSIVE number (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < ?2)
INSERT INTO tb_delivery (`+stored+`, due_at, key, created_at, updated_at, lease_owner, lease_until, claims, claimed_at, lost_at)
SELECT `+stored+`, due_at, key || i, created_at, updated_at, '', 0, 0, 0, 0 FROM tb_delivery, number WHERE key = ?1`, key, copies)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.writer.db.ExecContext(t.Context(), `UPDATE tb_delivery SET event_id = key WHERE state = 'parked'`)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What waits for one endpoint, or behind one delivery of a lane, costs the others
// nothing: a claim, an update that releases a lane, and an insert that parks look
// at the same number of pages, but for a deeper tree.
func TestClaimsCostTheSameHoweverManyWait(t *testing.T) {
	t.Parallel()
	many := 100_000
	if testing.Short() || raceDetector {
		many = 10_000
	}
	few, lots := costs(t, 1000), costs(t, many)
	for what, n := range few {
		if lots[what] > 2*n {
			t.Errorf("%s: %d pages with %d waiting, %d with 1000", what, lots[what], many, n)
		}
	}
	t.Logf("pages with 1000 waiting: %v, with %d: %v", few, many, lots)
}

func costs(t *testing.T, waiting int) map[string]int {
	t.Helper()
	s := openStore(t)
	crowd(t, s, waiting, waiting/4)
	for n := range 20 {
		if _, err := s.InsertDeliveries(t.Context(), due(10+n, "", fmt.Sprint("fast ", n), time.Unix(2, 0))); err != nil {
			t.Fatal(err)
		}
	}
	claim := func(limit, want int) []*observer.Delivery {
		ds, err := s.ClaimDue(t.Context(), observer.Claim{Owner: "o", Lease: time.Hour, Limit: limit})
		if err != nil || len(ds) != want {
			t.Fatalf("claimed %d with error %v, want %d", len(ds), err, want)
		}
		return ds
	}
	costs := map[string]int{}
	costs["claim of each endpoint"] = pages(t, s, func() { claim(21, 21) })
	var first *observer.Delivery
	costs["claim of the slow one"] = pages(t, s, func() { first = claim(1, 1)[0] })
	if first.Lane() == "" {
		t.Fatalf("claimed %s, want the one with others behind it", first.Key)
	}
	costs["insert behind others"] = pages(t, s, func() {
		d := due(5000, "", "slow", time.Unix(1, 0))
		d.Order, d.Event.EntityID = observer.OrderStrict, "x"
		if _, err := s.InsertDeliveries(t.Context(), d); err != nil || d.State != observer.Parked {
			t.Fatalf("got state %s and error %v, want parked", d.State, err)
		}
	})
	costs["update that releases"] = pages(t, s, func() {
		first.Succeed()
		if err := s.UpdateDelivery(t.Context(), first, "o"); err != nil {
			t.Fatal(err)
		}
	})
	return costs
}

// With more queues and endpoints than a claim may take, the choice does not look
// at all of them, and is the same as if it did.
func TestClaimsOfManyEndpointsTakeTheLongestDue(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 6 {
		s := openStore(t)
		var ds []*observer.Delivery
		for n := range 120 {
			d := due(n, "", fmt.Sprint("endpoint ", random.IntN(30)), time.Unix(1+random.Int64N(1000), 0))
			d.Priority = random.IntN(5)
			ds = append(ds, d)
		}
		if _, err := s.InsertDeliveries(t.Context(), ds...); err != nil {
			t.Fatal(err)
		}
		for len(ds) > 0 {
			limit := 1 + random.IntN(40)
			want := takeTurns(ds, limit)
			claimed, err := s.ClaimDue(t.Context(), observer.Claim{Owner: "o", Lease: time.Hour, Limit: limit})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range claimed {
				got = append(got, d.Key)
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Fatalf("claimed up to %d (-want +got):\n%s", limit, diff)
			}
			ds = slices.DeleteFunc(ds, func(d *observer.Delivery) bool { return slices.Contains(got, d.Key) })
		}
	}
}

// takeTurns is the choice in the plainest way. ds are in their order of insertion.
func takeTurns(ds []*observer.Delivery, limit int) []string {
	longest := func(a, b *observer.Delivery) int { return a.RunAt.Compare(b.RunAt) }
	byEndpoint := map[string][]*observer.Delivery{}
	for _, d := range ds {
		byEndpoint[d.Endpoint] = append(byEndpoint[d.Endpoint], d)
	}
	var lines [][]*observer.Delivery
	for _, line := range byEndpoint {
		slices.SortStableFunc(line, func(a, b *observer.Delivery) int {
			return cmp.Or(cmp.Or(a.Priority, 2)-cmp.Or(b.Priority, 2), longest(a, b))
		})
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b []*observer.Delivery) int {
		return cmp.Or(longest(a[0], b[0]), slices.Index(ds, a[0])-slices.Index(ds, b[0]))
	})
	var keys []string
	for turn := range ds {
		for _, line := range lines {
			if turn < len(line) && len(keys) < limit {
				keys = append(keys, line[turn].Key)
			}
		}
	}
	return keys
}

func storedBands(t *testing.T, s *Store) string {
	t.Helper()
	var text strings.Builder
	bands, err := readBands(t.Context(), s.read, selectBands)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bands {
		fmt.Fprintf(&text, "%s/%s/%d from %d; ", b.queue, b.endpoint, b.rank, b.dueAt/1_000_000)
	}
	return text.String()
}

// The table of bands tells when the first of each is due, and forgets those that
// are empty, so that it does not grow with every endpoint there ever was.
func TestBandsComeAndGo(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	urgent := due(3, "q", "a", time.Unix(7, 0))
	urgent.Priority = 1
	_, err := s.InsertDeliveries(t.Context(), due(1, "", "a", time.Unix(5, 0)), due(2, "", "a", time.Unix(3, 0)), urgent, letter(9, `{}`))
	if err != nil {
		t.Fatal(err)
	}
	want := func(what, text string) {
		t.Helper()
		if got := storedBands(t, s); got != text {
			t.Errorf("%s: got %q, want %q", what, got, text)
		}
	}
	claim := func(n int) []*observer.Delivery {
		ds, err := s.ClaimDue(t.Context(), observer.Claim{Owner: "o", Lease: time.Hour, Limit: 10})
		if err != nil || len(ds) != n {
			t.Fatalf("claimed %d with error %v, want %d", len(ds), err, n)
		}
		return ds
	}
	want("stored", "/a/2 from 3; q/a/1 from 7; ")
	ds := claim(3)
	for _, d := range ds {
		if d.Succeed(); d.Key == urgent.Key {
			d.Retry(observer.ErrBusy, time.Unix(1<<32, 0))
		}
		if err := s.UpdateDelivery(t.Context(), d, "o"); err != nil {
			t.Fatal(err)
		}
	}
	claim(0)
	want("all but one are done", fmt.Sprintf("q/a/1 from %d; ", 1<<32))
	exec := func(statement string) {
		t.Helper()
		if _, err := s.writer.db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("UPDATE tb_delivery SET run_at = 9000000 WHERE state = 'scheduled'")
	want("a person makes it due", "q/a/1 from 9; ")
	exec("UPDATE tb_delivery SET state = 'queued' WHERE state = 'dead'")
	if ds := claim(2); ds[0].Key != urgent.Key {
		t.Errorf("claimed %s first, want %s", ds[0].Key, urgent.Key)
	}
}
