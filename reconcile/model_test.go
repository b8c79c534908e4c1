package reconcile_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fraiseql/observer/reconcile"
)

// step is something that happens to a world.
type step struct {
	what string
	n    int
}

func (s step) String() string { return fmt.Sprintf("%s %d", s.what, s.n) }

func drawSteps(t *rapid.T) []step {
	whats := []string{
		"commit", "commit", "commit", "wait", "wait", "wait", "lose one in", "new life with", "stop", "kill",
		"bridge", "workers", "workers", "store away", "store back", "stream away", "stream back",
	}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{rapid.SampledFrom(whats).Draw(t, "what"), rapid.IntRange(0, 120).Draw(t, "n")}
	}), 1, 40).Draw(t, "steps")
}

// history is a world, and the verifier in it.
type history struct {
	*world
	cfg      reconcile.Config
	verifier *reconcile.Verifier
	stop     func(kill bool)
}

func (h *history) do(s step) {
	switch s.what {
	case "commit":
		h.commit(s.n)
	case "wait":
		<-time.After(time.Duration(s.n) * time.Second)
	case "stop", "kill":
		kill := s.what == "kill"
		if kill {
			h.change(func() { h.dead = true })
			<-time.After(time.Duration(s.n) * time.Second)
		}
		h.change(func() { h.storeAway = false }) // a stop that cannot save is a kill
		h.stop(kill)
		h.verifier, h.stop = h.verify(h.cfg)
	default:
		h.change(func() { h.disturb(s) })
	}
}

func (h *history) disturb(s step) {
	switch s.what {
	case "lose one in":
		h.lose(func(m message, _ bool) bool { return m.seq%uint64(s.n%7+1) == 0 })
	case "new life with":
		h.remake(uint64(s.n))
	case "bridge":
		h.publishes = s.n % 13
	case "workers":
		h.handles = s.n % 5
	case "store away", "store back":
		h.storeAway = s.what == "store away"
	case "stream away", "stream back":
		h.streamAway = s.what == "stream away"
	}
}

// TestAnyHistoryEndsWithEverythingHandled: whatever happens, in the end every
// event is handled, and what was published again is what was lost before somebody
// handled it, as often as that.
func TestAnyHistoryEndsWithEverythingHandled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		steps, problem := drawSteps(r), ""
		synctest.Test(t, func(t *testing.T) {
			w := newWorldOf(t, time.Second)
			h := &history{world: w, cfg: w.config()}
			h.cfg.Interval = 3 * time.Second
			h.verifier, h.stop = h.verify(h.cfg)
			for _, s := range steps {
				h.do(s)
			}
			h.change(func() { h.publishes, h.handles, h.storeAway, h.streamAway = 1000, 100, false, false })
			for range 100 { // eight hours, if need be
				<-time.After(5 * time.Minute)
				if h.problem() == "" && h.verifier.Stats().Since.IsZero() {
					break
				}
			}
			<-time.After(5 * time.Minute)
			h.stop(false)
			problem = h.problem()
		})
		if problem != "" {
			r.Fatalf("%s, after %v", problem, steps)
		}
	})
}
