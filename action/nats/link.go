package nats

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/internal/connection"
)

// connectTime bounds each step of connecting to one server.
const connectTime = 10 * time.Second

// link is a connection and who waits for something on it.
type link struct {
	conn *client.Conn
	js   jetstream.JetStream

	mu      sync.Mutex
	waiting map[*wait]bool
}

// wait is somebody who waits for the acknowledgment of a message.
type wait struct {
	subject string
	end     context.CancelCauseFunc
}

var errLost = errors.New("the connection was lost")

func (l *link) alive() bool { return !l.conn.IsClosed() }
func (l *link) close()      { l.conn.Close() }

// await gives a context that also ends when no acknowledgment can come any more:
// the connection is lost, or the server refused the subject, which it only says
// on the side.
func (l *link) await(ctx context.Context, subject string) (context.Context, func()) {
	ctx, end := context.WithCancelCause(ctx)
	w := &wait{subject, end}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting[w] = true
	return ctx, func() {
		l.mu.Lock()
		delete(l.waiting, w)
		l.mu.Unlock()
		end(nil)
	}
}

func (l *link) endWaits(cause error, concerns func(subject string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.waiting {
		if concerns(w.subject) {
			w.end(cause)
		}
	}
}

func (l *link) complained(_ *client.Conn, _ *client.Subscription, err error) {
	if errors.Is(err, client.ErrPermissionViolation) {
		l.endWaits(err, func(subject string) bool { return concerns(err, subject) })
	}
}

// refusal is what the server said last, if it was that it refuses subject.
func (l *link) refusal(subject string) error {
	if err := l.conn.LastError(); errors.Is(err, client.ErrPermissionViolation) && concerns(err, subject) {
		return err
	}
	return nil
}

func concerns(refusal error, subject string) bool {
	return strings.Contains(refusal.Error(), `"`+subject+`"`)
}

func (l *link) closed(*client.Conn) {
	l.endWaits(errLost, func(string) bool { return true })
}

// opener makes links.
type opener struct {
	servers []string
	options []client.Option
	dial    connection.Dial
}

// dialer is a [client.CustomDialer].
type dialer func(network, address string) (net.Conn, error)

// Dial connects.
func (d dialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

// open connects. The library has no context for that, so the end of ctx ends
// the connections that it makes meanwhile.
func (o opener) open(ctx context.Context) (*link, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conns := connection.NewTracker(o.dial)
	var undialed error // which the library would not tell
	options := append([]client.Option{
		client.SetCustomDialer(dialer(func(network, address string) (net.Conn, error) {
			conn, err := conns.DialContext(ctx, network, address)
			if err != nil {
				undialed = err
			}
			return conn, err
		})),
	}, o.options...)
	l := &link{waiting: map[*wait]bool{}}
	options = append(options, client.ErrorHandler(l.complained), client.ClosedHandler(l.closed))
	stop := context.AfterFunc(ctx, conns.Cut)
	defer stop()
	conn, err := client.Connect(strings.Join(o.servers, ","), options...)
	if err != nil {
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case undialed != nil && errors.Is(err, client.ErrNoServers):
			err = undialed
		}
		return nil, err
	}
	l.conn = conn
	if l.js, err = jetstream.New(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}
