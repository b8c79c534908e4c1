package email

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	actiontest.Run(t, func(t *testing.T) actiontest.Fixture {
		t.Helper()
		m := startServer(t, noTLS, nil)
		return actiontest.Fixture{
			New: func(t *testing.T, message string) observer.Action {
				t.Helper()
				cfg := Config{
					To: Addresses{"ann@example.com"}, Subject: "News", BodyTemplate: message, HTMLTemplate: "<p>" + message + "</p>",
					Redactor: observer.NewRedactor(observer.NewSecret(actiontest.Secret)),
				}
				return m.action(t, cfg, m.config(noTLS))
			},
			Received: func() []string {
				var all []string
				for _, got := range m.accepted() {
					text, _, _ := strings.Cut(got.data, "<p>") // the text once, not the HTML again
					all = append(all, text)
				}
				return all
			},
			Answer: m.setAnswer,
		}
	})
}

func TestMessage(t *testing.T) {
	t.Parallel()
	m := startServer(t, noTLS, nil)
	a := m.action(t, Config{
		To: Addresses{"Ann <ann@example.com>, bob@example.com", "{{ data.status }}@example.com"}, ToTemplate: "eve@example.com",
		CC: Addresses{"cc@example.com"}, BCC: Addresses{"bcc@example.com", "ann@example.com"}, ReplyTo: "help@example.com",
		From: "Größe {{ data.status }} <orders@shop.example>", Subject: "Größe <{{ data.number }}>",
		BodyTemplate: "Line one\n.dot <{{ data.status }}>", HTMLTemplate: "<b>{{ data.status }} & {{ event.id }}</b>",
	}, m.config(noTLS))
	d := actiontest.NewDelivery(7, "shipped")
	result, err := a.Execute(t.Context(), d)
	if err != nil || result.Status != 250 || result.Detail == "" {
		t.Fatalf("%+v, %v", result, err)
	}
	got := m.accepted()[0]
	wantTo := []string{"ann@example.com", "bob@example.com", "shipped@example.com", "eve@example.com", "cc@example.com", "bcc@example.com"}
	if diff := cmp.Diff(wantTo, got.recipients); diff != "" || got.from != "orders@shop.example" {
		t.Errorf("from %s, recipients: %s", got.from, diff)
	}
	msg, err := mail.ReadMessage(strings.NewReader(got.data))
	if err != nil {
		t.Fatal(err)
	}
	checkHeaders(t, msg, map[string]string{
		"Subject": "Größe <7>", "From": "Größe shipped <orders@shop.example>",
		"To": "\"Ann\" <ann@example.com>, <bob@example.com>, <shipped@example.com>, <eve@example.com>",
		"Cc": "<cc@example.com>", "Bcc": "", "Reply-To": "<help@example.com>",
		"Date": "Sun, 01 Mar 2026 12:00:00 +0000", "Auto-Submitted": "auto-generated",
	})
	parts := bodies(t, msg)
	if diff := cmp.Diff([]string{"Line one\r\n.dot <shipped>", "<b>shipped & " + d.Event.ID + "</b>"}, parts); diff != "" {
		t.Error(diff)
	}
}

func checkHeaders(t *testing.T, msg *mail.Message, want map[string]string) {
	t.Helper()
	for name, value := range want {
		got, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get(name))
		if err != nil || strings.ReplaceAll(got, `"Größe shipped"`, "Größe shipped") != value {
			t.Errorf("%s: %q, want %q (%v)", name, got, value, err)
		}
	}
}

// bodies are the decoded alternatives of msg.
func bodies(t *testing.T, msg *mail.Message) []string {
	t.Helper()
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for r := multipart.NewReader(msg.Body, params["boundary"]); ; {
		part, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.TrimSuffix(string(text), "\r\n"))
	}
}

func TestHTMLValuesAreEscaped(t *testing.T) {
	t.Parallel()
	m := startServer(t, noTLS, nil)
	cfg := Config{To: Addresses{"ann@example.com"}, Subject: "x", HTMLTemplate: "<p>{{ data.status }}</p>"}
	if _, err := m.action(t, cfg, m.config(noTLS)).Execute(t.Context(), actiontest.NewDelivery(7, "<script>")); err != nil {
		t.Fatal(err)
	}
	got := m.accepted()[0].data
	if !strings.Contains(got, "<p>&lt;script&gt;</p>") || !strings.Contains(got, "text/html") {
		t.Errorf("sent %s", got)
	}
}

func TestMessageIDIsTheSameForAKeyAndTellsNothing(t *testing.T) {
	t.Parallel()
	m := startServer(t, noTLS, nil)
	first, second := delivery(), actiontest.NewDelivery(8, "shipped")
	for _, d := range []*observer.Delivery{first, first, delivery(), second} {
		if _, err := m.action(t, simple(), m.config(noTLS)).Execute(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for _, got := range m.accepted() {
		msg, err := mail.ReadMessage(strings.NewReader(got.data))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, msg.Header.Get("Message-Id"))
	}
	if ids[0] != ids[1] || ids[0] != ids[2] || ids[0] == ids[3] || !strings.HasSuffix(ids[0], "@example.com>") {
		t.Errorf("Message-IDs %q", ids)
	}
}

func TestBadValuesAreNeverSent(t *testing.T) {
	t.Parallel()
	with := func(change func(*Config)) Config { c := simple(); change(&c); return c }
	tests := []struct {
		name, status, field string
		cfg                 Config
	}{
		{"recipient is no address", "nobody", "to", with(func(c *Config) { c.To = Addresses{"{{ data.status }}"} })},
		{"recipient is empty", "", "to", with(func(c *Config) { c.To = Addresses{"{{ data.status }}"} })},
		{"value adds a recipient", "a@example.com, b@example.com", "cc", with(func(c *Config) { c.CC = Addresses{"{{ data.status }}"} })},
		{"line break in an address", "a@example.com\r\nBcc: b@example.com", "bcc", with(func(c *Config) { c.BCC = Addresses{"{{ data.status }}"} })},
		{"line break in reply_to", "a@example.com\nX: y", "reply_to", with(func(c *Config) { c.ReplyTo = "{{ data.status }}" })},
		{"parameter in an address", "a> SIZE=1@example.com", "to_template", with(func(c *Config) { c.ToTemplate = "{{ data.status }}" })},
		{"line break in a name", "Ann\r\nX-Admin: 1", "from", with(func(c *Config) { c.From = "{{ data.status }} <a@example.com>" })},
		{"line break in the subject", "x\r\nBcc: b@example.com", "subject", with(func(c *Config) { c.Subject = "{{ data.status }}" })},
		{"missing field in the text", "x", "body_template", with(func(c *Config) { c.BodyTemplate = "{{ data.nope }}" })},
		{"missing field in the HTML", "x", "html_template", with(func(c *Config) { c.HTMLTemplate = "{{ data.nope }}" })},
	}
	m := startServer(t, noTLS, nil)
	for _, tt := range tests {
		d := actiontest.NewDelivery(7, tt.status)
		_, err := m.action(t, tt.cfg, m.config(noTLS)).Execute(t.Context(), d)
		if observer.ReasonOf(err) != observer.ReasonTemplate || !strings.HasPrefix(err.Error(), tt.field+": ") {
			t.Errorf("%s: %v, want a permanent error about %s", tt.name, err, tt.field)
		}
		if d.Request != nil {
			t.Errorf("%s: a request was stored", tt.name)
		}
	}
	if got := m.accepted(); len(got) != 0 {
		t.Errorf("%d messages were sent", len(got))
	}
}

func TestTooLongMessage(t *testing.T) {
	t.Parallel()
	m := startServer(t, noTLS, nil)
	_, err := m.action(t, simple(), m.config(noTLS)).Execute(t.Context(), actiontest.NewDelivery(7, strings.Repeat("x", maxMessage+1)))
	if observer.ReasonOf(err) != observer.ReasonTooLarge {
		t.Errorf("%v, want a permanent error with reason too_large", err)
	}
}

func TestRedriveFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	m := startServer(t, noTLS, func(m *mailServer) {
		m.refuse = map[string]error{"typo@example.com": refusal(550, "no such user")}
	})
	d, cfg := delivery(), simple()
	cfg.To = Addresses{"typo@example.com"}
	if _, err := m.action(t, cfg, m.config(noTLS)).Execute(t.Context(), d); observer.Retryable(err) || err == nil {
		t.Fatalf("%v, want a permanent error", err)
	}
	mended := simple()
	mended.Subject = "changed"
	if _, err := m.action(t, mended, m.config(noTLS)).Execute(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	got := m.accepted()[0]
	if got.recipients[0] != "ann@example.com" || !strings.Contains(got.data, "Subject: Order 7\r\n") {
		t.Errorf("to %v: %s", got.recipients, got.data)
	}
}

func TestAddressesAreAStringOrAList(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Addresses{
		`to = "a@example.com, b@example.com"`:    {"a@example.com, b@example.com"},
		`to = ["a@example.com", "{{ data.b }}"]`: {"a@example.com", "{{ data.b }}"},
		`to = []`:                                {},
		`cc = "x"`:                               nil,
	} {
		var cfg Config
		if err := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&cfg); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, cfg.To); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	ok := Server{Host: "mail.example.com", From: "a@example.com"}
	with := func(change func(*Config)) Config { c := simple(); change(&c); return c }
	tests := []struct {
		name   string
		cfg    Config
		server Server
		want   []string
	}{
		{"empty", Config{}, Server{}, []string{"smtp.host", "to", "from", "subject", "body_template"}},
		{"bad addresses", with(func(c *Config) { c.To, c.CC = Addresses{"nobody"}, Addresses{"a@b@c"} }), ok, []string{"to", "cc"}},
		{"quoted address", with(func(c *Config) { c.BCC = Addresses{`"a> b"@example.com`} }), ok, []string{"bcc"}},
		{"bad templates", with(func(c *Config) { c.Subject, c.HTMLTemplate = "{{", "{{ nope }}" }), ok, []string{"subject", "html_template"}},
		{"two subjects", with(func(c *Config) { c.SubjectTemplate = "x" }), ok, []string{"subject_template"}},
		{"bad server", simple(), Server{Host: "h", From: "nobody", TLS: "Maybe", Port: 70000}, []string{"smtp.tls", "smtp.port", "smtp.from"}},
		{"half a login", simple(), Server{Host: "h", From: "a@example.com", Username: "u"}, []string{"smtp.password"}},
		{"other half", simple(), Server{Host: "h", From: "a@example.com", Password: observer.NewSecret("p")}, []string{"smtp.username"}},
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }
	for _, tt := range tests {
		_, err := New(tt.cfg, tt.server, dial)
		if diff := cmp.Diff(tt.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
		}
		if tt.server.TLS != "" && !strings.Contains(err.Error(), `"`+tt.server.TLS+`"`) {
			t.Errorf("%s: %v does not name the mode as it was given", tt.name, err)
		}
	}
}

func TestDefaultPorts(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{"": "mail.example.com:587", "starttls": "mail.example.com:587", "TLS": "mail.example.com:465", "none": "mail.example.com:25"} {
		var dialed string
		a, err := New(simple(), Server{Host: "mail.example.com", From: "a@example.com", TLS: mode}, func(_ context.Context, _, address string) (net.Conn, error) {
			dialed = address
			return nil, io.EOF
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err = a.Execute(ctx, delivery())
		cancel()
		if dialed != want || err == nil || !observer.Retryable(err) {
			t.Errorf("tls = %q dialed %s, %v; want %s and a transient error", mode, dialed, err, want)
		}
	}
}
