package email

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/fraiseql/observer"
)

// dialogueTime bounds an attempt whose context has no earlier deadline.
const dialogueTime = 5 * time.Minute

// send hands the message to the server. Any refused recipient fails the whole
// message before its text is sent, so that a later attempt cannot reach those
// who were accepted a second time.
func (a *Action) send(ctx context.Context, m *envelope) (observer.Result, error) {
	s := session{action: a}
	defer s.close()
	// The library checks ctx only while dialing; closing the connection ends
	// whatever it waits for.
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	client, err := s.open(ctx)
	if err == nil {
		var result observer.Result
		if result, err = transmit(client, m); err == nil {
			s.leave(client)
			return result, nil
		}
	}
	if cause := ctx.Err(); cause != nil { // not the broken connection that it caused
		if observer.IsOutcomeUnknown(err) {
			cause = observer.OutcomeUnknown(cause)
		}
		err = cause
	}
	return statusOf(err), a.judge(err)
}

// transmit is one SMTP transaction.
func transmit(client *smtp.Client, m *envelope) (observer.Result, error) {
	if err := client.Mail("<" + m.from + ">"); err != nil {
		return observer.Result{}, fmt.Errorf("sender %s: %w", m.from, err)
	}
	if err := offerAll(client, m.recipients); err != nil {
		return observer.Result{}, err
	}
	w, err := client.Data()
	if err != nil {
		return observer.Result{}, fmt.Errorf("message: %w", err)
	}
	if _, err := w.Write(m.message); err != nil {
		return observer.Result{}, fmt.Errorf("message: %w", err)
	}
	reply, err := finish(client, w)
	if err != nil {
		return observer.Result{}, fmt.Errorf("message: %w", err)
	}
	return observer.Result{Status: 250, Detail: reply}, nil
}

// finish writes the final dot and waits for the reply. From the dot on nobody
// here knows whether the message was taken until the server says so; without the
// whole of it, no server may take the message. The library's own Close does not
// tell a dot that was not written from a reply that did not come.
func finish(client *smtp.Client, w io.WriteCloser) (reply string, err error) {
	if data, ok := w.(*smtp.DataCloser); ok {
		w = data.WriteCloser
	}
	unsent := w.Close()
	_, reply, err = client.Text.ReadResponse(250)
	switch answer := replyOf(err); {
	case err == nil, answer != nil && answer.Code >= 400:
		return reply, err
	case unsent != nil:
		return "", unsent
	}
	return "", observer.OutcomeUnknown(err)
}

// offerAll names every recipient. When several are refused, a permanent refusal
// is the one that counts: waiting cannot mend it.
func offerAll(client *smtp.Client, recipients []string) error {
	var refused error
	for _, r := range recipients {
		err := client.Rcpt("<" + r + ">")
		if err == nil {
			continue
		}
		err = fmt.Errorf("recipient %s: %w", r, err)
		if refused == nil || permanentReply(err) && !permanentReply(refused) {
			refused = err
		}
		if replyOf(err) == nil {
			return refused // the connection is gone
		}
	}
	return refused
}

// judge adds the server to an error and says whether trying again can help:
// not after a 5xx reply; after a 4xx reply and any failure of the network or of
// TLS, yes.
func (a *Action) judge(err error) error {
	wrapped := fmt.Errorf("smtp server %s: %w", a.server.address(), err)
	if permanentReply(err) || errors.Is(err, errNoMechanism) {
		return observer.Permanent(observer.ReasonPermanent, wrapped)
	}
	return wrapped
}

func replyOf(err error) *textproto.Error {
	var reply *textproto.Error
	errors.As(err, &reply)
	return reply
}

func permanentReply(err error) bool {
	reply := replyOf(err)
	return reply != nil && reply.Code >= 500
}

func statusOf(err error) observer.Result {
	if reply := replyOf(err); reply != nil {
		return observer.Result{Status: reply.Code, Detail: reply.Msg}
	}
	return observer.Result{}
}

func (s Server) address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// options are for one connection.
func (a *Action) options(ctx context.Context, dial mail.DialContextFunc) []mail.Option {
	timeout := dialogueTime
	if deadline, ok := ctx.Deadline(); ok {
		// A little later than the context, so that the context is what ends it.
		timeout = min(timeout, max(time.Until(deadline), 0)+time.Second)
	}
	policy := mail.TLSMandatory
	if a.server.TLS != startTLS {
		policy = mail.NoTLS // with implicit TLS dial has encrypted already
	}
	return []mail.Option{
		mail.WithPort(a.server.Port), mail.WithTimeout(timeout), mail.WithDialContextFunc(dial),
		mail.WithTLSPolicy(policy), mail.WithTLSConfig(a.encryption), mail.WithoutNoop(),
	}
}
