package storetest

import (
	"context"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func leaseTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"lease/only its holder may use it":     testLeaseHolder,
		"lease/extend prolongs it from now":    testExtend,
		"lease/extend may not shorten another": testExtendOther,
		"lease/dead letters are leased too":    testLeaseDead,
		"lease/an outcome may be repeated":     testRepeat,
		"lease/a parked one may be put twice":  testRepeatParked,
	}
}

// uses are the calls that need a running lease.
func uses(s observer.StateStore) map[string]func(ctx context.Context, d *observer.Delivery, owner string) error {
	return map[string]func(ctx context.Context, d *observer.Delivery, owner string) error{
		"update": s.UpdateDelivery,
		"extend": func(ctx context.Context, d *observer.Delivery, owner string) error {
			return s.ExtendLease(ctx, d.Key, owner, lease)
		},
	}
}

// testLeaseHolder tries every use in every way of not holding the lease: "a"
// must get ErrBusy, and nothing may change.
func testLeaseHolder(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	n := 0
	for situation, prepare := range map[string]func(key string){
		"never claimed": func(string) {},
		"another's":     func(key string) { claim(t, s, key, "b") },
		"expired": func(key string) {
			claim(t, s, key, "a")
			h.clock.advance(lease)
		},
		"expired, then another's": func(key string) {
			claim(t, s, key, "a")
			h.clock.advance(lease)
			claim(t, s, key, "b")
		},
		"given back": func(key string) {
			update(t, s, claimOf(t, s, key, "a"), "a")
		},
	} {
		for name, use := range uses(s) {
			n++
			insert(t, s, dead(n))
			prepare(dead(n).Key)
			before := get(t, s, dead(n).Key)
			changed := scheduled(n, h.clock.Now())
			wantError(t, name+" when "+situation, use(t.Context(), changed, "a"), observer.ErrBusy)
			after := get(t, s, dead(n).Key)
			if diff := diffDeliveries(before, after); diff != "" {
				t.Errorf("%s when %s changed the delivery:\n%s", name, situation, diff)
			}
			wantDiff(t, "lease owner when "+situation, before.LeaseOwner, after.LeaseOwner)
			wantDiff(t, "lease end when "+situation, before.LeaseUntil, after.LeaseUntil)
		}
	}
	for name, use := range uses(s) {
		wantError(t, name+" of an unknown key", use(t.Context(), dead(0), "a"), observer.ErrBusy)
	}
}

func testExtend(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, scheduled(1, h.clock.Now()))
	key := delivery(1).Key
	claim(t, s, key, "a")
	for range 3 {
		h.clock.advance(lease - time.Microsecond)
		if err := s.ExtendLease(t.Context(), key, "a", lease); err != nil {
			t.Fatalf("extend: %v", err)
		}
		wantDiff(t, "until", h.clock.Now().Add(lease), get(t, s, key).LeaseUntil)
	}
	_, err := s.ClaimDelivery(t.Context(), key, "b", lease)
	wantError(t, "claim during the extended lease", err, observer.ErrBusy)
	h.clock.advance(lease)
	wantError(t, "extend after the end", s.ExtendLease(t.Context(), key, "a", lease), observer.ErrBusy)
	claim(t, s, key, "b")
}

func testExtendOther(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1))
	until := claim(t, s, dead(1).Key, "a").LeaseUntil
	wantError(t, "extend another's", s.ExtendLease(t.Context(), dead(1).Key, "b", time.Microsecond), observer.ErrBusy)
	wantDiff(t, "until", until, get(t, s, dead(1).Key).LeaseUntil)
}

func testLeaseDead(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1))
	d := claimOf(t, s, dead(1).Key, "a")
	d.Error = "failed again"
	if err := s.UpdateDelivery(t.Context(), d, "a"); err != nil {
		t.Fatal(err)
	}
	got := get(t, s, dead(1).Key)
	wantDiff(t, "error", "failed again", got.Error)
	wantDiff(t, "state", observer.Dead, got.State)
}

// testRepeat stores an outcome whose answer was lost once more: nothing changes,
// and it is no error unless it is about something else by now.
func testRepeat(t *testing.T, h *harness) {
	for n, state := range []observer.State{observer.Done, observer.Dropped, observer.Dead, observer.Scheduled, observer.Unknown, observer.Queued} {
		s := h.store(t, Options{})
		insert(t, s, queued(n, h.clock.Now()))
		d := claim(t, s, delivery(n).Key, "a")
		d.State, d.RunAt = state, h.clock.Now().Add(time.Hour)
		d.Attempts = []observer.Attempt{{Number: 1, At: h.clock.Now(), Error: "status 503"}}
		update(t, s, d, "a")
		want := get(t, s, d.Key)
		h.clock.advance(time.Second)
		update(t, s, d, "a")
		wantDiff(t, "repeated", want, get(t, s, d.Key))
		wantError(t, "by another", s.UpdateDelivery(t.Context(), d, "b"), observer.ErrBusy)
		wantError(t, "by nobody", s.UpdateDelivery(t.Context(), d, ""), observer.ErrBusy)
		another, more := d.Clone(), d.Clone()
		if another.State = observer.Dead; state == observer.Dead {
			another.State = observer.Done
		}
		more.Attempts = append(more.Attempts, observer.Attempt{Number: 2})
		wantError(t, "another outcome", s.UpdateDelivery(t.Context(), another, "a"), observer.ErrBusy)
		wantError(t, "more attempts", s.UpdateDelivery(t.Context(), more, "a"), observer.ErrBusy)
		for what, change := range changedAttempts() {
			other := d.Clone()
			change(&other.Attempts[0])
			wantError(t, what, s.UpdateDelivery(t.Context(), other, "a"), observer.ErrBusy)
		}
		if state == observer.Done || state == observer.Dropped {
			continue
		}
		claim(t, s, d.Key, "b")
		wantError(t, "when another claimed it", s.UpdateDelivery(t.Context(), d, "a"), observer.ErrBusy)
		h.clock.advance(lease)
		wantError(t, "when another lost it", s.UpdateDelivery(t.Context(), d, "a"), observer.ErrBusy)
		wantError(t, "by another who lost it", s.UpdateDelivery(t.Context(), d, "b"), observer.ErrBusy)
	}
}

// changedAttempts make another attempt of one.
func changedAttempts() map[string]func(*observer.Attempt) {
	return map[string]func(*observer.Attempt){
		"attempt with another number":   func(a *observer.Attempt) { a.Number++ },
		"attempt at another time":       func(a *observer.Attempt) { a.At = a.At.Add(time.Microsecond) },
		"attempt of another duration":   func(a *observer.Attempt) { a.Duration++ },
		"attempt with another status":   func(a *observer.Attempt) { a.Status++ },
		"attempt with another detail":   func(a *observer.Attempt) { a.Detail += "." },
		"attempt with another error":    func(a *observer.Attempt) { a.Error += "." },
		"attempt with another stack":    func(a *observer.Attempt) { a.Stack += "." },
		"attempt that was not answered": func(a *observer.Attempt) { a.Unknown = !a.Unknown },
	}
}

func testRepeatParked(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"))
	d := claimOf(t, s, delivery(2).Key, "person")
	update(t, s, d, "person")
	update(t, s, d, "person")
	wantState(t, "put back twice", s, d, observer.Parked)
	finish(t, s, delivery(1).Key)
	update(t, s, d, "person")
	wantState(t, "queued since", s, d, observer.Queued)
}
