package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/store/sqlite"
)

// childLanes stores for ever, in lanes of its own, and finishes what is due: it
// is killed while deliveries are parked and released.
func childLanes(ctx context.Context, s *sqlite.Store, a *acks) error {
	errs := make(chan error)
	for w := range childWriters {
		go func() {
			for n := 0; ; n++ {
				if err := laneStep(ctx, s, a, w, n); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

func laneStep(ctx context.Context, s *sqlite.Store, a *acks, w, n int) error {
	var ds []*observer.Delivery
	for i := range 2 {
		e := &observer.Event{
			ID: fmt.Sprintf("%d-%d-%d-%d", os.Getpid(), w, n, i), Operation: observer.Insert,
			EntityType: "Order", EntityID: fmt.Sprintf("%d-%d", os.Getpid(), n%2), // shared by the writers
		}
		d := observer.NewDelivery(e, "notify", 0, "webhook")
		d.Order, d.State = observer.OrderStrict, observer.Queued
		ds = append(ds, d)
	}
	if _, err := s.InsertDeliveries(ctx, ds...); err != nil {
		return err
	}
	for _, d := range ds {
		a.print("stored", d.Key)
	}
	owner := fmt.Sprintf("%d-%d", os.Getpid(), w)
	due, err := s.ClaimDue(ctx, observer.Claim{Owner: owner, Lease: time.Hour, Limit: 3})
	if err != nil {
		return err
	}
	for _, d := range due {
		a.print("finishing", d.Key) // from here on it may be done
		d.Succeed()
		if err := s.UpdateDelivery(ctx, d, owner); err != nil {
			return err
		}
		a.print("finished", d.Key)
	}
	return nil
}

// Wherever a process is killed, in each lane one delivery is on its way and all
// behind it are parked, and in the end nothing was left behind or overtaken.
func TestKilledProcessLeavesLanesInOrder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	o := newOracle()
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		killChildIn(t, "lanes", path, o, 20+rand.IntN(300))
		o.checkLanes(t, path)
	}
	if len(o.finished) == 0 {
		t.Error("got nothing finished: the test tests nothing")
	}
	drainLanes(t, path)
	wantSound(t, path)
}

func (o *oracle) checkLanes(t *testing.T, path string) {
	t.Helper()
	s := opened(t, sqlite.Config{Path: path})
	ds, err := s.Deliveries(t.Context(), observer.DeliveryFilter{})
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]observer.State{}
	onItsWay := map[string]string{}
	for _, d := range ds {
		states[d.Key] = d.State
		before := onItsWay[d.Lane()]
		switch {
		case d.State == observer.Done && before == "":
		case d.State == observer.Parked && before != "":
		case (d.State == observer.Queued || d.State == observer.Running) && before == "":
			onItsWay[d.Lane()] = d.Key
		default:
			t.Errorf("%s is %s, with %q on its way before it", d.Key, d.State, before)
		}
	}
	o.checkDeliveries(t, states)
	o.checkCounts(t, s, states)
}

// drainLanes does all work when the leases of the killed are over.
func drainLanes(t *testing.T, path string) {
	t.Helper()
	s := opened(t, sqlite.Config{Path: path, Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	var all []*observer.Delivery
	for {
		ds, err := s.ClaimDue(t.Context(), observer.Claim{Owner: "a", Lease: time.Minute, Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		if len(ds) == 0 {
			break
		}
		for _, d := range ds {
			d.Succeed()
			if err := s.UpdateDelivery(t.Context(), d, "a"); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, ds...)
	}
	stats, err := s.DeliveryStats(t.Context())
	if err != nil || len(stats.States) != 1 || len(all) == 0 {
		t.Errorf("after %d more: got %v and error %v, want all done", len(all), stats.States, err)
	}
}

// killChildIn kills a process in a mode after some of its lines, wherever it is
// then, and reads what it had printed.
func killChildIn(t *testing.T, mode, path string, o *oracle, after int) {
	t.Helper()
	cmd, stdout := startChild(t, mode, path)
	lines := bufio.NewReader(stdout)
	for n := 0; ; n++ {
		if n == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			break // a line cut off by the kill was not acknowledged to anybody
		}
		o.read(t, strings.TrimSpace(line))
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
}
