package postgres_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

func strict(id, entity string) *observer.Delivery {
	d := observer.NewDelivery(&observer.Event{ID: id, Operation: observer.Update, EntityType: "Order", EntityID: entity}, "notify", 0, "webhook")
	d.Order, d.State = observer.OrderStrict, observer.Queued
	return d
}

// blockedLane is two stores, the first of which is finishing what blocks a lane:
// its transaction waits, with the lane locked.
type blockedLane struct {
	finishing, other *postgres.Store
	blocker          *observer.Delivery
	holder, watcher  *pgx.Conn
	finished         chan error
}

func newBlockedLane(t *testing.T) *blockedLane {
	t.Helper()
	url := testenv.Database(t)
	l := &blockedLane{
		finishing: opened(t, config(url+"&application_name=finishing")), other: opened(t, config(url+"&application_name=other")),
		blocker: strict("1", "7"), holder: testenv.Connect(t, url), watcher: testenv.Connect(t, url), finished: make(chan error, 1),
	}
	insert(t, l.finishing, l.blocker)
	if _, err := l.finishing.ClaimDelivery(t.Context(), l.blocker.Key, "a", lease); err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, l.holder, "BEGIN")
	testenv.Exec(t, l.holder, "SELECT FROM fraiseql_observer.tb_delivery FOR UPDATE")
	go func() { l.finished <- l.finish(t.Context()) }()
	l.waits(t, "finishing")
	return l
}

func (l *blockedLane) finish(ctx context.Context) error {
	d := l.blocker.Clone()
	d.Succeed()
	return l.finishing.UpdateDelivery(ctx, d, "a")
}

func (l *blockedLane) waits(t *testing.T, application string) {
	t.Helper()
	testenv.Eventually(t, l.watcher, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = $1 AND datname = current_database())", application)
}

// insertNext stores the next of the lane with the other store, which has to wait
// for the lane.
func (l *blockedLane) insertNext(t *testing.T) <-chan *observer.Delivery {
	t.Helper()
	inserted := make(chan *observer.Delivery, 1)
	go func() {
		d := strict("2", "7")
		if _, err := l.other.InsertDeliveries(t.Context(), d); err != nil {
			t.Error(err)
		}
		inserted <- d
	}()
	l.waits(t, "other")
	return inserted
}

func (l *blockedLane) state(t *testing.T, key string) observer.State {
	t.Helper()
	d, err := l.other.Delivery(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return d.State
}

// What is stored while the blocker ends waits for that, and in the end for nothing.
func TestInsertWaitsForItsLane(t *testing.T) {
	t.Parallel()
	l := newBlockedLane(t)
	inserted := l.insertNext(t)
	insert(t, l.other, strict("3", "8")) // another lane is another matter
	testenv.Exec(t, l.holder, "ROLLBACK")
	if err := <-l.finished; err != nil {
		t.Fatal(err)
	}
	if d := <-inserted; l.state(t, d.Key) != observer.Queued {
		t.Errorf("got %s told and %s stored, want queued", d.State, l.state(t, d.Key))
	}
}

// A process that dies in the middle leaves the lane as it was, and free.
func TestCrashInALane(t *testing.T) {
	t.Parallel()
	l := newBlockedLane(t)
	inserted := l.insertNext(t)
	testenv.Exec(t, l.watcher, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'finishing' AND wait_event_type = 'Lock' AND datname = current_database()")
	if err := <-l.finished; err == nil {
		t.Fatal("finish with a dead connection: got no error")
	}
	d := <-inserted
	if d.State != observer.Parked || l.state(t, d.Key) != observer.Parked {
		t.Errorf("behind what is not finished: got %s told and %s stored, want parked", d.State, l.state(t, d.Key))
	}
	testenv.Exec(t, l.holder, "ROLLBACK")
	if err := l.finish(t.Context()); err != nil { // the lease is running still
		t.Fatal(err)
	}
	if got := l.state(t, d.Key); got != observer.Queued {
		t.Errorf("after the blocker: got %s, want queued", got)
	}
}

// What a person ran and put back, while the others of its event went on, goes on
// as well.
func TestPutBackAfterItsLaneWentFree(t *testing.T) {
	t.Parallel()
	s := opened(t, config(testenv.Database(t)))
	first, one, other := strict("1", "7"), strict("2", "7"), strict("2", "7")
	other.Action, other.Key = 1, observer.DeliveryKey("2", "notify", 1)
	insert(t, s, first, one, other)
	claim := func(key, owner string) *observer.Delivery {
		d, err := s.ClaimDelivery(t.Context(), key, owner, lease)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	update := func(d *observer.Delivery) {
		if err := s.UpdateDelivery(t.Context(), d, d.LeaseOwner); err != nil {
			t.Fatal(err)
		}
	}
	back := claim(other.Key, "person")
	done := claim(first.Key, "worker")
	done.Succeed()
	update(done)
	back.State = back.ClaimedFrom
	update(back)
	for _, key := range []string{one.Key, other.Key} {
		if d, err := s.Delivery(t.Context(), key); err != nil || d.State != observer.Queued || back.State != observer.Parked {
			t.Errorf("%s: got %v and error %v, want queued", key, d, err)
		}
	}
}

// holdLanes locks the lanes of all that is stored, as a change does, until the
// transaction of holder ends.
func holdLanes(t *testing.T, s *postgres.Store, holder *pgx.Conn) {
	t.Helper()
	testenv.Exec(t, holder, "BEGIN")
	testenv.Exec(t, holder, s.SQL(`SELECT pg_advisory_xact_lock(hashtextextended(lane COLLATE "C", $1)) FROM {{schema}}.tb_delivery`), s.LaneLock())
}

// After the order of an observer was changed, an update of what is under way may
// have to wait for its old lane. That hits nobody else.
func TestUpdateFromALockedLane(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url+"&application_name=updating"))
	const n = 8
	var ds []*observer.Delivery
	for i := range n {
		insert(t, s, strict(strconv.Itoa(i), strconv.Itoa(i)))
		d, err := s.ClaimDelivery(t.Context(), observer.DeliveryKey(strconv.Itoa(i), "notify", 0), "a", lease)
		if err != nil {
			t.Fatal(err)
		}
		d.Succeed()
		d.Order = observer.OrderNone
		ds = append(ds, d)
	}
	holder, watcher := testenv.Connect(t, url), testenv.Connect(t, url)
	holdLanes(t, s, holder)
	updated := make(chan error, n)
	for _, d := range ds {
		go func() { updated <- s.UpdateDelivery(t.Context(), d, "a") }()
	}
	// Those who wait patiently, as many as may at once.
	testenv.Eventually(t, watcher, `
SELECT count(*) = 4 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'updating' AND datname = current_database()`)
	insert(t, s, strict("another", "another"))
	testenv.Exec(t, holder, "ROLLBACK")
	for range n {
		if err := <-updated; err != nil {
			t.Errorf("got error %v, want it stored when the lane was free", err)
		}
	}
	if got := len(keysOf(t, s, observer.DeliveryFilter{State: observer.Done})); got != n {
		t.Errorf("got %d done, want %d", got, n)
	}
}

// One refused row must not take along those who share its transaction, in the
// database, too.
func TestRefusedRowIsRefusedAlone(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	s := opened(t, config(url))
	testenv.Exec(t, conn, "ALTER TABLE fraiseql_observer.tb_delivery ADD CHECK (action_type <> 'bad')")
	holder := testenv.Connect(t, url)
	testenv.Exec(t, holder, "BEGIN")
	testenv.Exec(t, holder, "LOCK TABLE fraiseql_observer.tb_delivery IN SHARE ROW EXCLUSIVE MODE")
	const n = 40
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			d := strict(strconv.Itoa(i), strconv.Itoa(i%5))
			if i%10 == 0 {
				d.ActionType = "bad"
			}
			_, err := s.InsertDeliveries(t.Context(), d)
			if refused := err != nil && strings.Contains(err.Error(), "23514"); refused != (i%10 == 0) {
				t.Errorf("insert %d: got error %v", i, err)
			}
		})
	}
	testenv.Eventually(t, conn, "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
	testenv.Exec(t, holder, "ROLLBACK")
	wg.Wait()
	if got := len(keysOf(t, s, observer.DeliveryFilter{})); got != n-n/10 {
		t.Errorf("got %d stored, want %d", got, n-n/10)
	}
}

// A batch of more lanes than are locked one by one keeps each in order.
func TestManyLanesAtOnce(t *testing.T) {
	t.Parallel()
	const lanes = 700
	s := opened(t, config(testenv.Database(t)))
	var wg sync.WaitGroup
	for part := range 4 {
		wg.Go(func() {
			var ds []*observer.Delivery
			for lane := range lanes {
				ds = append(ds, strict(fmt.Sprint(part, "/", lane), strconv.Itoa(lane)))
			}
			insert(t, s, ds...)
		})
	}
	wg.Wait()
	stats, err := s.DeliveryStats(t.Context())
	if err != nil || stats.States[observer.Queued] != lanes || stats.States[observer.Parked] != 3*lanes {
		t.Errorf("got %v and error %v, want %d queued and %d parked", stats.States, err, lanes, 3*lanes)
	}
}

// Lanes, queues and endpoints with names too long for an index are what they are.
func TestLongNames(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	noise := make([]byte, 3000) // so that nothing makes it shorter
	_, _ = rand.Read(noise)
	long := "zażółć " + base64.StdEncoding.EncodeToString(noise)
	first, second := strict("1", long), strict("2", long)
	first.Queue, first.Endpoint = long+"q", long+"e"
	second.Queue, second.Endpoint = long+"q", long+"f"
	insert(t, s, first, second)
	if second.State != observer.Parked {
		t.Errorf("the second: got %s, want parked", second.State)
	}
	lanes := map[string]int{}
	if err := s.DeliveryKeys(t.Context(), func(_, lane string) { lanes[lane]++ }); err != nil || lanes[first.Lane()] != 2 {
		t.Errorf("got %d keys with the lane and error %v, want 2", lanes[first.Lane()], err)
	}
	if blocked, err := s.Blocked(t.Context(), first.Lane(), "3"); err != nil || !blocked {
		t.Errorf("blocked: got %t and error %v, want true", blocked, err)
	}
	for _, reader := range []*postgres.Store{s, opened(t, config(url))} { // who stored them, and who did not
		asked := map[string]bool{}
		_, err := reader.NextDue(t.Context(), func(queue, endpoint string) int {
			asked[queue+" to "+endpoint] = true
			return 1
		})
		if err != nil || !asked[long+"q to "+long+"e"] {
			t.Errorf("asked about %d queues with error %v, want the long one among them", len(asked), err)
		}
	}
	if got := keysOf(t, s, observer.DeliveryFilter{Endpoint: long + "e"}); len(got) != 1 || got[0] != first.Key {
		t.Errorf("by endpoint: got %v, want %s", got, first.Key)
	}
}
