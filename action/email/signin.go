package email

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wneessen/go-mail/smtp"
)

var errNoMechanism = errors.New("the server offers no usable way to sign in")

// signIn picks the mechanism when the server has said what it offers and
// whether the connection is encrypted.
type signIn struct {
	session *session
	chosen  smtp.Auth
}

// Start chooses a mechanism and begins it.
func (s *signIn) Start(server *smtp.ServerInfo) (string, []byte, error) {
	var err error
	if s.chosen, err = s.choose(server); err != nil {
		return "", nil, err
	}
	return s.chosen.Start(server)
}

// Next goes on with the chosen mechanism.
func (s *signIn) Next(fromServer []byte, more bool) ([]byte, error) {
	return s.chosen.Next(fromServer, more)
}

func (s *signIn) choose(server *smtp.ServerInfo) (smtp.Auth, error) {
	offers := func(mechanism string) bool { return slices.Contains(server.Auth, mechanism) }
	user, password := s.session.action.server.Username, s.session.action.server.Password.Reveal()
	// The password itself crosses the wire only where nobody can read it.
	readable := !server.TLS && !s.session.loopback()
	switch {
	case offers("SCRAM-SHA-256"):
		return smtp.ScramSHA256Auth(user, password), nil
	case offers("SCRAM-SHA-1"):
		return smtp.ScramSHA1Auth(user, password), nil
	case offers("PLAIN") && !readable:
		return smtp.PlainAuth("", user, password, server.Name, true), nil
	case offers("LOGIN") && !readable:
		return smtp.LoginAuth(user, password, server.Name, true), nil
	case offers("CRAM-MD5"):
		return smtp.CRAMMD5Auth(user, password), nil
	case readable && (offers("PLAIN") || offers("LOGIN")):
		return nil, fmt.Errorf(`%w without TLS (it offers %s): set tls = "starttls" or "tls" in [smtp]`,
			errNoMechanism, strings.Join(server.Auth, ", "))
	}
	return nil, fmt.Errorf("%w (it offers %q)", errNoMechanism, strings.Join(server.Auth, ", "))
}
