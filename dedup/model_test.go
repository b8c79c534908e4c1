package dedup_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/store/memory"
)

// event is a step of a history.
type event struct {
	Kind    string
	After   time.Duration // since the step before
	Process int
	Key     int
	Takes   time.Duration // a handling
	Fails   bool
}

const (
	modelProcesses = 3
	modelKeys      = 6
)

func events() *rapid.Generator[event] {
	return rapid.Custom(func(t *rapid.T) event {
		return event{
			Kind: rapid.SampledFrom([]string{
				"deliver", "deliver", "deliver", "deliver", "deliver", "deliver", "down", "up", "forget",
				"cut cache", "cut state", "join", "slow", "crash",
			}).Draw(t, "kind"),
			After:   time.Duration(rapid.SampledFrom([]int{0, 0, 1, 20, 100, 300, 1000, 3000}).Draw(t, "after")) * time.Millisecond,
			Process: rapid.IntRange(0, modelProcesses-1).Draw(t, "process"),
			Key:     rapid.IntRange(0, modelKeys-1).Draw(t, "key"),
			Takes:   time.Duration(rapid.SampledFrom([]int{0, 1, 50, 400, 2000}).Draw(t, "takes")) * time.Millisecond,
			Fails:   rapid.IntRange(0, 4).Draw(t, "fails") == 0,
		}
	})
}

type finishedBy struct {
	process *process
	at      time.Time
}

// model runs a history and knows what really happened.
type model struct {
	t         *testing.T
	cache     *cache
	shared    *memory.Store
	processes []*process
	cancels   []context.CancelFunc
	lives     []context.Context
	working   sync.WaitGroup
	deaths    int

	mu     sync.Mutex
	number int
	busy   map[int]int
	done   map[int]bool
	wanted map[int]bool
	// lost are keys whose handling died: they may be handled once more.
	lost map[int]bool
	// finished is when keys were, and by whom.
	finished map[int]finishedBy
	problems []string
}

func newModel(t *testing.T) *model {
	t.Helper()
	m := &model{
		t: t, cache: newCache(), shared: memory.New(memory.Config{}),
		busy: map[int]int{}, done: map[int]bool{}, wanted: map[int]bool{}, lost: map[int]bool{}, finished: map[int]finishedBy{},
	}
	m.processes, m.cancels, m.lives = make([]*process, modelProcesses), make([]context.CancelFunc, modelProcesses), make([]context.Context, modelProcesses)
	for i := range m.processes {
		m.start(i)
	}
	return m
}

func (m *model) start(i int) {
	m.deaths++
	m.processes[i] = newProcess(fmt.Sprintf("%d of life %d", i, m.deaths), m.cache, m.shared)
	life, cancel := context.WithCancel(m.t.Context())
	m.lives[i], m.cancels[i] = life, cancel //nolint:fatcontext // one of each process
}

// crash ends a process in the middle of everything. What it finished in the last
// moment may not be in the state store yet, and is lost when the cache forgets as
// well: that is beyond what is promised.
func (m *model) crash(i int) {
	m.cancels[i]()
	m.processes[i].network.cut(true, true)
	p := m.processes[i]
	m.mu.Lock()
	for key, f := range m.finished {
		if f.process == p && time.Since(f.at) < time.Second {
			m.lost[key] = true
		}
	}
	m.mu.Unlock()
	m.working.Go(func() { _ = p.Close() })
	m.start(i)
}

func (m *model) run(history []event) []string {
	for _, e := range history {
		<-time.After(e.After)
		m.step(e)
	}
	<-time.After(time.Minute) // leases and sessions that are nobody's end
	m.heal()
	for key := range modelKeys {
		if m.wants(key) {
			m.deliver(0, key, 0, false, true)
			m.deliver(1, key, 0, false, true)
		}
	}
	m.working.Wait()
	for i, p := range m.processes {
		m.cancels[i]()
		if err := p.Close(); err != nil {
			m.problem("close: %v", err)
		}
	}
	for key := range m.wanted {
		if !m.done[key] {
			m.problem("%d was lost", key)
		}
	}
	return m.problems
}

func (m *model) heal() {
	m.cache.setDown(false)
	for _, p := range m.processes {
		p.network.cut(false, false)
	}
}

func (m *model) step(e event) {
	p := m.processes[e.Process]
	switch e.Kind {
	case "deliver":
		m.mu.Lock()
		m.wanted[e.Key] = true
		m.mu.Unlock()
		m.deliver(e.Process, e.Key, e.Takes, e.Fails, false)
	case "down":
		m.cache.setDown(true)
	case "up":
		m.cache.setDown(false)
	case "forget":
		m.cache.forget()
	case "cut cache":
		p.network.cut(true, false)
	case "cut state":
		// For less than a session: what a process does that is away for longer,
		// others may do as well.
		p.network.cut(false, true)
		<-time.After(e.Takes)
		p.network.cut(false, false)
	case "join":
		p.network.cut(false, false)
	case "slow":
		p.network.mu.Lock()
		p.network.delay = e.Takes / 4
		p.network.mu.Unlock()
	case "crash":
		m.crash(e.Process)
	}
}

// deliver is what the middleware does.
func (m *model) deliver(i, key int, takes time.Duration, fails, last bool) {
	p, ctx := m.processes[i], m.lives[i]
	m.mu.Lock()
	m.number++
	c := observer.DedupClaim{Key: strconv.Itoa(key), Owner: fmt.Sprintf("%d-%d", i, m.number)}
	m.mu.Unlock()
	m.working.Go(func() {
		for ctx.Err() == nil {
			answer, err := p.ClaimDedup(ctx, c, 30*time.Second)
			switch {
			case err == nil && answer.Standing == observer.DedupDone:
				return
			case err == nil && answer.Standing == observer.DedupClaimed:
				m.handle(ctx, p, c, takes, fails)
				return
			case !last && err == nil:
				return // somebody handles it
			}
			<-time.After(50 * time.Millisecond)
		}
	})
}

func (m *model) handle(ctx context.Context, p *process, c observer.DedupClaim, takes time.Duration, fails bool) {
	key, _ := strconv.Atoi(c.Key)
	m.begin(key)
	select {
	case <-time.After(takes):
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		m.end(key, false)
		return
	}
	m.end(key, !fails)
	if fails {
		_ = p.ReleaseDedup(ctx, c)
		return
	}
	if err := p.FinishDedup(ctx, observer.DedupMark{Key: c.Key, Keep: time.Hour}); err != nil {
		m.mu.Lock()
		m.lost[key] = true // it died before anybody knew
		m.mu.Unlock()
		return
	}
	m.mu.Lock()
	m.finished[key] = finishedBy{p, time.Now()}
	m.mu.Unlock()
}

func (m *model) begin(key int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy[key]++; m.busy[key] > 1 {
		m.problems = append(m.problems, fmt.Sprintf("%d was handled by two at once", key))
	}
	if m.done[key] && !m.lost[key] {
		m.problems = append(m.problems, fmt.Sprintf("%d was handled again", key))
	}
}

func (m *model) end(key int, done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy[key]--
	m.done[key] = m.done[key] || done
}

func (m *model) wants(key int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wanted[key]
}

func (m *model) problem(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

// Invariant 8: whatever happens to the fast store, to the ways there and to the
// processes, nothing is lost, nothing is handled twice, and nothing by two at
// once.
func TestInvariant8AnyHistoryOfOutagesHandlesEachDeliveryOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		history := rapid.SliceOfN(events(), 1, 60).Draw(rt, "history")
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = newModel(t).run(history) })
		for _, p := range problems {
			rt.Error(p)
		}
	})
}
