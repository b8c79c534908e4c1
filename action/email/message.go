package email

import (
	"bytes"
	"fmt"
	netmail "net/mail"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// envelope is a message ready for the wire.
type envelope struct {
	from       string
	recipients []string
	message    []byte
	// to and content are what it was made of.
	to      addresses
	content content
}

// identity is a digest of everything but what names the delivery.
func (e *envelope) identity(server string) string {
	parts := []string{server, e.content.subject, e.content.text, e.content.html, e.to.from.String()}
	for _, group := range [][]*netmail.Address{e.to.to, e.to.cc, e.to.bcc, e.to.replyTo} {
		parts = append(parts, strconv.Itoa(len(group)))
		for _, a := range group {
			parts = append(parts, a.String())
		}
	}
	return outbound.Identity(parts...)
}

// compose writes the message. The same input gives the same bytes: nothing in it
// is drawn at random or taken from the clock.
func compose(to addresses, c content, r request) (*envelope, error) {
	if err := checkSize(len(c.text) + len(c.html)); err != nil {
		return nil, err // encoding only adds to it
	}
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent(), mail.WithBoundary("observer-"+boundary(r.MessageID)))
	msg.FromMailAddress(to.from)
	msg.ToMailAddress(to.to...)
	if len(to.cc) > 0 {
		msg.CcMailAddress(to.cc...)
	}
	if len(to.replyTo) > 0 {
		msg.ReplyToMailAddress(to.replyTo...)
	}
	msg.Subject(c.subject)
	msg.SetMessageIDWithValue(r.MessageID)
	msg.SetDateWithValue(r.Date)
	// Vacation notices and other robots do not answer a message marked so.
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	setBodies(msg, c)
	var wire bytes.Buffer
	if _, err := msg.WriteTo(&wire); err != nil {
		return nil, observer.Permanent(observer.ReasonTemplate, fmt.Errorf("write message: %w", err))
	}
	if err := checkSize(wire.Len()); err != nil {
		return nil, err
	}
	return &envelope{from: to.from.Address, recipients: recipients(to), message: wire.Bytes(), to: to, content: c}, nil
}

func checkSize(size int) error {
	if size <= maxMessage {
		return nil
	}
	return observer.Permanent(observer.ReasonTooLarge, fmt.Errorf("the message is %d bytes, more than %d", size, maxMessage))
}

// boundary is the hash in a Message-ID. No text contains it by chance, and it
// needs no quoting in a header.
func boundary(messageID string) string {
	hash, _, _ := strings.Cut(messageID, "@")
	return hash
}

func setBodies(msg *mail.Msg, c content) {
	switch {
	case c.html == "":
		msg.SetBodyString(mail.TypeTextPlain, c.text)
	case c.text == "":
		msg.SetBodyString(mail.TypeTextHTML, c.html)
	default:
		msg.SetBodyString(mail.TypeTextPlain, c.text)
		msg.AddAlternativeString(mail.TypeTextHTML, c.html)
	}
}

// recipients are everybody who gets the message, once each. BCC is only here.
func recipients(to addresses) []string {
	var list []string
	seen := map[string]bool{}
	for _, group := range [][]*netmail.Address{to.to, to.cc, to.bcc} {
		for _, a := range group {
			if !seen[a.Address] {
				seen[a.Address] = true
				list = append(list, a.Address)
			}
		}
	}
	return list
}
