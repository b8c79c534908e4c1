package delivery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

func byReason(reason observer.Reason) func(*observer.Delivery) {
	return func(d *observer.Delivery) { d.Reason = reason }
}

// letters are dead letters of n events.
func letters(n int, change ...func(*observer.Delivery)) []*observer.Delivery {
	var ds []*observer.Delivery
	for i := range n {
		ds = append(ds, made(fmt.Sprintf("dead-%04d", i), observer.Dead, change...))
	}
	return ds
}

func TestBulk(t *testing.T) {
	t.Parallel()
	type left = map[observer.State]int
	gone := observer.DeliveryFilter{Reason: observer.ReasonGone}
	tests := map[string]struct {
		do     func(context.Context, observer.DeliveryStore, observer.DeliveryFilter, delivery.BulkOptions) (delivery.BulkResult, error)
		filter observer.DeliveryFilter
		opts   delivery.BulkOptions
		result delivery.BulkResult
		left   left
	}{
		"requeue": {delivery.Requeue, gone, delivery.BulkOptions{}, delivery.BulkResult{Selected: 1200, Changed: 1200},
			left{observer.Queued: 1200, observer.Dead: 1, observer.Scheduled: 1}},
		"requeue, dry run": {delivery.Requeue, gone, delivery.BulkOptions{DryRun: true}, delivery.BulkResult{Selected: 1200},
			left{observer.Dead: 1201, observer.Scheduled: 1}},
		"requeue some": {delivery.Requeue, observer.DeliveryFilter{Limit: 700, Offset: 600}, delivery.BulkOptions{}, delivery.BulkResult{Selected: 601, Changed: 601},
			left{observer.Queued: 601, observer.Dead: 600, observer.Scheduled: 1}},
		"requeue few": {delivery.Requeue, observer.DeliveryFilter{Limit: 7}, delivery.BulkOptions{}, delivery.BulkResult{Selected: 7, Changed: 7},
			left{observer.Queued: 7, observer.Dead: 1194, observer.Scheduled: 1}},
		"requeue what waits": {delivery.Requeue, observer.DeliveryFilter{State: observer.Scheduled}, delivery.BulkOptions{}, delivery.BulkResult{Selected: 1, Changed: 1},
			left{observer.Queued: 1, observer.Dead: 1201}},
		"discard": {delivery.Discard, gone, delivery.BulkOptions{}, delivery.BulkResult{Selected: 1200, Changed: 1200},
			left{observer.Dead: 1, observer.Scheduled: 1}},
		"discard all": {delivery.Discard, observer.DeliveryFilter{}, delivery.BulkOptions{}, delivery.BulkResult{Selected: 1201, Changed: 1201},
			left{observer.Scheduled: 1}},
		"discard, dry run": {delivery.Discard, gone, delivery.BulkOptions{DryRun: true}, delivery.BulkResult{Selected: 1200},
			left{observer.Dead: 1201, observer.Scheduled: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore()
			put(t, store, letters(1200, byReason(observer.ReasonGone))...)
			put(t, store, made("other", observer.Dead), made("waits", observer.Scheduled, byReason(observer.ReasonGone)))
			calls, last := 0, [2]int{}
			tt.opts.Progress = func(done, total int) { calls, last = calls+1, [2]int{done, total} }
			result, err := tt.do(t.Context(), store, tt.filter, tt.opts)
			if d := cmp.Diff(tt.result, result); err != nil || d != "" {
				t.Errorf("error %v, result (-want +got):\n%s", err, d)
			}
			if d := cmp.Diff(tt.left, states(t, store)); d != "" {
				t.Errorf("left (-want +got):\n%s", d)
			}
			if n := result.Changed; !tt.opts.DryRun && (calls != n+1 || last != [2]int{n, n}) || tt.opts.DryRun && calls != 0 {
				t.Errorf("%d calls of progress, the last with %v", calls, last)
			}
		})
	}
}

func TestBulkRefusesOtherStates(t *testing.T) {
	t.Parallel()
	store := newStore()
	put(t, store, made("e", observer.Queued))
	for _, state := range []observer.State{observer.Queued, observer.Running, observer.Done, observer.Parked} {
		filter := observer.DeliveryFilter{State: state}
		_, err1 := delivery.Requeue(t.Context(), store, filter, delivery.BulkOptions{})
		_, err2 := delivery.Discard(t.Context(), store, filter, delivery.BulkOptions{})
		if err1 == nil || err2 == nil {
			t.Errorf("%s: %v, %v", state, err1, err2)
		}
	}
}

func TestBulkRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, began := newStore(), time.Now()
		put(t, store, letters(101)...)
		var at []time.Duration
		opts := delivery.BulkOptions{Rate: 4, Progress: func(int, int) { at = append(at, time.Since(began)) }}
		if _, err := delivery.Requeue(t.Context(), store, observer.DeliveryFilter{}, opts); err != nil {
			t.Fatal(err)
		}
		if at[1] != 0 || at[2] != 250*time.Millisecond || at[101] != 25*time.Second {
			t.Errorf("done after %v", at)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1100*time.Millisecond)
		defer cancel()
		put(t, store, letters(10, func(d *observer.Delivery) { d.Key += "+" })...)
		result, err := delivery.Discard(ctx, store, observer.DeliveryFilter{}, opts)
		if !errors.Is(err, context.DeadlineExceeded) || result.Changed != 5 {
			t.Errorf("interrupted: %+v, %v", result, err)
		}
	})
}

// What others do with the selected meanwhile is left to them.
func TestBulkSkipsWhatChanged(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(context.Context, observer.DeliveryStore, observer.DeliveryFilter, delivery.BulkOptions) (delivery.BulkResult, error){
		"requeue": delivery.Requeue, "discard": delivery.Discard,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore()
			ds := letters(4)
			put(t, store, ds...)
			result, err := do(t.Context(), store, observer.DeliveryFilter{}, delivery.BulkOptions{Progress: func(done, _ int) {
				if done > 0 {
					return
				}
				_, err := store.ClaimDelivery(t.Context(), ds[1].Key, "other", time.Hour)
				_, err2 := store.RequeueDelivery(t.Context(), ds[2].Key, time.Now())
				if err := errors.Join(err, err2, store.RemoveDelivery(t.Context(), ds[3].Key)); err != nil {
					t.Error(err)
				}
			}})
			if d := cmp.Diff(delivery.BulkResult{Selected: 4, Changed: 1, Skipped: 3}, result); err != nil || d != "" {
				t.Errorf("error %v, result (-want +got):\n%s", err, d)
			}
			if s := states(t, store); s[observer.Running] != 1 || s[observer.Queued] < 1 {
				t.Errorf("left %v", s)
			}
		})
	}
}

// Requeued letters of a lane keep their order, and all but the first wait.
func TestRequeueKeepsTheOrderOfALane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		put(t, store, letters(4, strict)...)
		result, err := delivery.Requeue(t.Context(), store, observer.DeliveryFilter{}, delivery.BulkOptions{})
		if d := cmp.Diff(delivery.BulkResult{Selected: 4, Changed: 4, Parked: 3}, result); err != nil || d != "" {
			t.Errorf("error %v, result (-want +got):\n%s", err, d)
		}
		r := newRan(takes(time.Second))
		_, stop := work(t, store, r)
		<-time.After(10 * time.Second)
		stop()
		if d := cmp.Diff([]string{"dead-0000 at 0s", "dead-0001 at 1s", "dead-0002 at 2s", "dead-0003 at 3s"}, r.all()); d != "" {
			t.Error(d)
		}
	})
}

func TestEdit(t *testing.T) {
	t.Parallel()
	refuse := errors.New("the editor was left")
	malformed := &observer.Delivery{Key: "bad", Malformed: &observer.Malformed{ID: "bad"}, State: observer.Dead}
	request := func(d *observer.Delivery) { d.Request = json.RawMessage(`{"a":1}`) }
	tests := map[string]struct {
		d       *observer.Delivery
		edit    func(json.RawMessage) (json.RawMessage, error)
		want    string
		wantErr error // nil: none; any other that is not a sentinel: refuse
		failed  bool
	}{
		"changed":      {made("e", observer.Dead, request), give(`{"a":2}`, nil), `{"a":2}`, nil, false},
		"emptied":      {made("e", observer.Dead, request), give("", nil), "", nil, false},
		"left":         {made("e", observer.Dead, request), give("", refuse), `{"a":1}`, refuse, true},
		"not JSON":     {made("e", observer.Dead, request), give("{", nil), `{"a":1}`, nil, true},
		"never set":    {made("e", observer.Dead), give(`{}`, nil), `{}`, nil, false},
		"not dead":     {made("e", observer.Scheduled, request), give(`{}`, nil), `{"a":1}`, observer.ErrNotFound, true},
		"not an event": {malformed, give(`{}`, nil), "", nil, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newStore()
				put(t, store, tt.d)
				<-time.After(time.Hour)
				err := delivery.Edit(t.Context(), store, tt.d.Key, tt.edit)
				if (err != nil) != tt.failed || tt.wantErr != nil && !errors.Is(err, tt.wantErr) {
					t.Errorf("error %v", err)
				}
				d := stored(t, store, tt.d.Key)
				if string(d.Request) != tt.want || d.State != tt.d.State || d.LeaseOwner != "" || d.Lost != 0 || d.Redrives != 0 {
					t.Errorf("left %+v", d)
				}
				if d.EditedAt.IsZero() != tt.failed || !tt.failed && !d.EditedAt.Equal(time.Now()) {
					t.Errorf("edited at %s", d.EditedAt)
				}
			})
		})
	}
}

func give(text string, err error) func(json.RawMessage) (json.RawMessage, error) {
	return func(json.RawMessage) (json.RawMessage, error) { return json.RawMessage(text), err }
}

// A person may think for long, and nobody runs the letter meanwhile.
func TestEditKeepsOthersAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		key := put(t, store, made("e", observer.Dead))
		err := delivery.Edit(t.Context(), store, key, func(json.RawMessage) (json.RawMessage, error) {
			<-time.After(time.Hour)
			_, err := delivery.Redrive(t.Context(), redriving(store, succeed), key)
			return json.RawMessage(`{}`), keepOnly(err, observer.ErrBusy)
		})
		if err != nil {
			t.Error(err)
		}
		if d := stored(t, store, key); string(d.Request) != `{}` {
			t.Errorf("left %+v", d)
		}
	})
}

// keepOnly is an error unless err is want.
func keepOnly(err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("got %w, want %w", errors.Join(err, errors.ErrUnsupported), want)
}
