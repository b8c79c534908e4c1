package postgres_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// sleepers counts the sessions of this database that hold the wake-up lock as a
// listener that sleeps does.
const sleepers = `SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
 WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.granted`

// wakers counts the transactions of this database that keep a listener awake.
const wakers = `SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
 WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.mode = 'ShareLock' AND l.granted`

const insertOrder = `INSERT INTO ` + logTable + ` (object_type, modification_type, entity_key) VALUES ('Order', 'INSERT', $1)`

// insert commits a change of an entity.
func (d *database) insert(t testing.TB, entity string) {
	t.Helper()
	if _, err := d.Exec(t.Context(), insertOrder, entity); err != nil {
		t.Fatal(err)
	}
}

func (d *database) count(t testing.TB, query string, args ...any) (n int64) {
	t.Helper()
	if err := d.QueryRow(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%.200s: %v", query, err)
	}
	return n
}

// asleep waits until a listener sleeps.
func (d *database) asleep(t testing.TB) {
	t.Helper()
	eventually(t, "the listener sleeps", func() bool { return d.count(t, sleepers) == 1 })
}

// notifications counts what is sent on the channel until the test ends.
func (d *database) notifications(t testing.TB) *atomic.Int64 {
	t.Helper()
	cfg, err := pgx.ParseConfig(d.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "LISTEN "+changelog.Channel); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := conn.WaitForNotification(ctx); err != nil {
				return
			}
			n.Add(1)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = conn.Close(context.WithoutCancel(ctx))
	})
	return &n
}

func TestNotificationWakesTheSleeper(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	sent := d.notifications(t)
	r := follow(t, postgres.New(d.config()), "")
	for i := range 20 {
		d.asleep(t)
		insert(t, d, strconv.Itoa(i))
		if got := r.next(t); got != strconv.Itoa(i) {
			t.Fatalf("got %s, want %d", got, i)
		}
	}
	eventually(t, "20 notifications", func() bool { return sent.Load() == 20 })
}

// A commit may fall into any moment of falling asleep and waking up: the gaps lie
// around the time after which the listener tries to sleep. The interval is an
// hour, so that only a notification or a listener that is awake finds the row.
func TestNoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	rows := 1500
	if testing.Short() {
		rows = 200
	}
	d := newDatabase(t)
	r := follow(t, postgres.New(d.config()), "")
	conn := testenv.Connect(t, d.url)
	gaps := rand.New(rand.NewPCG(1, 2))
	for i := range rows {
		insert(t, conn, strconv.Itoa(i))
		if got := r.next(t); got != strconv.Itoa(i) {
			t.Fatalf("got %s, want %d", got, i)
		}
		wait(t, time.Duration(gaps.Int64N(int64(10*time.Millisecond))))
	}
}

// Many writers at once, among them some that take their time and some that roll
// back, and pauses in which the listener goes to sleep.
func TestNoWakeUpIsLostAmongWriters(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	r := follow(t, postgres.New(d.config()), "")
	const writers, rounds = 4, 60
	errs := make(chan error, writers)
	for w := range writers {
		go func() { errs <- d.writeInRounds(t.Context(), w, rounds) }()
	}
	got := map[string]bool{}
	for len(got) < writers*rounds {
		got[r.next(t)] = true
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func (d *database) writeInRounds(ctx context.Context, writer, rounds int) error {
	random := rand.New(rand.NewPCG(uint64(writer), 7))
	for i := range rounds {
		err := pgx.BeginFunc(ctx, d, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, insertOrder, fmt.Sprintf("%d/%d", writer, i))
			if err == nil && random.IntN(3) == 0 {
				_, err = tx.Exec(ctx, "SELECT pg_sleep($1)", random.Float64()/50)
			}
			return err
		})
		if err == nil && random.IntN(4) == 0 {
			_, err = d.Exec(ctx, `BEGIN; INSERT INTO `+logTable+` (object_type, modification_type, entity_key) VALUES ('Order', 'INSERT', 'no'); ROLLBACK`)
		}
		if err == nil {
			_, err = d.Exec(ctx, "SELECT pg_sleep($1)", random.Float64()/40)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keepAwake begins a transaction whose insert keeps the listener from falling
// asleep until it ends.
func (d *database) keepAwake(t *testing.T) pgx.Tx {
	t.Helper()
	var tx pgx.Tx
	eventually(t, "a writer finds the listener awake", func() bool {
		d.insert(t, "wakes it") // what notifies is not what keeps it awake
		var err error
		if tx, err = d.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), insertOrder, "keeps it awake"); err != nil {
			t.Fatal(err)
		}
		if d.count(t, wakers) == 1 {
			return true
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		return false
	})
	return tx
}

// Writers do not notify a listener that is awake, however many they are, and one
// of them that stays keeps it awake.
func TestNoNotificationUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	r := follow(t, postgres.New(d.config()), "")
	d.asleep(t)
	open := d.keepAwake(t)
	sent := d.notifications(t)
	const writers, each = 4, 500
	errs := make(chan error, writers)
	for range writers {
		go func() {
			var err error
			for i := 0; i < each && err == nil; i++ {
				_, err = d.Exec(t.Context(), insertOrder, "load")
			}
			errs <- err
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for arrived := 0; arrived < writers*each; {
		if r.next(t) == "load" {
			arrived++
		}
	}
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.next(t); got != "keeps it awake" {
		t.Errorf("arrived %q", got)
	}
	d.asleep(t)
	d.insert(t, "the only one to notify")
	eventually(t, "a notification has come", func() bool { return sent.Load() > 0 })
	if n := sent.Load(); n != 1 {
		t.Errorf("%d notifications for %d commits, of which one found the listener asleep", n, writers*each+2)
	}
}

// An idle listener asks less than twice a second, with the interval that is the
// default.
func TestIdleListenerAsksSeldom(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	cfg, asked := d.through(t)
	cfg.PollInterval = time.Second
	follow(t, postgres.New(cfg), "")
	d.asleep(t)
	wait(t, 100*time.Millisecond)
	if rate := asked.rate(t, 4*time.Second); rate >= 2 || rate == 0 {
		t.Errorf("%.2f statements a second", rate)
	} else {
		t.Logf("%.2f statements a second", rate)
	}
}

// While a writer keeps its transaction open nobody will tell of a commit. The
// listener keeps looking, and not faster and faster.
func TestWriterThatTakesItsTime(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	cfg, asked := d.through(t)
	r := follow(t, postgres.New(cfg), "")
	insert(t, d, "first")
	r.next(t)
	conn := testenv.Connect(t, d.url)
	testenv.Exec(t, conn, "BEGIN")
	eventually(t, "the writer got the lock", func() bool { // it does while the listener is awake
		testenv.Exec(t, conn, "SAVEPOINT s")
		insert(t, conn, "slow")
		insert(t, d, "other")
		r.next(t)
		got := d.count(t, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND pid = $1", conn.PgConn().PID()) > 0
		if !got {
			testenv.Exec(t, conn, "ROLLBACK TO s")
		}
		return got
	})
	wait(t, 100*time.Millisecond)
	rate := asked.rate(t, 2*time.Second)
	// Each 25 ms a poll, the holders of the lock because of the hole, and a look at
	// the sequence; and ten tries to sleep.
	if rate > 130 || rate < 20 {
		t.Errorf("%.0f statements a second", rate)
	}
	testenv.Exec(t, conn, "COMMIT")
	if got := r.next(t); got != "slow" {
		t.Errorf("got %s", got)
	}
}

// Only one listener can hold the lock; the other one hears what it hears, and
// notices when it has gone.
func TestTwoListeners(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	cfg, asked := d.through(t)
	name := func(name string) *follower {
		named := cfg
		named.URL = observer.NewSecret(cfg.URL.Reveal() + "&application_name=" + name)
		return follow(t, postgres.New(named), "")
	}
	followers := map[string]*follower{"one": name("one"), "two": name("two")}
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 150 {
		insert(t, d, strconv.Itoa(i))
		for who, r := range followers {
			if got := r.next(t); got != strconv.Itoa(i) {
				t.Fatalf("%s got %s, want %d", who, got, i)
			}
		}
		wait(t, time.Duration(random.Int64N(int64(60*time.Millisecond))))
	}
	d.asleep(t)
	wait(t, 100*time.Millisecond)
	if rate := asked.rate(t, 5*time.Second); rate >= 2 || rate == 0 {
		t.Errorf("%.2f statements a second of two idle listeners", rate)
	}
	var sleeper string
	err := d.QueryRow(t.Context(), "SELECT application_name FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock') AND application_name IN ('one', 'two') AND datname = current_database()").Scan(&sleeper)
	if err != nil {
		t.Fatal(err)
	}
	followers[sleeper].stop()
	delete(followers, sleeper)
	insert(t, d, "the sleeper has gone")
	for _, r := range followers {
		if got := r.next(t); got != "the sleeper has gone" {
			t.Errorf("got %s", got)
		}
	}
	d.asleep(t)
}

// Others may use the channel: a listener that hears of a log it does not read
// keeps sleeping, does not spin, and forgets what it heard.
func TestNotificationsOfOthers(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	cfg, asked := d.through(t)
	r := follow(t, postgres.New(cfg), "")
	d.asleep(t)
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan int)
	go func() {
		n := 0
		for ctx.Err() == nil {
			if _, err := d.Exec(ctx, "SELECT pg_notify('"+changelog.Channel+"', 'another log')"); err == nil {
				n++
			}
		}
		sent <- n
	}()
	wait(t, 100*time.Millisecond)
	// Each 25 ms a poll and a look at the sequence.
	if rate := asked.rate(t, time.Second); rate > 90 || rate < 10 {
		t.Errorf("%.0f statements a second during the noise", rate)
	}
	insert(t, d, "mine")
	if got := r.next(t); got != "mine" {
		t.Errorf("got %s", got)
	}
	cancel()
	if n := <-sent; n < 100 {
		t.Fatalf("only %d notifications", n)
	}
	d.asleep(t)
	wait(t, 100*time.Millisecond)
	if rate := asked.rate(t, 2*time.Second); rate >= 2 {
		t.Errorf("%.2f statements a second after the noise", rate)
	}
}

// PostgreSQL refuses to prepare a transaction that has notified.
func TestPrepareNeverFails(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{Settings: map[string]string{"max_prepared_transactions": "20"}})
	d := migrated(t, server.Database(t))
	cfg := d.config()
	cfg.PollInterval = 100 * time.Millisecond
	r := follow(t, postgres.New(cfg), "")
	conn := testenv.Connect(t, d.url)
	for i := range 40 {
		if i%4 == 0 { // long enough to sleep
			wait(t, 50*time.Millisecond)
		}
		id := strconv.Itoa(i)
		testenv.Exec(t, conn, "BEGIN")
		insert(t, conn, id)
		testenv.Exec(t, conn, "PREPARE TRANSACTION '"+id+"'")
		testenv.Exec(t, conn, "COMMIT PREPARED '"+id+"'")
		if got := r.next(t); got != id {
			t.Fatalf("got %s, want %s", got, id)
		}
	}
}

// BenchmarkCommitToNext measures the time from the return of COMMIT to that of
// Next, at several rates of commits.
func BenchmarkCommitToNext(b *testing.B) {
	for _, c := range []struct {
		name string
		gap  time.Duration
	}{{"idle", 100 * time.Millisecond}, {"20 a second", 50 * time.Millisecond}, {"440 a second", time.Second / 440}} {
		b.Run(c.name, func(b *testing.B) {
			d := newDatabase(b)
			sent := d.notifications(b)
			r := follow(b, postgres.New(d.config()), "")
			conn := testenv.Connect(b, d.url)
			d.asleep(b)
			times := make(chan time.Time, 1<<16)
			tick := time.NewTicker(c.gap)
			defer tick.Stop()
			before := sent.Load()
			go func() {
				for range b.N {
					<-tick.C
					_, _ = conn.Exec(b.Context(), `INSERT INTO `+logTable+` (object_type, modification_type, entity_key) VALUES ('Order', 'INSERT', '1')`)
					times <- time.Now()
				}
			}()
			var took []time.Duration
			b.ResetTimer()
			for range b.N {
				r.message(b)
				seen := time.Now()
				took = append(took, max(0, seen.Sub(<-times)))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
			b.ReportMetric(float64(sent.Load()-before)/float64(b.N), "notify/op")
		})
	}
}
