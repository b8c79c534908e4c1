package email

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/internal/tlstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "s3cret-password"

// mailServer is an SMTP server that keeps what it accepts.
type mailServer struct {
	t      *testing.T
	listen net.Listener
	cert   *tls.Config
	// certificates are those of a client: of the authority, and the one it may show.
	certificates outbound.TLS
	done         chan struct{}

	auth   bool             // offer PLAIN and LOGIN, and insist
	refuse map[string]error // what to answer to a recipient

	mu     sync.Mutex
	answer actiontest.Answer
	mails  []received
}

// received is one accepted message.
type received struct {
	from       string
	recipients []string
	data       string
	user       string
	encrypted  bool
	shown      string // the name in the certificate of the client
}

// startServer listens in one of the three modes of the tls key.
func startServer(t *testing.T, mode string, prepare func(*mailServer)) *mailServer {
	t.Helper()
	m := &mailServer{t: t, done: make(chan struct{})}
	a := tlstest.New(t)
	files := a.Files(t.TempDir(), a.Issue("shop", time.Hour))
	m.certificates = outbound.TLS{CA: files.CA, Cert: files.Cert, Key: files.Key}
	m.cert = &tls.Config{
		Certificates: []tls.Certificate{a.Issue("mail.test", time.Hour, tlstest.Loopback())}, ClientCAs: a.Pool(), MinVersion: tls.VersionTLS12,
	}
	if prepare != nil {
		prepare(m)
	}
	server := smtp.NewServer(smtp.BackendFunc(m.session))
	server.Domain, server.AllowInsecureAuth, server.ErrorLog = "mail.test", true, log.New(io.Discard, "", 0)
	if mode == startTLS {
		server.TLSConfig = m.cert
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.listen = l
	if mode == implicitTLS {
		l = tls.NewListener(l, m.cert)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { close(m.done); _, _ = server.Close(), l.Close(); wg.Wait() })
	return m
}

func (m *mailServer) session(c *smtp.Conn) (smtp.Session, error) {
	s := &mailSession{server: m, conn: c}
	if m.auth {
		return &authSession{s}, nil
	}
	return s, nil
}

func (m *mailServer) accepted() []received {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mails)
}

func (m *mailServer) setAnswer(a actiontest.Answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = a
	if a == actiontest.Away {
		_ = m.listen.Close()
	}
}

// config is the [smtp] section for this server.
func (m *mailServer) config(mode string) Server {
	host, port, _ := net.SplitHostPort(m.listen.Addr().String())
	n, _ := strconv.Atoi(port)
	server := Server{Host: host, Port: n, TLS: mode, From: "Shop <shop@example.com>"}
	if mode != noTLS {
		server.Certificates.CA = m.certificates.CA
	}
	return server
}

// action makes an action for this server.
func (m *mailServer) action(t *testing.T, cfg Config, server Server) *Action {
	t.Helper()
	network := actiontest.Network()
	a, err := New(cfg, server, network.DialContext)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

type mailSession struct {
	server *mailServer
	conn   *smtp.Conn
	got    received
}

func (s *mailSession) Reset() {
	if user := s.got.user; user != "" {
		s.got = received{user: user}
		return
	}
	s.got = received{}
}

func (s *mailSession) Logout() error { return nil }

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.auth && s.got.user == "" {
		return smtp.ErrAuthRequired
	}
	s.got.from = from
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.server.refuse[to]; err != nil {
		return err
	}
	s.got.recipients = append(s.got.recipients, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m := s.server
	var state tls.ConnectionState
	if state, s.got.encrypted = s.conn.TLSConnectionState(); len(state.PeerCertificates) > 0 {
		s.got.shown = state.PeerCertificates[0].Subject.CommonName
	}
	s.got.data = string(data)
	lines := strings.Split(strings.TrimSpace(s.got.data), "\r\n")
	m.mu.Lock()
	answer := m.answer
	if answer == actiontest.Accept {
		m.mails = append(m.mails, s.got)
	}
	m.mu.Unlock()
	switch answer {
	case actiontest.Accept:
	case actiontest.RefuseNow:
		return refusal(451, lines[len(lines)-1])
	case actiontest.RefuseForever:
		return refusal(554, lines[len(lines)-1])
	case actiontest.Hang:
		<-m.done
	case actiontest.HangUp:
		return s.conn.Conn().Close()
	case actiontest.Away: // the message was on its way before
	}
	return nil
}

func refusal(code int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 7, 1}, Message: text}
}

// authSession offers to sign in with PLAIN and LOGIN.
type authSession struct{ *mailSession }

func (s *authSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *authSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, given string) error {
		if user != "shop" || given != password {
			return refusal(535, fmt.Sprintf("%s and %s are wrong", user, given))
		}
		s.got.user = user
		return nil
	}), nil
}

func delivery() *observer.Delivery { return actiontest.NewDelivery(7, "shipped") }

// simple is a complete configuration.
func simple() Config {
	return Config{To: Addresses{"ann@example.com"}, Subject: "Order {{ data.number }}", BodyTemplate: "It is {{ data.status }}."}
}
