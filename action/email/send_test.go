package email

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/internal/outbound"
)

func TestTLSModes(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{startTLS, implicitTLS, noTLS} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := startServer(t, mode, func(m *mailServer) { m.auth = true })
			server := m.config(mode)
			server.Username, server.Password = "shop", observer.NewSecret(password)
			if _, err := m.action(t, simple(), server).Execute(t.Context(), delivery()); err != nil {
				t.Fatal(err)
			}
			got := m.accepted()[0]
			if got.user != "shop" || got.encrypted != (mode != noTLS) {
				t.Errorf("signed in as %q, encrypted %t", got.user, got.encrypted)
			}
		})
	}
}

// A server with an authority of its own may want a certificate, too.
func TestServerThatWantsACertificate(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{startTLS, implicitTLS} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := startServer(t, mode, func(m *mailServer) { m.cert.ClientAuth = tls.RequireAndVerifyClientCert })
			server := m.config(mode)
			if _, err := m.action(t, simple(), server).Execute(t.Context(), delivery()); err == nil || !observer.Retryable(err) {
				t.Errorf("without a certificate: %v, want a transient error", err)
			}
			server.Certificates = m.certificates
			server.Certificates.ServerName = "other.test"
			if _, err := m.action(t, simple(), server).Execute(t.Context(), delivery()); err == nil || !strings.Contains(err.Error(), "other.test") {
				t.Errorf("%v, want that the server has another name", err)
			}
			server.Certificates.ServerName = "mail.test"
			if _, err := m.action(t, simple(), server).Execute(t.Context(), delivery()); err != nil {
				t.Error(err)
			}
			if list := m.accepted(); len(list) != 1 || list[0].shown != "shop" {
				t.Errorf("accepted %+v, want one message of shop", list)
			}
		})
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	t.Parallel()
	m := startServer(t, startTLS, nil)
	for name, tt := range map[string]struct {
		mode         string
		certificates outbound.TLS
		want         []string
	}{
		"missing files": {startTLS, outbound.TLS{CA: "missing.pem", Cert: "missing.pem"}, []string{"smtp.certificates.ca", "smtp.certificates.cert"}},
		"no key":        {implicitTLS, outbound.TLS{Cert: m.certificates.Cert}, []string{"smtp.certificates.key"}},
		"without TLS":   {noTLS, m.certificates, []string{"smtp.certificates"}},
	} {
		server := m.config(tt.mode)
		server.Certificates = tt.certificates
		_, err := New(simple(), server, nil)
		if got := actiontest.InvalidFields(err); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v is about %v, want %v", name, err, got, tt.want)
		}
	}
}

func TestTLSIsNeverGivenUp(t *testing.T) {
	t.Parallel()
	plain := startServer(t, noTLS, nil)
	encrypted, implicit := startServer(t, startTLS, nil), startServer(t, implicitTLS, nil)
	distrusted := func(m *mailServer, mode string) *Action {
		server := m.config(mode)
		server.Certificates = outbound.TLS{}
		return m.action(t, simple(), server)
	}
	for name, a := range map[string]*Action{
		"no STARTTLS offered":     plain.action(t, simple(), plain.config(startTLS)),
		"unverified certificate":  distrusted(encrypted, startTLS),
		"unverified implicit TLS": distrusted(implicit, implicitTLS),
	} {
		if _, err := a.Execute(t.Context(), delivery()); err == nil || !observer.Retryable(err) {
			t.Errorf("%s: %v, want a transient error", name, err)
		}
	}
	for _, m := range []*mailServer{plain, encrypted, implicit} {
		if n := len(m.accepted()); n != 0 {
			t.Errorf("%d messages were sent", n)
		}
	}
}

func TestWrongPasswordIsPermanentAndNotTold(t *testing.T) {
	t.Parallel()
	m := startServer(t, startTLS, func(m *mailServer) { m.auth = true })
	server := m.config(startTLS)
	server.Username, server.Password = "shop", observer.NewSecret("wrong-"+password)
	result, err := m.action(t, simple(), server).Execute(t.Context(), delivery())
	if err == nil || observer.Retryable(err) || result.Status != 535 {
		t.Errorf("%+v, %v; want a permanent error and 535", result, err)
	}
	if text := fmt.Sprint(result, err); strings.Contains(text, password) {
		t.Errorf("the password shows in %s", text)
	}
}

// A server may repeat the line it did not understand, with the password in its
// encoded form.
func TestEncodedPasswordIsNotTold(t *testing.T) {
	t.Parallel()
	plain := base64.StdEncoding.EncodeToString([]byte("\x00shop\x00pw!"))
	login := base64.StdEncoding.EncodeToString([]byte("pw!"))
	for offer, lines := range map[string][]string{
		"PLAIN": {"501 cannot decode " + plain, "501 aborted", "221 bye"},
		"LOGIN": {"334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "501 cannot decode " + login, "501 aborted", "221 bye"},
	} {
		address, heard := script(t, append([]string{"220 hi", "250-mail.test\r\n250 AUTH " + offer}, lines...)...)
		server := Server{
			Host: "127.0.0.1", Port: address.Port, TLS: noTLS, From: "a@example.com", Username: "shop", Password: observer.NewSecret("pw!"),
		}
		a, err := New(simple(), server, new(net.Dialer).DialContext)
		if err != nil {
			t.Fatal(err)
		}
		result, err := a.Execute(t.Context(), delivery())
		text := fmt.Sprint(result, err)
		if err == nil || !strings.Contains(text, "cannot decode [redacted]") || strings.Contains(text, plain) || strings.Contains(text, login) {
			t.Errorf("%s: %s, after %q", offer, text, heard())
		}
	}
}

func TestRefusedRecipients(t *testing.T) {
	t.Parallel()
	refusals := map[string]error{"gone@example.com": refusal(550, "no such user"), "full@example.com": refusal(452, "mailbox full")}
	tests := []struct {
		name   string
		to     Addresses
		status int
		reason observer.Reason
	}{
		{"permanent", Addresses{"ann@example.com", "gone@example.com"}, 550, observer.ReasonPermanent},
		{"transient", Addresses{"full@example.com", "ann@example.com"}, 452, observer.ReasonExhausted},
		{"both, permanent last", Addresses{"full@example.com", "gone@example.com"}, 550, observer.ReasonPermanent},
		{"both, permanent first", Addresses{"gone@example.com", "full@example.com"}, 550, observer.ReasonPermanent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := startServer(t, noTLS, func(m *mailServer) { m.refuse = refusals })
			cfg := simple()
			cfg.To = tt.to
			result, err := m.action(t, cfg, m.config(noTLS)).Execute(t.Context(), delivery())
			if err == nil || observer.ReasonOf(err) != tt.reason || result.Status != tt.status {
				t.Errorf("%+v, %v (reason %s)", result, err, observer.ReasonOf(err))
			}
			if n := len(m.accepted()); n != 0 {
				t.Errorf("%d messages were sent although a recipient was refused", n)
			}
		})
	}
}

// script plays the server's side of one SMTP dialogue: a line for the greeting,
// then one for each line of the client. It gives the lines the client sent.
func script(t *testing.T, lines ...string) (address *net.TCPAddr, heard func() []string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []string
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		r := bufio.NewReader(conn)
		for _, line := range lines {
			if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
				return
			}
			heardLine, err := r.ReadString('\n')
			if err != nil {
				return
			}
			mu.Lock()
			got = append(got, strings.TrimSpace(heardLine))
			mu.Unlock()
		}
		_, _ = io.Copy(io.Discard, r) // says nothing more
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr), func() []string { mu.Lock(); defer mu.Unlock(); return append([]string{}, got...) }
}

// remote makes a loopback connection look as if it went to another machine.
type remote struct{ net.Conn }

func (remote) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 1), Port: 25} }

func TestPasswordNeedsEncryption(t *testing.T) {
	t.Parallel()
	for _, offer := range []string{"PLAIN", "LOGIN", "PLAIN LOGIN"} {
		address, heard := script(t, "220 mail.test", "250-mail.test\r\n250 AUTH "+offer, "221 bye")
		server := Server{
			Host: "127.0.0.1", Port: address.Port, TLS: noTLS, From: "a@example.com",
			Username: "shop", Password: observer.NewSecret(password),
		}
		a, err := New(simple(), server, func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, address)
			return remote{conn}, err
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Execute(t.Context(), delivery())
		if err == nil || observer.Retryable(err) || !strings.Contains(err.Error(), "without TLS") {
			t.Errorf("offered %s: %v, want a permanent error that says why", offer, err)
		}
		for _, line := range heard() {
			if strings.HasPrefix(line, "AUTH") {
				t.Errorf("offered %s: the client sent %q", offer, line)
			}
		}
	}
}

func TestServersThatFail(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		lines     []string
		retryable bool
	}{
		{"busy", []string{"421 too busy"}, true},
		{"no service", []string{"554 not for you"}, false},
		{"not SMTP", []string{"HTTP/1.1 400 Bad Request"}, true},
		{"sender refused", []string{"220 hi", "250 mail.test", "550 not you"}, false},
		{"sender refused for now", []string{"220 hi", "250 mail.test", "451 later"}, true},
		{"recipient refused with 421", []string{"220 hi", "250 mail.test", "250 ok", "421 closing"}, true},
		{"data refused", []string{"220 hi", "250 mail.test", "250 ok", "250 ok", "554 no"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, _ := script(t, tt.lines...)
			a, err := New(simple(), Server{Host: "127.0.0.1", Port: address.Port, TLS: noTLS, From: "a@example.com"}, new(net.Dialer).DialContext)
			if err != nil {
				t.Fatal(err)
			}
			_, err = a.Execute(t.Context(), delivery())
			if err == nil || observer.Retryable(err) != tt.retryable || observer.IsOutcomeUnknown(err) {
				t.Errorf("%v, want retryable %t and a known outcome", err, tt.retryable)
			}
		})
	}
}

func TestContextEndsEveryStepOfTheDialogue(t *testing.T) {
	t.Parallel()
	steps := []string{"220 hi", "250 mail.test", "250 ok", "250 ok", "354 go on"}
	for n := range len(steps) + 1 {
		t.Run(fmt.Sprintf("after %d lines", n), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			sent := n == len(steps)
			if !sent {
				time.AfterFunc(50*time.Millisecond, cancel)
			}
			_, err := toDot(ctx, t, func(conn net.Conn, p []byte) (int, error) {
				defer cancel()
				return conn.Write(p)
			}, steps[:n]...)
			if !errors.Is(err, context.Canceled) || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) != sent {
				t.Errorf("%v, want context.Canceled, transient, with an unknown outcome: %t", err, sent)
			}
		})
	}
}
