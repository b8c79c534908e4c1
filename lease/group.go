package lease

import (
	"context"
	"crypto/rand"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// The defaults of [Config].
const (
	// DefaultTTL is how long a lease runs when it is not renewed.
	DefaultTTL = 10 * time.Second
	// DefaultPoll is how often a member looks for what is free.
	DefaultPoll = 500 * time.Millisecond
)

// Config says what to share. Fields are required unless they have a default.
type Config struct {
	Store observer.LeaseStore
	// Holder names this process to people. The group adds what makes it unique.
	Holder string
	// Prefix begins the names of all leases of the group, such as "database/".
	Prefix string
	// Names lists what is shared, without the prefix. It is called at every poll
	// and must be quick. All members should list the same.
	Names func() []string
	// TTL is how long a lease runs when it is not renewed: what a process held
	// that died is free after it. [DefaultTTL] when zero. All members should have
	// the same.
	TTL time.Duration
	// Poll is the longest time between two looks for what is free; [DefaultPoll]
	// when zero.
	Poll time.Duration
	// Retry says for how long to leave a name to others that could not be run; the
	// zero value waits a second after the first failure, and up to a minute.
	Retry  backoff.Policy
	Logger *slog.Logger
}

// RunFunc works on a name for as long as this process holds it. ctx ends when the
// name is to be given back: what is under way may be finished then, the lease is
// renewed and kept until RunFunc returns. When the lease is lost the cause of ctx
// matches [observer.ErrFenced], and nothing may be done any more; when ctx had
// ended before, only h tells. A RunFunc that
// returns before its ctx ended failed, whatever it returns: somebody else may try.
type RunFunc func(ctx context.Context, name string, h *Held) error

// Group is one member of a group of processes that share names. Make one with
// [New].
type Group struct {
	cfg    Config
	holder string
	kick   chan struct{} // asks for a renewal
	tasks  sync.WaitGroup

	mu        sync.Mutex
	tenancies map[string]*tenancy // by name, until they are released
	failed    map[string]failure  // by name
	member    *tenancy            // nil while this process is no member
	seen      view
	// orphans are free names, since when they are seen to be; kept are those that
	// this member took although they are above its share, until the members change.
	orphans map[string]time.Time
	kept    map[string]bool
	away    bool // the last look for what is free failed
	// settled is from when on a lease counts as free that ran out: when the store
	// was away, others may just be about to renew theirs.
	settled time.Time
	standby bool // it was logged that nothing is left for this process
}

// failure is what is known about a name that could not be run.
type failure struct {
	count int
	until time.Time
}

// New makes a member, which does nothing before [Group.Run].
func New(cfg Config) *Group {
	if cfg.TTL <= 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.Poll <= 0 {
		cfg.Poll = DefaultPoll
	}
	if cfg.Retry == (backoff.Policy{}) {
		cfg.Retry = backoff.Policy{Initial: time.Second, Max: time.Minute}
	}
	return &Group{
		cfg: cfg, holder: cfg.Holder + "/" + rand.Text()[:8], kick: make(chan struct{}, 1),
		tenancies: map[string]*tenancy{}, failed: map[string]failure{}, orphans: map[string]time.Time{}, kept: map[string]bool{},
	}
}

// Holder is the name under which this member holds leases.
func (g *Group) Holder() string { return g.holder }

// window is for how long a lease is trusted. The rest is for clocks that do not
// run equally fast.
func (g *Group) window() time.Duration { return g.cfg.TTL - g.cfg.TTL/5 }

// Run takes its share of the names, has run called for each in a goroutine of its
// own, and returns nil after ctx ended, all of them returned and everything was
// given back. A store that is away is waited for. It may be called once.
func (g *Group) Run(ctx context.Context, run RunFunc) error {
	lasting, end := context.WithCancel(context.WithoutCancel(ctx))
	var renewing sync.WaitGroup
	renewing.Go(func() { g.keepRenewing(lasting) })
	for {
		g.poll(ctx, run)
		// Several members that wait for the same do not come all at once.
		if !backoff.Wait(ctx, nil, g.cfg.Poll-mathrand.N(g.cfg.Poll/5+1)) { //nolint:gosec // spreading load needs no secrecy
			break
		}
	}
	g.tasks.Wait()
	g.leave(lasting)
	end()
	renewing.Wait()
	return nil
}

// poll looks at what there is, and takes or gives back what it has to.
func (g *Group) poll(ctx context.Context, run RunFunc) {
	v, err := g.look(ctx)
	if err != nil {
		g.noteAway(ctx, err)
		return
	}
	g.noteSeen(v)
	if err := g.enrol(ctx, v); err != nil && ctx.Err() == nil {
		g.cfg.Logger.Warn("lease of a member cannot be had; trying again", "group", g.cfg.Prefix, "error", err)
	}
	g.giveBack(v)
	g.take(ctx, v, run)
	g.noteStanding()
}

// ask has the leases renewed now.
func (g *Group) ask() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// bounded has a question to the store end before it is too late for another one.
func (g *Group) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, g.cfg.TTL/3)
}

func (g *Group) noteAway(ctx context.Context, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.away && ctx.Err() == nil {
		g.away = true
		g.cfg.Logger.Warn("leases cannot be read; trying again", "group", g.cfg.Prefix, "error", err)
	}
}

func (g *Group) noteSeen(v view) {
	g.mu.Lock()
	defer g.mu.Unlock()
	// Those who hold leases renew them that often that a shorter time lets none run
	// out.
	if last := g.seen.at; !last.IsZero() && v.at.Sub(last) >= g.cfg.TTL/2 {
		g.settled = v.at.Add(g.cfg.TTL/3 + g.cfg.Poll)
	}
	g.noteOrphans(v)
	g.seen = v
	if g.away {
		g.away = false
		g.cfg.Logger.Info("leases can be read again", "group", g.cfg.Prefix)
	}
}

// noteStanding logs when there is nothing for this member, and when there is
// again.
func (g *Group) noteStanding() {
	g.mu.Lock()
	defer g.mu.Unlock()
	standby := len(g.tenancies) == 0 && len(g.seen.names) > 0
	if standby && !g.standby {
		g.cfg.Logger.Info("standing by", "group", g.cfg.Prefix, "holder", g.holder, "members", g.seen.members)
	}
	g.standby = standby
}
