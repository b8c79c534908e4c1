package postgres

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer/internal/backoff"
)

const (
	// pingAfter is for how long a connection is trusted after it was used.
	pingAfter = time.Second
	// pingTimeout is short, since the answer takes no work, and leaves time to a
	// server that is slow: when it comes too late, all connections are made anew.
	pingTimeout = 3 * time.Second
	// grace is how long those may still get an answer that wait for one while
	// another connection turns out to be dead. Then the server is asked about them,
	// several times if need be.
	grace          = 3 * time.Second
	inquiryTimeout = 3 * time.Second
	maxInquiries   = 5
	selectIdle     = `
SELECT pg_backend_pid()::bigint, ARRAY(
    SELECT p::bigint FROM unnest($1::bigint[]) AS p WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = p AND state <> 'idle'))`
	// wireKey is the key of the wire of a connection.
	wireKey = "wire"
)

// health ends connections together when one turns out to be dead. What took it
// away without a word, a firewall that forgot it or a server that is another one
// now, took the others as well, and to find that out one by one takes a timeout each.
type health struct {
	config    *pgx.ConnConfig
	life      context.Context //nolint:containedctx // it is that of what goes on besides the calls
	end       context.CancelFunc
	inquiries sync.WaitGroup

	mu    sync.Mutex
	pool  *pgxpool.Pool // nil: there is none yet, or none any more
	wires map[*wire]bool
	// generation is that of the connections that are made now. One that breaks says
	// nothing about those that were made after the others were ended.
	generation int64
}

// newHealth lasts until it is closed, whatever becomes of ctx.
func newHealth(ctx context.Context, config *pgx.ConnConfig) *health {
	h := &health{config: config, wires: map[*wire]bool{}, generation: 1}
	h.life, h.end = context.WithCancel(context.WithoutCancel(ctx))
	return h
}

// watch has a pool that is made with config tell.
func (h *health) watch(config *pgxpool.Config) {
	before := config.BeforeConnect
	config.BeforeConnect = func(ctx context.Context, c *pgx.ConnConfig) error {
		h.wire(c)
		if before != nil {
			return before(ctx, c)
		}
		return nil
	}
	config.ShouldPing, config.PingTimeout = h.isSilent, pingTimeout
	config.BeforeClose = h.closing
}

// begin is called with the pool.
func (h *health) begin(pool *pgxpool.Pool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pool = pool
}

// wire is called with the configuration of one connection. What the connection
// does later besides its calls, which is to ask the server to cancel one, ends after
// cancelTimeout: the driver does that with every connection that breaks, and would
// take 15 seconds.
func (h *health) wire(c *pgx.ConnConfig) {
	// The driver tries the addresses of the server one after the other, and may still
	// cancel what it asked of one while it is at the next.
	var connected atomic.Bool
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected.Load() {
			return dialShort(ctx, network, address, cancelTimeout)
		}
		conn, err := dialer().DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &wire{Conn: conn, forget: h.forget}, nil
	}
	c.AfterConnect = func(_ context.Context, conn *pgconn.PgConn) error {
		connected.Store(true)
		w := wireOf(conn.Conn())
		if w == nil {
			return nil // it is watched by its timeouts alone
		}
		conn.CustomData()[wireKey] = w
		h.mu.Lock()
		defer h.mu.Unlock()
		w.generation, w.pid = h.generation, conn.PID()
		h.wires[w] = true
		return nil
	}
}

func (h *health) forget(w *wire) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.wires, w)
}

// isSilent asks a connection that was not used for a while. One that does not
// answer is closed then, and the pool goes on to a new one.
func (h *health) isSilent(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	if p.IdleDuration <= pingAfter {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if p.Conn.Ping(ctx) == nil {
		return false
	}
	h.broke(p.Conn)
	return true
}

// closing is called with every connection that the pool closes.
func (h *health) closing(conn *pgx.Conn) {
	h.broke(conn)
	if conn.IsClosed() {
		bury(h.life, conn)
	}
}

// broke ends the connections as old as one that is closed although nobody closed
// it: idle ones at once, those in use when they come back. Where it was silent,
// the others that wait for an answer may wait in vain.
func (h *health) broke(conn *pgx.Conn) {
	broken, wired := conn.PgConn().CustomData()[wireKey].(*wire)
	if !conn.IsClosed() || !wired {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pool == nil || broken.generation != h.generation {
		return
	}
	h.generation++
	h.pool.Reset()
	if broken.silent.Load() {
		since := time.Now()
		h.inquiries.Go(func() { h.inquire(broken.generation, since) })
	}
}

// inquire ends connections up to a generation that have been listening since a time
// and for which the server does nothing: their answers got lost. It may take a while
// until the server can be asked.
func (h *health) inquire(generation int64, since time.Time) {
	for range maxInquiries {
		if !backoff.Wait(h.life, nil, grace) {
			return
		}
		waiting := h.waiting(generation, since)
		if len(waiting) == 0 {
			return
		}
		idle, err := h.idle(slices.Collect(maps.Keys(waiting)))
		if err != nil {
			continue
		}
		for _, pid := range idle {
			waiting[pid].abandon(since)
		}
		return
	}
}

// waiting are connections by the processes of the server that serve them.
func (h *health) waiting(generation int64, since time.Time) map[uint32]*wire {
	h.mu.Lock()
	defer h.mu.Unlock()
	waiting := map[uint32]*wire{}
	for w := range h.wires {
		if w.generation <= generation && w.listens(since) {
			waiting[w.pid] = w
		}
	}
	return waiting
}

// idle asks the server, over a new connection, which of its processes do nothing.
// A pooler does not tell them: none then.
func (h *health) idle(pids []uint32) (idle []uint32, err error) {
	ctx, cancel := context.WithTimeout(h.life, inquiryTimeout)
	defer cancel()
	config := h.config.Copy()
	h.wire(config)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	defer bury(ctx, conn)
	var me uint32
	err = conn.QueryRow(ctx, selectIdle, pgx.QueryExecModeExec, pids).Scan(&me, &idle)
	if err != nil || me != conn.PgConn().PID() {
		return nil, err
	}
	return idle, nil
}

// close ends what goes on.
func (h *health) close() {
	h.mu.Lock()
	h.pool = nil
	h.mu.Unlock()
	h.end()
	h.inquiries.Wait()
}

// bury closes a connection. The server of one that broke has cancelTimeout to end
// what it does for it: the driver waits for that for much longer, and all that time
// the connection would count. It is done to the end also when ctx ends.
func bury(ctx context.Context, conn *pgx.Conn) {
	if !conn.IsClosed() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}
	late := time.NewTimer(cancelTimeout)
	defer late.Stop()
	select {
	case <-conn.PgConn().CleanupDone():
	case <-late.C:
		_ = conn.PgConn().Conn().Close()
	}
}
