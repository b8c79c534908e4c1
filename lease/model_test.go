package lease_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// step is something that happens to a process.
type step struct {
	kind    string
	process int
	after   time.Duration // since the step before
}

func steps() *rapid.Generator[[]step] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			kind: rapid.SampledFrom([]string{
				"pause", "pause", "cut", "slow", "heal", "heal", "crash", "leave", "join", "outage", "nothing",
			}).Draw(t, "kind"),
			process: rapid.IntRange(0, 9).Draw(t, "process"),
			after:   time.Duration(rapid.SampledFrom([]int{0, 7, 300, 1000, 3000, 7000, 12000, 25000}).Draw(t, "after")) * time.Millisecond,
		}
	}), 0, 25)
}

// TestInvariant5AnyHistoryHasOneHolder runs any history of pauses, outages, slow
// answers, crashes, processes that come and go: nobody ever trusts a lease that
// somebody else trusts, and when all is well again each name has its holder.
func TestInvariant5AnyHistoryHasOneHolder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		names, history := rapid.IntRange(1, 6).Draw(rt, "names"), steps().Draw(rt, "history")
		problems := problemsIn(t, names, func(s *site) {
			living := []*member{s.join(), s.join(), s.join()}
			for _, h := range history {
				s.pass(h.after)
				living = s.happen(h, living)
			}
			for _, m := range living {
				heal(m)
			}
			s.await(2*ttl, living...)
		})
		if len(problems) > 0 {
			rt.Fatalf("history %+v:\n%s", history, strings.Join(problems, "\n"))
		}
	})
}

// happen gives the processes that live afterwards.
func (s *site) happen(h step, living []*member) []*member {
	i := h.process % len(living)
	m := living[i]
	switch h.kind {
	case "pause":
		m.link.stop()
	case "cut":
		m.link.set(func(l *link) { l.cut = true })
	case "slow":
		m.link.set(func(l *link) { l.delay = time.Second })
	case "heal":
		heal(m)
	case "outage":
		for _, m := range living {
			m.link.set(func(l *link) { l.cut = true })
		}
	case "join":
		if len(living) < 5 {
			return append(living, s.join())
		}
	case "crash", "leave":
		if len(living) == 1 {
			break
		}
		if m.stop(); h.kind == "crash" {
			m.crash()
		}
		return append(append([]*member(nil), living[:i]...), living[i+1:]...)
	}
	return living
}

func heal(m *member) {
	m.link.resume()
	m.link.set(func(l *link) { l.cut, l.delay = false, 0 })
}
