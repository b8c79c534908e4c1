package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/nats"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/internal/testenv"
)

func newAction(t *testing.T, cfg nats.Config) *nats.Action {
	t.Helper()
	network := actiontest.Network()
	a, err := nats.New(cfg, network.DialContext)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// broker is a NATS server of the test with a stream, and somebody who hears
// everything that is published to it.
type broker struct {
	t      *testing.T
	server *server.Server
	conn   *client.Conn
	stream jetstream.Stream
	js     jetstream.JetStream
	heard  *client.Subscription
	seen   []*client.Msg
}

const password = "publisher-s3cret"

func newBroker(t *testing.T) *broker {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "publisher", Password: password, Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"events.forbidden"}},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server is not ready")
	}
	b := &broker{t: t, server: s}
	if b.conn, err = client.Connect(s.ClientURL(), client.UserInfo("admin", "admin")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.conn.Close)
	if b.js, err = jetstream.New(b.conn); err != nil {
		t.Fatal(err)
	}
	b.limit(-1, -1)
	if _, err := b.js.Publish(t.Context(), "filler", nil); err != nil {
		t.Fatal(err)
	}
	if b.heard, err = b.conn.SubscribeSync("events.>"); err != nil {
		t.Fatal(err)
	}
	if err := b.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	return b
}

// limit sets how many messages the stream takes, and how large.
func (b *broker) limit(messages int64, size int32) {
	b.t.Helper()
	var err error
	b.stream, err = b.js.CreateOrUpdateStream(b.t.Context(), jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"events.>", "filler"}, Discard: jetstream.DiscardNew, MaxMsgs: messages, MaxMsgSize: size,
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) url() string {
	return strings.Replace(b.server.ClientURL(), "nats://", "nats://publisher:"+password+"@", 1)
}

// messages are all that were published, whether or not the stream stored them.
func (b *broker) messages() []*client.Msg {
	b.t.Helper()
	if err := b.conn.Flush(); err != nil {
		b.t.Fatal(err)
	}
	for {
		if !b.heard.IsValid() {
			return b.seen
		}
		n, _, err := b.heard.Pending()
		if err != nil {
			b.t.Fatal(err)
		}
		if n == 0 {
			return b.seen
		}
		msg, err := b.heard.NextMsg(time.Minute)
		if err != nil {
			b.t.Fatal(err)
		}
		b.seen = append(b.seen, msg)
	}
}

func (b *broker) storedMessages() uint64 {
	b.t.Helper()
	info, err := b.stream.Info(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return info.State.Msgs - 1 // without the filler
}

func TestConformance(t *testing.T) {
	t.Parallel()
	actiontest.Run(t, func(t *testing.T) actiontest.Fixture {
		t.Helper()
		b := newBroker(t)
		address := b.server.Addr().String()
		proxy := testenv.NewProxy(t, address)
		return actiontest.Fixture{
			New: func(t *testing.T, message string) observer.Action {
				t.Helper()
				return newAction(t, nats.Config{
					URL:     observer.NewSecret(strings.Replace(b.url(), address, proxy.Address, 1)),
					Subject: "events.{{ event.entity_type }}", BodyTemplate: `"` + message + `"`,
					Redactor: observer.NewRedactor(observer.NewSecret(actiontest.Secret)),
				})
			},
			Received: func() []string {
				var texts []string
				for _, msg := range b.messages() {
					texts = append(texts, fmt.Sprint(msg.Subject, msg.Header, string(msg.Data)))
				}
				return texts
			},
			Answer: func(answer actiontest.Answer) {
				switch answer {
				case actiontest.RefuseNow:
					// A full stream would still acknowledge what it has, and
					// somebody who listens passes for one that may answer.
					b.messages()
					if err := errors.Join(b.js.DeleteStream(t.Context(), "EVENTS"), b.heard.Unsubscribe(), b.conn.Flush()); err != nil {
						t.Error(err)
					}
				case actiontest.RefuseForever:
					b.limit(-1, 1)
				case actiontest.Hang:
					proxy.Mute("HPUB")
				case actiontest.HangUp:
					proxy.HangUp("HPUB")
				case actiontest.Away:
					proxy.Away()
				case actiontest.Accept:
				}
			},
		}
	})
}

func TestMessage(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	a := newAction(t, nats.Config{URL: observer.NewSecret(b.url()), Subject: "events.{{ event.entity_type }}.{{ data.status }}-x"})
	d := actiontest.NewDelivery(7, "a.b *>é")
	result, err := a.Execute(t.Context(), d)
	if err != nil || result.Detail != "stream EVENTS, sequence 2" {
		t.Fatalf("%+v, %v", result, err)
	}
	msg := b.messages()[0]
	if msg.Subject != "events.Order.a%2Eb%20%2A%3E%C3%A9-x" || msg.Header.Get("Nats-Msg-Id") != d.Key {
		t.Errorf("subject %q, id %q", msg.Subject, msg.Header.Get("Nats-Msg-Id"))
	}
	want, err := json.Marshal(d.Event)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(msg.Data)); diff != "" {
		t.Error(diff)
	}
}

func TestRepeatIsStoredOnce(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	d := actiontest.NewDelivery(7, "shipped")
	var details []string
	for range 2 {
		a := newAction(t, nats.Config{URL: observer.NewSecret(b.url()), Subject: "events.x"})
		result, err := a.Execute(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		details = append(details, result.Detail)
	}
	if n := b.storedMessages(); n != 1 || !strings.Contains(details[1], "was there already") {
		t.Errorf("%d messages, %q", n, details)
	}
}

func TestFullStream(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.limit(1, -1)
	a := newAction(t, nats.Config{URL: observer.NewSecret(b.url()), Subject: "events.x"})
	_, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x"))
	if err == nil || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want a transient error with a known outcome", err)
	}
	b.limit(2, -1)
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x")); err != nil {
		t.Error(err)
	}
}

func TestWithoutStream(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	acknowledged := newAction(t, nats.Config{URL: observer.NewSecret(b.url()), Subject: "elsewhere.x"})
	_, err := acknowledged.Execute(t.Context(), actiontest.NewDelivery(7, "x"))
	if err == nil || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want a transient error with a known outcome", err)
	}
	plain := newAction(t, nats.Config{URL: observer.NewSecret(b.url()), Subject: "events.plain", Ack: "none"})
	if _, err := plain.Execute(t.Context(), actiontest.NewDelivery(7, "x")); err != nil || len(b.messages()) != 1 {
		t.Errorf("%v, %d messages", err, len(b.messages()))
	}
}

func TestForbiddenSubject(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	for _, ack := range []string{"jetstream", "none"} {
		a := newAction(t, nats.Config{URL: observer.NewSecret(b.url()), Subject: "events.{{ data.status }}", Ack: ack})
		_, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "forbidden"))
		if err == nil || observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
			t.Errorf("%s: %v, want a permanent error with a known outcome", ack, err)
		}
		if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "allowed")); err != nil {
			t.Errorf("%s: afterwards: %v", ack, err)
		}
	}
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	a := newAction(t, nats.Config{URL: observer.NewSecret(strings.Replace(b.url(), password, "wrong-s3cret", 1)), Subject: "events.x"})
	d := actiontest.NewDelivery(7, "x")
	_, err := a.Execute(t.Context(), d)
	if err == nil || observer.Retryable(err) {
		t.Errorf("%v, want a permanent error", err)
	}
	if text := fmt.Sprint(err, a.Endpoint(t.Context(), d), string(d.Request)); strings.Contains(text, "s3cret") {
		t.Errorf("the password shows: %s", text)
	}
	if got, want := a.Endpoint(t.Context(), d), "nats "+b.server.Addr().String(); got != want {
		t.Errorf("endpoint %q, want %q", got, want)
	}
}

func TestServerThatComesBack(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	proxy := testenv.NewProxy(t, b.server.Addr().String())
	a := newAction(t, nats.Config{URL: observer.NewSecret(strings.Replace(b.url(), b.server.Addr().String(), proxy.Address, 1)), Subject: "events.x"})
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x")); err != nil {
		t.Fatal(err)
	}
	proxy.HangUp("HPUB")
	_, err := a.Execute(t.Context(), actiontest.NewDelivery(8, "x"))
	if !observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want an unknown outcome", err)
	}
	proxy.Pass()
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(8, "x")); err != nil {
		t.Errorf("on a new connection: %v", err)
	}
}

func TestConnectionIsClosed(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	before := b.server.NumClients()
	a := newAction(t, nats.Config{URL: observer.NewSecret(b.url()), Subject: "events.x"})
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x")); err != nil || b.server.NumClients() != before+1 {
		t.Fatalf("%v, %d clients", err, b.server.NumClients())
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for b.server.NumClients() != before && ctx.Err() == nil {
		_ = b.conn.Flush()
	}
	if ctx.Err() != nil {
		t.Errorf("%d clients, before %d", b.server.NumClients(), before)
	}
}

func TestGuardJudgesTheServer(t *testing.T) {
	t.Parallel()
	a, err := nats.New(nats.Config{URL: observer.NewSecret("nats://169.254.169.254"), Subject: "x"}, outbound.New(outbound.Config{}).DialContext)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Execute(t.Context(), actiontest.NewDelivery(7, "x"))
	if !errors.Is(err, outbound.ErrRefused) || observer.Retryable(err) {
		t.Errorf("%v, want a refused address, permanent", err)
	}
}

func TestBadValuesAreNeverPublished(t *testing.T) {
	t.Parallel()
	a := newAction(t, nats.Config{URL: observer.NewSecret("nats://127.0.0.1:1"), Subject: "events.{{ data.status }}"})
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "")); observer.ReasonOf(err) != observer.ReasonTemplate {
		t.Errorf("%v, want a permanent error with reason template", err)
	}
	d := actiontest.NewDelivery(7, "x")
	d.Request = []byte(`{"subject": "$JS.API.STREAM.DELETE.EVENTS", "body": ""}`) // as a person may edit it
	if _, err := a.Execute(t.Context(), d); observer.ReasonOf(err) != observer.ReasonTemplate {
		t.Errorf("%v, want a permanent error with reason template", err)
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	good := observer.NewSecret("nats://u:s3cret@nats.example.com")
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  nats.Config
		want []string
	}{
		"empty":           {nats.Config{}, []string{"url", "subject"}},
		"not NATS":        {nats.Config{URL: observer.NewSecret("http://s3cret"), Subject: "x"}, []string{"url"}},
		"one of two":      {nats.Config{URL: observer.NewSecret("nats://a,s3cret"), Subject: "x"}, []string{"url"}},
		"wildcard":        {nats.Config{URL: good, Subject: "a.*"}, []string{"subject"}},
		"rest":            {nats.Config{URL: good, Subject: "a.>"}, []string{"subject"}},
		"empty token":     {nats.Config{URL: good, Subject: "a..b"}, []string{"subject"}},
		"blank":           {nats.Config{URL: good, Subject: "a b"}, []string{"subject"}},
		"system":          {nats.Config{URL: good, Subject: "$SYS.x"}, []string{"subject"}},
		"bad templates":   {nats.Config{URL: good, Subject: "{{", BodyTemplate: "{{ nope }}"}, []string{"subject", "body_template"}},
		"unknown ack":     {nats.Config{URL: good, Subject: "x", Ack: "maybe"}, []string{"ack"}},
		"two credentials": {nats.Config{URL: good, Subject: "x", Credentials: good, CredentialsFile: noPEM}, []string{"credentials_file"}},
		"missing file":    {nats.Config{URL: good, Subject: "x", CredentialsFile: noPEM + "x"}, []string{"credentials_file"}},
		"no certificate":  {nats.Config{URL: good, Subject: "x", CAFile: noPEM}, []string{"ca_file"}},
		"half a pair":     {nats.Config{URL: good, Subject: "x", CertFile: noPEM}, []string{"key_file"}},
		"bad pair":        {nats.Config{URL: good, Subject: "x", CertFile: noPEM, KeyFile: noPEM}, []string{"cert_file"}},
	} {
		_, err := nats.New(c.cfg, (&net.Dialer{}).DialContext)
		if diff := cmp.Diff(c.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the secret shows in %q", name, err)
		}
	}
}
