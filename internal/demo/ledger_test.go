package demo

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
)

func accept(int) int { return 204 }
func refuse(int) int { return 503 }

// TestLedgerTellsEveryOutcomeApart gives the oracle one of each.
func TestLedgerTellsEveryOutcomeApart(t *testing.T) {
	t.Parallel()
	l := newLedger()
	l.committing([]change{
		{order: 1, version: 1, op: observer.Insert},
		{order: 1, version: 2, op: observer.Update, shipped: true},
		{order: 2, version: 3, op: observer.Update},
		{order: 1, version: 2, op: observer.Delete},
	})
	l.rolledBackOne()
	for _, r := range []struct {
		duty   duty
		answer func(int) int
	}{
		{duty{everyChange, observer.Insert, 1}, accept},
		{duty{everyChange, observer.Update, 2}, accept},
		{duty{everyChange, observer.Update, 2}, accept}, // repeated
		{duty{created, observer.Insert, 1}, refuse},
		{duty{created, observer.Insert, 1}, accept},      // retried
		{duty{everyChange, observer.Update, 99}, accept}, // never committed
		{duty{cancelled, observer.Delete, 2}, refuse},    // dead below
		{duty{shipped, observer.Update, 2}, refuse},      // waiting below
		{duty{everyChange, observer.Delete, 2}, accept},  // the version of the update, another change
	} {
		l.receive(receipt{duty: r.duty, at: time.Now()}, r.answer)
	}
	if n := l.unaccepted(); n != 3 {
		t.Errorf("%d unaccepted, want 3", n)
	}
	s := l.summary(map[duty]*observer.Delivery{
		{cancelled, observer.Delete, 2}: {State: observer.Dead, Reason: observer.ReasonPermanent},
		{shipped, observer.Update, 2}:   {State: observer.Scheduled},
	})
	s.p50, s.p99 = 0, 0
	want := summary{
		transactions: 1, rolledBack: 1, changes: 4,
		expected: 7, delivered: 4, retried: 2, repeated: 1, waiting: 1,
		dead:       map[observer.Reason]int{observer.ReasonPermanent: 1},
		lost:       []string{"order-events: UPDATE of version 3 (order 2)"},
		unexpected: []string{"order-events: UPDATE of version 99"},
	}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(summary{})); diff != "" {
		t.Error(diff)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	var list []time.Duration
	for i := range 100 {
		list = append(list, time.Duration(i+1))
	}
	for q, want := range map[float64]time.Duration{0.5: 50, 0.99: 99, 1: 100} {
		if got := quantile(list, q); got != want {
			t.Errorf("quantile %v is %d, want %d", q, got, want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("quantile of nothing is %d", got)
	}
}
