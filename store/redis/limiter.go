package redis

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

const (
	// DefaultLimiterLease is the default of [LimiterConfig].Lease.
	DefaultLimiterLease = 15 * time.Second
	// DefaultLimiterPatience is the default of [LimiterConfig].Patience.
	DefaultLimiterPatience = 250 * time.Millisecond
	// limiterPause is how long a server that failed is not asked again. Then one
	// caller finds out whether it is back, and nobody else waits for it.
	limiterPause = time.Second

	limitsPrefix = "fraiseql:limits:"
)

// LimiterConfig bounds a limiter. The zero value of a field is its default.
type LimiterConfig struct {
	// Lease is how long the slots of a process that died stay taken. Those of one
	// that lives are kept for as long as it needs them.
	Lease time.Duration
	// Patience is how long an answer may take.
	Patience time.Duration
	// Changed is told when the server can no longer be asked, with the error, and
	// when it can be again, with nil. It is called by whoever finds out; nil tells
	// nobody.
	Changed func(err error)
}

// Limiter counts the turns at endpoints, for all processes that use the same
// database of the same server: slots, of which an attempt holds one while it
// runs, and tokens, of which it takes one to begin. The server's clock counts.
// Make one with [NewLimiter] and end it with [Limiter.Close].
//
// Nobody waits for a server that is away: the turn is then given without it, and
// what holds slots meanwhile is entered when the server is back.
type Limiter struct {
	client *Client
	cfg    LimiterConfig
	owner  string
	turns  atomic.Int64

	// away is when a server that failed is asked again, in nanoseconds; 0 while it
	// answers.
	away atomic.Int64
	// keeping is held while slots are entered, and shared by whoever frees one: a
	// slot must not be entered after it was freed.
	keeping sync.RWMutex

	mu      sync.Mutex
	slots   map[string]*slot
	running bool // something keeps the slots
	closed  bool
	ended   chan struct{}
	keeper  sync.WaitGroup
}

// Turn is what an attempt asks for.
type Turn struct {
	Endpoint string
	// MaxConcurrent is how many attempts run at once; 0 is no limit.
	MaxConcurrent int
	// Rate is how many begin in a second, on average; 0 is no limit. Burst is how
	// many may begin at once after a pause, one at least.
	Rate  float64
	Burst int
	// Ahead is how long the attempt can wait for a token that it has been given,
	// a second at most.
	Ahead time.Duration
	// Starved says that this process has asked for a slot in vain for long. It then
	// goes before those that have not.
	Starved bool
}

// Grant is the answer to a [Turn].
type Grant struct {
	// OK: the turn was given. [Limiter.Give] gives it back.
	OK bool
	// Wait is how long to wait before the attempt begins, when the turn was given,
	// and else before asking again can help: 0 when all slots are taken, and nobody
	// knows for how long.
	Wait time.Duration

	key, slot string
	interval  int64 // what the token is worth, 0 without
}

// NewLimiter makes a limiter on the server of c. It connects to nobody yet.
func NewLimiter(c *Client, cfg LimiterConfig) *Limiter {
	if cfg.Lease <= 0 {
		cfg.Lease = DefaultLimiterLease
	}
	if cfg.Patience <= 0 {
		cfg.Patience = DefaultLimiterPatience
	}
	if cfg.Changed == nil {
		cfg.Changed = func(error) {}
	}
	return &Limiter{client: c, cfg: cfg, owner: rand.Text(), slots: map[string]*slot{}, ended: make(chan struct{})}
}

// limitKey is what the keys of an endpoint begin with. An endpoint may be long,
// and nobody else's business.
func limitKey(endpoint string) string {
	sum := sha256.Sum256([]byte(endpoint))
	return limitsPrefix + "{" + hex.EncodeToString(sum[:16]) + "}:"
}

func bucketOf(key string) string  { return key + "rate" }
func slotsOf(key string) string   { return key + "slots" }
func starvedOf(key string) string { return key + "starved" }

// Take asks for a turn. An error says that the server does not answer, and the
// turn is given then too. What is asked for is not given up when ctx ends, and
// takes no longer than the limiter is patient.
func (l *Limiter) Take(ctx context.Context, t Turn) (Grant, error) {
	g := Grant{key: limitKey(t.Endpoint)}
	if t.MaxConcurrent > 0 {
		g.slot = l.owner + "." + strconv.FormatInt(l.turns.Add(1), 36)
	}
	if t.Rate > 0 {
		g.interval = int64(math.Ceil(1e6 / t.Rate))
	}
	keys := []string{bucketOf(g.key), slotsOf(g.key), starvedOf(g.key)}
	args := []string{
		g.slot, l.owner, strconv.Itoa(max(t.MaxConcurrent, 0)), millis(l.cfg.Lease), strconv.FormatInt(g.interval, 10),
		strconv.Itoa(max(t.Burst, 1)), strconv.FormatInt(t.Ahead.Microseconds(), 10), "0",
	}
	if t.Starved {
		args[len(args)-1] = "1"
	}
	var answer []int64
	err := l.do(ctx, func(ctx context.Context, client rueidis.Client) (err error) {
		answer, err = l.client.scripts.take.Exec(ctx, client, keys, args).AsIntSlice()
		if err == nil && len(answer) != 2 {
			err = fmt.Errorf("%d numbers for an answer", len(answer))
		}
		return err
	})
	if err != nil {
		g.OK, g.interval = true, 0
		// An answer that did not come in time may have given the slot.
		l.hold(ctx, g, !errors.Is(err, errPaused))
		return g, fmt.Errorf("take a turn: %w", err)
	}
	g.OK, g.Wait = answer[0] == 1, time.Duration(answer[1])*time.Microsecond
	if g.OK {
		l.hold(ctx, g, true)
	}
	return g, nil
}

// Give ends a turn that was given. used says that the attempt was made; else its
// token is given back.
func (l *Limiter) Give(ctx context.Context, g Grant, used bool) {
	entered := l.free(g.slot)
	if !entered && (used || g.interval == 0) {
		return // the server does not know of it
	}
	err := l.do(ctx, func(ctx context.Context, client rueidis.Client) error {
		l.keeping.RLock()
		defer l.keeping.RUnlock()
		if used || g.interval == 0 {
			return client.Do(ctx, client.B().Zrem().Key(slotsOf(g.key)).Member(g.slot).Build()).Error()
		}
		keys, args := []string{bucketOf(g.key), slotsOf(g.key)}, []string{g.slot, strconv.FormatInt(g.interval, 10)}
		return l.client.scripts.back.Exec(ctx, client, keys, args).Error()
	})
	if err != nil && entered {
		l.lose(g)
	}
}

// do has a call made within the time that a limiter has, unless the server failed
// a moment ago.
func (l *Limiter) do(ctx context.Context, call func(ctx context.Context, client rueidis.Client) error) error {
	if away := l.away.Load(); away != 0 {
		now := time.Now()
		if now.UnixNano() < away || !l.away.CompareAndSwap(away, now.Add(limiterPause).UnixNano()) {
			return errPaused
		}
		if err := l.try(ctx, l.enter); err != nil {
			return err
		}
		l.changed(nil)
	}
	return l.try(ctx, call)
}

func (l *Limiter) try(ctx context.Context, call func(ctx context.Context, client rueidis.Client) error) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.Patience)
	defer cancel()
	err := l.client.do(limited, call)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%s gave no answer within %s", l.client.place, l.cfg.Patience)
	}
	if err != nil {
		l.changed(err)
	}
	return err
}

// changed notes whether the server answers, and tells of it when that is new.
func (l *Limiter) changed(err error) {
	if err == nil {
		if l.away.Swap(0) != 0 {
			l.cfg.Changed(nil)
		}
		return
	}
	if l.away.Swap(time.Now().Add(limiterPause).UnixNano()) == 0 {
		l.cfg.Changed(err)
	}
}
