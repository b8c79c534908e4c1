package email

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

// goodbyeTime is how long the server may take to answer QUIT.
const goodbyeTime = time.Second

// session owns the connection of one attempt. The library does not close it
// when the dialogue fails, and cannot be interrupted: closing is done here.
type session struct {
	action *Action

	mu     sync.Mutex
	conn   net.Conn
	closed bool
}

// open connects, encrypts and signs in.
func (s *session) open(ctx context.Context) (*smtp.Client, error) {
	options := s.action.options(ctx, s.dial)
	if s.action.server.Username != "" {
		options = append(options, mail.WithSMTPAuthCustom(&signIn{session: s}))
	}
	client, err := mail.NewClient(s.action.server.Host, options...)
	if err != nil {
		return nil, fmt.Errorf("prepare session: %w", err)
	}
	return client.DialToSMTPClientWithContext(ctx)
}

// dial connects and, with implicit TLS, encrypts before the first line. The
// address that the library makes has no brackets around IPv6.
func (s *session) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	conn, err := s.action.dial(ctx, network, s.action.server.address())
	if err != nil {
		return nil, err
	}
	if err := s.own(conn); err != nil {
		return nil, err
	}
	if s.action.server.TLS != implicitTLS {
		return conn, nil
	}
	encrypted := tls.Client(conn, s.action.encryption)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("tls handshake: %w", err)
	}
	return encrypted, nil
}

// own takes charge of closing conn.
func (s *session) own(conn net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
	if s.closed {
		_ = conn.Close()
		return net.ErrClosed
	}
	return nil
}

// leave says goodbye. The server has taken the message, so whatever happens here
// changes nothing and must not take long.
func (s *session) leave(client *smtp.Client) {
	_ = client.UpdateDeadline(goodbyeTime)
	_ = client.Quit()
}

// close ends the session, also while it waits for the server.
func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn != nil {
		_ = s.conn.Close()
	}
}

// loopback reports whether the server is on this machine.
func (s *session) loopback() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	remote, ok := s.conn.RemoteAddr().(*net.TCPAddr)
	return ok && remote.IP.IsLoopback()
}
