//go:build unix

package e2e

import (
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestStateIsCutOffSilently cuts the network between the state and the daemon that
// reads, without a word. The one that stands by reaches the state all the time, and
// gets nothing: the lease does not run out, and nothing comes twice.
func TestStateIsCutOffSilently(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(testing.TB, *testenv.Proxy){
		"connections die, new ones can be made": func(_ testing.TB, p *testenv.Proxy) { p.Cut() },
		"packets of connections get lost":       func(t testing.TB, p *testenv.Proxy) { t.Helper(); p.Lose(t) },
		"everything for three seconds": func(_ testing.TB, p *testenv.Proxy) {
			p.Mute(anyMessage)
			time.AfterFunc(3*time.Second, p.Pass)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stateIsCutOffSilently(t, cut)
		})
	}
}

func stateIsCutOffSilently(t *testing.T, cut func(testing.TB, *testenv.Proxy)) {
	t.Helper()
	const ttl = 10 * time.Second // the default
	recv := newReceiver(t, ok)
	direct := testenv.Database(t)
	s := &site{t: t, dir: t.TempDir(), on: onSQLite, ttl: ttl.String(), stateURL: direct}
	proxy := through(t, &s.stateURL)
	s.begin(tagged(recv.url()))
	shop := newShop(s)
	reading := s.join()
	reading.logs("lease taken")
	standing := s.joinAs(binary, "FRAISEQL_STATE_URL="+direct)
	standing.logs("standing by")
	stop := shop.load(random(t), 40, 100)
	recv.from(t, reading, time.Now())
	cut(t, proxy)
	since := time.Now()
	slowly(t, "a lease that is not renewed has run out", func() bool { return time.Since(since) > ttl+2*time.Second })
	recv.from(t, reading, time.Now())
	stop()
	s.arrived(shop, recv)
	if taken, lost := standing.logged("lease taken"), reading.logged("lease lost"); taken != 0 || lost != 0 {
		t.Errorf("the lease was lost %d times, and taken %d times by the other daemon", lost, taken)
	}
	for _, p := range []*peer{standing, reading} {
		p.leave()
		p.left()
	}
	if list := (oracle{receipts: recv.receipts()}).repetitions(); len(list) > 0 {
		t.Errorf("%d deliveries were repeated, the first is %+v", len(list), list[0])
	}
}
