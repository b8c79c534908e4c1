//go:build unix

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestStateStoreIsAway kills the server of the state under a daemon, for less
// than its lease and for longer. It goes on as if nothing had happened: under the
// same term, and nothing comes twice.
func TestStateStoreIsAway(t *testing.T) {
	t.Parallel()
	for ttl, away := range map[time.Duration]time.Duration{10 * time.Second: 0, shortTTL: 3 * shortTTL} {
		t.Run(fmt.Sprintf("for %s of %s", away, ttl), func(t *testing.T) {
			t.Parallel()
			stateStoreIsAway(t, ttl, away)
		})
	}
}

func stateStoreIsAway(t *testing.T, ttl, away time.Duration) {
	t.Helper()
	server := testenv.PrivatePostgres(t, testenv.Options{})
	recv := newReceiver(t, ok)
	s := &site{t: t, dir: t.TempDir(), on: onSQLite, ttl: ttl.String(), stateURL: server.Database(t)}
	s.begin(tagged(recv.url()))
	shop := newShop(s)
	p := s.join()
	stop := shop.load(random(t), 40, 100)
	recv.from(t, p, time.Now())
	server.Kill(t)
	gone := time.Now()
	if away == 0 { // the lease is trusted for longer than that
		recv.from(t, p, gone)
	}
	slowly(t, "the state store has been away for long enough", func() bool { return time.Since(gone) > away })
	if last := recv.receipts()[len(recv.receipts())-1].at; away > 0 && last.After(gone.Add(ttl)) {
		t.Errorf("it delivered %s after the state store was gone: it cannot have known that nobody else does", last.Sub(gone))
	}
	server.Start(t)
	recv.from(t, p, time.Now())
	stop()
	s.arrived(shop, recv)
	p.leave()
	p.left()
	if list := (oracle{receipts: recv.receipts()}).repetitions(); len(list) > 0 {
		t.Errorf("%d deliveries were repeated, the first is %+v", len(list), list[0])
	}
	if taken, lost := p.logged("lease taken"), p.logged("lease lost"); taken != 1 || lost != 0 {
		t.Errorf("the lease was taken %d times and lost %d times", taken, lost)
	}
}
