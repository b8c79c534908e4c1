package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// maxTries is how often a question is asked at the same time, and maxDials how
	// many connections are being made.
	maxTries, maxDials = 4, 4
	// dialTimeout bounds how long one may take.
	dialTimeout = 3 * time.Second
	// minPatience and maxPatience bound how long an answer is waited for before the
	// question is asked over another connection.
	minPatience, maxPatience = 200 * time.Millisecond, time.Second
)

// line is a connection of its own for questions that have little time and must not
// wait for others. It is made when it is needed. A question that is not answered
// soon is asked over a new connection as well, and the first answer counts: the old
// connection may be dead without anybody knowing, or the server slow. So it has to
// be one that may be asked several times. A connection over which one failed is
// closed.
type line struct {
	config *pgx.ConnConfig
	health *health
	life   context.Context //nolint:containedctx // it is that of the connections, which outlive the calls that need them
	end    context.CancelFunc
	dials  chan struct{} // has room for maxDials
	tries  sync.WaitGroup

	mu     sync.Mutex
	idle   *pgx.Conn // nil: there is none, or it is in use
	closed bool
}

// newLine is a line that lasts until it is closed, whatever becomes of ctx.
func newLine(ctx context.Context, config *pgx.ConnConfig, h *health) *line {
	l := &line{config: config, health: h, dials: make(chan struct{}, maxDials)}
	l.life, l.end = context.WithCancel(context.WithoutCancel(ctx))
	return l
}

// question is what is asked over a connection. It is called concurrently.
type question[T any] func(context.Context, *pgx.Conn) (T, error)

// outcome is what a try brought. Of an old connection another one is worth it.
type outcome[T any] struct {
	is  T
	err error
	old bool
}

// ask asks a question until ctx ends.
func ask[T any](ctx context.Context, l *line, q question[T]) (none T, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan outcome[T])
	tries := 0
	begin := func(conn *pgx.Conn) {
		if tries < maxTries && l.enter() {
			tries++
			go func() {
				defer l.tries.Done()
				try(ctx, l, conn, q, answers)
			}()
		} else if conn != nil { // it is being closed
			bury(ctx, conn)
		}
	}
	conn, err := l.take()
	if err != nil {
		return none, err
	}
	begin(conn)
	next := time.NewTicker(patience(ctx))
	defer next.Stop()
	for {
		select {
		case a := <-answers:
			tries--
			_, answered := errors.AsType[*pgconn.PgError](a.err)
			switch {
			case a.err == nil || answered && !a.old:
				return a.is, a.err
			case a.old:
				begin(nil)
			}
			if tries == 0 {
				return none, a.err // the last one, or it is being closed
			}
		case <-next.C:
			begin(nil)
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
}

// patience is a third of the time there is.
func patience(ctx context.Context) time.Duration {
	end, limited := ctx.Deadline()
	if !limited {
		return maxPatience
	}
	return min(max(time.Until(end)/3, minPatience), maxPatience)
}

// try asks once, over a new connection when conn is nil.
func try[T any](ctx context.Context, l *line, conn *pgx.Conn, q question[T], answers chan<- outcome[T]) {
	a := outcome[T]{old: conn != nil}
	if conn == nil {
		conn, a.err = l.connect(ctx)
	}
	if a.err == nil && ctx.Err() == nil {
		a.is, a.err = q(ctx, conn)
	}
	if a.err == nil {
		l.put(conn) // also one that came too late for this question
	}
	select {
	case answers <- a:
	case <-ctx.Done():
	}
	if a.err != nil && conn != nil {
		// Also when the server answered: it may have become a standby. One that was too
		// late for an answer that came another way may only be slow.
		if ctx.Err() == nil {
			l.health.broke(conn)
		}
		bury(l.life, conn)
	}
}

// connect makes a connection, also when ctx ends: it may be slow, and the next
// question needs it.
func (l *line) connect(ctx context.Context) (*pgx.Conn, error) {
	select {
	case l.dials <- struct{}{}:
		defer func() { <-l.dials }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	config := l.config.Copy()
	config.ConnectTimeout = min(config.ConnectTimeout, dialTimeout)
	l.health.wire(config)
	life, cancel := context.WithTimeout(l.life, Timeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(life, config)
	if err != nil {
		return nil, err
	}
	if _, err := greet(life, conn); err != nil {
		bury(l.life, conn)
		return nil, err
	}
	return conn, nil
}

// take gives the connection there is, if any.
func (l *line) take() (*pgx.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	conn := l.idle
	l.idle = nil
	return conn, nil
}

// put keeps a connection, unless there is one.
func (l *line) put(conn *pgx.Conn) {
	l.mu.Lock()
	keep := l.idle == nil && !l.closed && !conn.IsClosed()
	if keep {
		l.idle = conn
	}
	l.mu.Unlock()
	if !keep {
		bury(l.life, conn)
	}
}

// enter reports whether a try may begin, which is then waited for.
func (l *line) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.tries.Add(1)
	}
	return !l.closed
}

// close ends what is under way, and closes the connections.
func (l *line) close() {
	l.mu.Lock()
	l.closed = true
	idle := l.idle
	l.idle = nil
	l.mu.Unlock()
	l.end()
	if idle != nil {
		bury(l.life, idle)
	}
	l.tries.Wait()
}
