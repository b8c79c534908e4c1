//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

const (
	// headFloor is by how much the 99th percentiles may differ besides 10%: they
	// are some milliseconds each, and differ by more than that from themselves.
	// Waiting behind the endpoint that hangs costs half a second and more.
	headFloor = 50 * time.Millisecond
	// headTries is how often a measurement that a busy machine may have spoiled
	// is made. One that waits is slow every time.
	headTries = 4

	headEndpoints = 20
	headChanges   = 400
	headRate      = 100 // changes a second
)

// TestHeadOfLine runs the same load on two daemons at the same time, so that the
// machine is equally busy for both. They send to 20 endpoints; one of those hangs
// for one of the daemons, from the first request to the end. Once the daemon has
// seen that, the changes for the other 19 arrive as fast as with the other
// daemon. Before, when the first request is held, a lane waits for it for
// inline_budget.
func TestHeadOfLine(t *testing.T) {
	t.Parallel()
	onEach(t, headOfLine)
}

func headOfLine(t *testing.T, on flavour) {
	t.Helper()
	alone, beside := newSpread(t, on, false), newSpread(t, on, true)
	slowly(t, "the endpoint is found to hang", func() bool { return beside.states()[observer.Running] == 1 })
	for try := 1; ; try++ {
		var both sync.WaitGroup
		for _, s := range []*spread{alone, beside} {
			both.Go(s.load)
		}
		both.Wait()
		without, with := alone.percentile(), beside.percentile()
		t.Logf("p99 from commit to receipt: %s without an endpoint that hangs, %s with one", without, with)
		most := without + without/10 + headFloor
		if with <= most {
			break
		}
		if try == headTries {
			t.Fatalf("p99 is %s beside an endpoint that hangs, want at most %s: it is %s without", with, most, without)
		}
	}
	beside.stillHangs()
	alone.stop()
}

// spread is a site with an observer and an endpoint for every kind of note.
type spread struct {
	*site

	shop      *shop
	recv      *receiver
	committed map[int64]time.Time // by version
	loads     int
	seen      int // how many requests to the others belong to earlier loads
}

func headName(n int) string { return fmt.Sprintf("e%02d", n) }

func newSpread(t *testing.T, on flavour, hangs bool) *spread {
	t.Helper()
	s := &spread{committed: map[int64]time.Time{}}
	s.recv = newReceiver(t, func(r receipt) int {
		if hangs && strings.HasSuffix(r.path, headName(0)) {
			s.recv.hold(nil)
		}
		return http.StatusOK
	})
	var text strings.Builder
	for n := range headEndpoints {
		text.WriteString(hook(headName(n), s.recv.url(), fmt.Sprintf("condition = 'data.note == %q'", headName(n))))
	}
	s.site = on.newSite(t, text.String())
	s.shop = newShop(s.site)
	s.start()
	s.shop.putNoted(1, headName(0))
	eventually(t, "the first request arrives", func() bool { return len(s.recv.receipts()) == 1 })
	return s
}

// load commits changes for all endpoints in turn, of several entities each.
func (s *spread) load() {
	s.loads++
	tick := time.NewTicker(time.Second / headRate)
	defer tick.Stop()
	for n := range headChanges {
		<-tick.C
		at := time.Now()
		s.shop.putNoted(int64(2+n%(7*headEndpoints)), headName(n%headEndpoints))
		s.committed[s.shop.versions] = at
	}
}

// others are the receipts of changes of the load that are not for the endpoint
// that may hang.
func (s *spread) others() []receipt {
	return slices.DeleteFunc(s.recv.receipts(), func(r receipt) bool { return strings.HasSuffix(r.path, headName(0)) })
}

func (s *spread) percentile() time.Duration {
	s.t.Helper()
	want := s.loads * headChanges / headEndpoints * (headEndpoints - 1)
	slowly(s.t, "the changes for the others arrive", func() bool { return len(s.others()) >= want })
	var took []time.Duration
	for _, r := range s.others()[s.seen:] {
		took = append(took, r.at.Sub(s.committed[r.change.version]))
	}
	if s.seen += len(took); s.seen != want {
		s.t.Errorf("%d requests to the others, want %d", s.seen, want)
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// stillHangs: what is for that endpoint is stored, and none of it is lost.
func (s *spread) stillHangs() {
	s.t.Helper()
	if s.recv.count(func(r receipt) bool { return strings.HasSuffix(r.path, headName(0)) && r.status != 0 }) > 0 {
		s.t.Error("the endpoint has answered, so the test shows nothing")
	}
	want := s.loads*headChanges/headEndpoints + 1
	if n := s.waiting(); n != want {
		s.t.Errorf("%d deliveries are stored and unfinished, want the %d for the endpoint that hangs", n, want)
	}
}
