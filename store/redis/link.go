package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"

	"github.com/redis/rueidis"
)

// link makes the client when somebody needs it, and lets nobody wait for that
// beyond its own time.
type link struct {
	begin sync.Once
	ready chan struct{}
	made  rueidis.Client
	err   error

	ending sync.Once
	ended  chan struct{}
}

func newLink() *link { return &link{ready: make(chan struct{}), ended: make(chan struct{})} }

var errClosed = errors.New("the connection was closed")

func (l *link) client(ctx context.Context, options rueidis.ClientOption) (rueidis.Client, error) {
	l.begin.Do(func() { go l.make(options) })
	select {
	case <-l.ended:
		return nil, errClosed
	default:
	}
	select {
	case <-l.ready:
		return l.made, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// make connects. A client that found nobody connects when it is used.
func (l *link) make(options rueidis.ClientOption) {
	defer close(l.ready)
	if l.made, l.err = rueidis.NewClient(options); l.made != nil {
		l.err = nil
	}
}

func (l *link) close() {
	l.ending.Do(func() {
		close(l.ended)
		l.begin.Do(func() { close(l.ready) })
		<-l.ready
		if l.made != nil {
			l.made.Close()
		}
	})
}

// dial connects for as long as whoever needs the connection waits, and the
// timeout of the dialer allows.
func dial(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
	if config == nil {
		return dialer.DialContext(ctx, "tcp", address)
	}
	secure := tls.Dialer{NetDialer: dialer, Config: config}
	return secure.DialContext(ctx, "tcp", address)
}
