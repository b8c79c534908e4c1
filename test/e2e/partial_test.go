//go:build unix

package e2e

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fraiseql/observer"
)

// TestInvariant6PartialFailure has two actions for one event, of which one
// fails. The other is never run again: not by the failure, not by retrying the
// dead letter in vain, not by a restart, not by retrying it with success.
func TestInvariant6PartialFailure(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	recv := newReceiver(t, func(r receipt) int {
		if strings.HasSuffix(r.path, "/bad") && !mended.Load() {
			return http.StatusUnprocessableEntity
		}
		return http.StatusOK
	})
	s := newSite(t, hook("both", recv.url())+`
[[observers.actions]]
type = "webhook"
url = "`+recv.url()+`/bad"
`)
	shop := newShop(s)
	shop.put(1)
	s.start()
	eventually(t, "the failing action is dead", func() bool { return len(s.stored(observer.Dead)) == 1 })
	key := observer.DeliveryKey(shop.event(1), "both", 1)
	if got := s.stored(observer.Dead)[0].Key; got != key {
		t.Fatalf("the dead letter is %s, want %s", got, key)
	}

	if _, stderr, code := s.command("dlq", "retry", key); code == 0 {
		t.Errorf("a retry that failed ended with 0: %s", stderr)
	}
	if list := s.stored(observer.Dead); len(list) != 1 || len(list[0].Attempts) != 2 {
		t.Fatalf("after a retry in vain the dead letters are %+v", list)
	}
	s.stop()
	s.start()
	shop.put(2) // the restarted daemon is past the first event when this is dead
	eventually(t, "the restarted daemon works", func() bool { return len(s.stored(observer.Dead)) == 2 })
	recv.sent(2, 3)

	mended.Store(true)
	s.succeeds("dlq", "retry", key)
	if list := s.stored(observer.Dead); len(list) != 1 || list[0].Key == key {
		t.Errorf("the delivered dead letter is still there: %+v", list)
	}
	s.stop()
	recv.sent(2, 4)
	for _, r := range recv.receipts() {
		if strings.HasSuffix(r.path, "/bad") && r.event == shop.event(1) && r.key != key {
			t.Errorf("an attempt had the key %s, want %s", r.key, key)
		}
	}
}

// sent checks how often the good and the bad receiver were called.
func (r *receiver) sent(good, bad int) {
	r.t.Helper()
	calls := func(path string) int {
		return r.count(func(r receipt) bool { return strings.HasSuffix(r.path, path) })
	}
	if g, b := calls("/both"), calls("/bad"); g != good || b != bad {
		r.t.Errorf("sent: %d times to the good receiver, %d to the bad one; want %d and %d", g, b, good, bad)
	}
}
