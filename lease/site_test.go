package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/lease"
	"github.com/fraiseql/observer/store/memory"
)

const (
	ttl  = 10 * time.Second
	poll = 500 * time.Millisecond
)

// errCut is the error of a store that cannot be reached.
var errCut = errors.New("connection refused")

// link is the state store as one process reaches it.
type link struct {
	*memory.Store
	mu    sync.Mutex
	cut   bool
	stuck chan struct{} // nothing goes through, either way, until it is closed
	delay time.Duration // each way
	lost  bool          // answers to questions for a lease do not arrive
}

func (l *link) set(change func(*link)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

// stop has nothing go through until resume, as when the process is paused.
func (l *link) stop() {
	l.set(func(l *link) {
		if l.stuck == nil {
			l.stuck = make(chan struct{})
		}
	})
}

func (l *link) resume() {
	l.set(func(l *link) {
		if l.stuck != nil {
			close(l.stuck)
			l.stuck = nil
		}
	})
}

// pass is one way through. A process that is paused while an answer is on its way
// finds that when it goes on, before it sees that the deadline is over.
func (l *link) pass(ctx context.Context, back bool) error {
	deadline := ctx.Done()
	if back {
		deadline = nil
	}
	l.mu.Lock()
	delay := l.delay
	l.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.mu.Lock()
	cut, stuck := l.cut, l.stuck
	l.mu.Unlock()
	if cut {
		return errCut
	}
	if stuck != nil {
		select {
		case <-stuck:
		case <-deadline:
			return ctx.Err()
		}
	}
	return nil
}

// through makes a call, of which the answer can be lost.
func through[T any](ctx context.Context, l *link, call func() (T, error)) (answer T, err error) {
	if err := l.pass(ctx, false); err != nil {
		return answer, err
	}
	got, callErr := call()
	if err := l.pass(ctx, true); err != nil {
		return answer, err
	}
	return got, callErr
}

func (l *link) AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (observer.Lease, error) {
	answer, err := through(ctx, l, func() (observer.Lease, error) {
		return l.Store.AcquireLease(context.WithoutCancel(ctx), name, holder, ttl)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost {
		return observer.Lease{}, errCut
	}
	return answer, err
}

func (l *link) RenewLeases(ctx context.Context, ttl time.Duration, leases ...observer.Lease) ([]observer.Lease, error) {
	return through(ctx, l, func() ([]observer.Lease, error) {
		return l.Store.RenewLeases(context.WithoutCancel(ctx), ttl, leases...)
	})
}

func (l *link) ReleaseLease(ctx context.Context, lease observer.Lease) error {
	_, err := through(ctx, l, func() (struct{}, error) {
		return struct{}{}, l.Store.ReleaseLease(context.WithoutCancel(ctx), lease)
	})
	return err
}

func (l *link) Leases(ctx context.Context, prefix string) ([]observer.Lease, error) {
	return through(ctx, l, func() ([]observer.Lease, error) { return l.Store.Leases(context.WithoutCancel(ctx), prefix) })
}

// member is a process.
type member struct {
	id    int
	site  *site
	group *lease.Group
	link  *link
	stop  context.CancelFunc
	done  chan struct{}

	mu     sync.Mutex
	held   map[string]*lease.Held // what runs, by name
	ever   []*lease.Held          // what ran
	causes map[string]error       // why the last run of a name ended
	fails  map[string]bool        // what it cannot run
	lasts  time.Duration          // how long a run goes on when it is to end
	runs   int                    // how many it began
}

// site is all processes, and what they share.
type site struct {
	*testing.T
	store   *memory.Store
	mu      sync.Mutex
	names   []string
	members []*member
	// problems are what never may be.
	problems []string
}

// inSite runs a test in a bubble. All processes have ended at its end.
func inSite(t *testing.T, names int, test func(s *site)) {
	t.Helper()
	for _, problem := range problemsIn(t, names, test) {
		t.Error(problem)
	}
}

func problemsIn(t *testing.T, names int, test func(s *site)) (problems []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &site{T: t, store: memory.New(memory.Config{})}
		s.share(names)
		watching := make(chan struct{})
		go s.watch(watching)
		test(s)
		s.end()
		watching <- struct{}{}
		problems = s.problems
	})
	return problems
}

func (s *site) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = append(s.problems, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

func (s *site) share(names int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = nil
	for i := range names {
		s.names = append(s.names, fmt.Sprint("shop-", i))
	}
}

func (s *site) shared() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names
}

func (s *site) all() []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*member(nil), s.members...)
}

// join starts a process.
func (s *site) join() *member {
	ctx, stop := context.WithCancel(s.Context())
	m := &member{
		id: len(s.members), site: s, link: &link{Store: s.store}, stop: stop, done: make(chan struct{}),
		held: map[string]*lease.Held{}, causes: map[string]error{}, fails: map[string]bool{},
	}
	m.group = lease.New(lease.Config{
		Store: m.link, Holder: fmt.Sprint("host/", m.id), Prefix: "database/", Names: s.shared, Logger: slog.New(slog.DiscardHandler),
	})
	s.mu.Lock()
	s.members = append(s.members, m)
	s.mu.Unlock()
	go func() {
		defer close(m.done)
		if err := m.group.Run(ctx, m.run); err != nil {
			s.problem("%d: %v", m.id, err)
		}
	}()
	return m
}

func (m *member) run(ctx context.Context, name string, h *lease.Held) error {
	m.mu.Lock()
	m.runs++
	fails, lasts := m.fails[name], m.lasts
	if !fails {
		if m.held[name] != nil {
			m.site.problem("%d runs %s twice", m.id, name)
		}
		m.held[name] = h
		m.ever = append(m.ever, h)
	}
	m.mu.Unlock()
	if fails {
		return errors.New("cannot be run")
	}
	<-ctx.Done()
	if lasts > 0 {
		select {
		case <-time.After(lasts):
		case <-h.Lost():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, name)
	m.causes[name] = context.Cause(ctx)
	return nil
}

// will changes how the process behaves.
func (m *member) will(change func(*member)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

// began is how many runs it began.
func (m *member) began() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runs
}

// holds are the names that the process runs, and knows that it may.
func (m *member) holds() map[string]*lease.Held {
	m.mu.Lock()
	defer m.mu.Unlock()
	valid := map[string]*lease.Held{}
	for name, h := range m.held {
		if h.Valid() {
			valid[name] = h
		}
	}
	return valid
}

// trusts are the leases that the process knows it has, used or not.
func (m *member) trusts() (valid []*lease.Held) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.ever {
		if h.Valid() {
			valid = append(valid, h)
		}
	}
	return valid
}

// crash ends a process as a kill does: nothing of it reaches the store.
func (m *member) crash() {
	m.link.set(func(l *link) { l.cut = true })
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held, m.ever = map[string]*lease.Held{}, nil
	m.stop()
}

// leave ends a process and waits for it.
func (m *member) leave() {
	m.stop()
	<-m.done
}

// end ends all processes.
func (s *site) end() {
	for _, m := range s.all() {
		m.link.resume()
		m.stop()
	}
	for _, m := range s.all() {
		<-m.done
	}
}

// watch holds, every 5 ms, that nobody trusts a lease that somebody else trusts.
func (s *site) watch(end <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.checkAlone()
		case <-end:
			return
		}
	}
}

func (s *site) checkAlone() {
	by := map[string]*member{}
	for _, m := range s.all() {
		for _, h := range m.trusts() {
			if other := by[h.Name()]; other != nil {
				s.problem("both %d and %d trust %s (term %d)", other.id, m.id, h.Name(), h.Term())
			}
			by[h.Name()] = m
		}
	}
}

// pass lets time pass.
func (s *site) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// until waits for something that has to come about.
func (s *site) until(what string, holds func() bool) {
	for end := time.Now().Add(time.Minute); !holds(); s.pass(time.Millisecond) {
		if time.Now().After(end) {
			s.problem("it did not come about that %s", what)
			return
		}
	}
}

// balanced reports what keeps each name from being held by one of members, and
// each of them from holding its share at most.
func (s *site) balanced(members ...*member) error {
	names := s.shared()
	share := (len(names) + len(members) - 1) / len(members)
	held := 0
	for _, m := range members {
		n := len(m.holds())
		if n > share {
			return fmt.Errorf("%d holds %d of %d names, its share is %d", m.id, n, len(names), share)
		}
		held += n
	}
	if held != len(names) {
		return fmt.Errorf("%d of %d names are held", held, len(names))
	}
	return nil
}

// await gives the time until members are balanced.
func (s *site) await(limit time.Duration, members ...*member) time.Duration {
	began := time.Now()
	for {
		err := s.balanced(members...)
		took := time.Since(began)
		if err == nil {
			return took
		}
		if took > limit {
			s.problem("not balanced after %s: %v", took, err)
			return took
		}
		s.pass(10 * time.Millisecond)
	}
}
