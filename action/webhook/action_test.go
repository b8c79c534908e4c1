package webhook_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newAction(t *testing.T, cfg webhook.Config) *webhook.Action {
	t.Helper()
	a, err := webhook.New(cfg, actiontest.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// deliver makes one attempt that must succeed, and gives what arrived.
func deliver(t *testing.T, r *actiontest.Receiver, cfg webhook.Config, d *observer.Delivery) actiontest.Received {
	t.Helper()
	if _, err := newAction(t, cfg).Execute(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	got := r.Requests()
	return got[len(got)-1]
}

func TestConformance(t *testing.T) {
	t.Parallel()
	actiontest.Run(t, func(t *testing.T) actiontest.Fixture {
		t.Helper()
		r := actiontest.NewReceiver(t)
		return actiontest.Fixture{
			New: func(t *testing.T, message string) observer.Action {
				t.Helper()
				return newAction(t, webhook.Config{
					URL: r.URL + "/hook/" + actiontest.Secret, Headers: map[string]string{"Content-Type": "text/plain"}, BodyTemplate: message,
					Redactor: observer.NewRedactor(observer.NewSecret(actiontest.Secret)),
				})
			},
			Received: r.Bodies,
			Answer:   r.Answer,
		}
	})
}

func TestBodyIsTheEventUnlessSet(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	d := actiontest.NewDelivery(7, "<shipped> & \u2028 paid")
	got := deliver(t, r, webhook.Config{URL: r.URL + "/hook?a=1"}, d)
	want, err := json.Marshal(d.Event)
	if err != nil {
		t.Fatal(err)
	}
	if got.Body != string(want) {
		t.Errorf("body %s, want %s", got.Body, want)
	}
	if got.Method != http.MethodPost || got.URI != "/hook?a=1" {
		t.Errorf("%s %s", got.Method, got.URI)
	}
	if ct, ua := got.Header.Get("Content-Type"), got.Header.Get("User-Agent"); ct != "application/json" || ua != "FraiseQL-Observer" {
		t.Errorf("Content-Type %q, User-Agent %q", ct, ua)
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	got := deliver(t, r, webhook.Config{
		URL:    r.URL + "/orders/{{ data.status }}?q={{ data.status }}",
		Method: "put",
		Headers: map[string]string{
			"x-status": "is {{ data.status }}", "content-type": "application/vnd.shop+json; charset=utf-8", "User-Agent": "shop",
		},
		BodyTemplate: `{"status": "<{{ data.status }}>", "number": {{ data.number }}}`,
	}, actiontest.NewDelivery(7, `a/"b"&c`))
	if got.Method != http.MethodPut || got.URI != "/orders/a%2F%22b%22&c?q=a%2F%22b%22%26c" {
		t.Errorf("%s %s", got.Method, got.URI)
	}
	if got.Body != `{"status": "<a/\"b\"&c>", "number": 7}` {
		t.Errorf("body %s", got.Body)
	}
	want := map[string]string{
		"X-Status": `is a/"b"&c`, "Content-Type": "application/vnd.shop+json; charset=utf-8", "User-Agent": "shop",
	}
	for name, value := range want {
		if got.Header.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, got.Header.Get(name), value)
		}
	}
}

func TestGetHasNoBodyUnlessSet(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	got := deliver(t, r, webhook.Config{URL: r.URL, Method: "GET"}, actiontest.NewDelivery(7, "shipped"))
	if got.Body != "" || got.Header.Get("Content-Type") != "" {
		t.Errorf("GET sent %q as %q", got.Body, got.Header.Get("Content-Type"))
	}
	got = deliver(t, r, webhook.Config{URL: r.URL, Method: "GET", BodyTemplate: `{"a": {{ data.number }}}`}, actiontest.NewDelivery(7, "shipped"))
	if got.Body != `{"a": 7}` {
		t.Errorf("GET with a body_template sent %q", got.Body)
	}
}

func TestBadRequestsAreNeverSent(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	tests := []struct {
		name   string
		cfg    webhook.Config
		status string
		reason observer.Reason
		text   string
	}{
		{"line break in a header", webhook.Config{URL: r.URL, Headers: map[string]string{"X-Status": "{{ data.status }}"}},
			"a\r\nX-Admin: 1", observer.ReasonTemplate, "headers.X-Status"},
		{"body too large", webhook.Config{URL: r.URL, MaxBodyBytes: 100, BodyTemplate: `"{{ data.status }}"`},
			strings.Repeat("x", 99), observer.ReasonTooLarge, "max_body_bytes = 100"},
		{"event too large", webhook.Config{URL: r.URL}, strings.Repeat("x", 1<<20), observer.ReasonTooLarge, "max_body_bytes = 1048576"},
		{"URL with credentials", webhook.Config{URL: "{{ data.status }}"}, "http://user:pw@127.0.0.1/", observer.ReasonTemplate, "url"},
		{"URL of another scheme", webhook.Config{URL: "{{ data.status }}"}, "file:///etc/passwd", observer.ReasonTemplate, "url"},
		{"private address", webhook.Config{URL: "{{ data.status }}"}, "http://10.0.0.1/", observer.ReasonPermanent, "[network] allow"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := actiontest.NewDelivery(7, tt.status)
			_, err := newAction(t, tt.cfg).Execute(t.Context(), d)
			if err == nil || observer.ReasonOf(err) != tt.reason || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v (reason %s), want reason %s and %q in it", err, observer.ReasonOf(err), tt.reason, tt.text)
			}
			if n := len(r.Requests()); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
	d := actiontest.NewDelivery(7, strings.Repeat("x", 98))
	if _, err := newAction(t, webhook.Config{URL: actiontest.NewReceiver(t).URL, MaxBodyBytes: 100, BodyTemplate: `"{{ data.status }}"`}).Execute(t.Context(), d); err != nil {
		t.Errorf("a body of exactly max_body_bytes: %v", err)
	}
}

func TestRedriveFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	old, mended := actiontest.NewReceiver(t), actiontest.NewReceiver(t)
	old.Answer(actiontest.RefuseForever)
	d := actiontest.NewDelivery(7, "shipped")
	wrong := newAction(t, webhook.Config{URL: old.URL + "/wrong", BodyTemplate: `{"n": {{ data.number }}}`})
	if _, err := wrong.Execute(t.Context(), d); err == nil {
		t.Fatal("the first attempt was not refused")
	}
	got := deliver(t, mended, webhook.Config{
		URL: mended.URL + "/right", Method: "PUT", Headers: map[string]string{"X-Token": "new", "Content-Type": "text/plain"},
		BodyTemplate: "something else",
	}, d)
	if got.Method != http.MethodPut || got.URI != "/right" || got.Header.Get("X-Token") != "new" {
		t.Errorf("%s %s with X-Token %q, want the configuration of the moment", got.Method, got.URI, got.Header.Get("X-Token"))
	}
	if got.Body != `{"n": 7}` || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("body %s as %s, want those of the first attempt", got.Body, got.Header.Get("Content-Type"))
	}
}

func TestStoredRequestHoldsNoSecret(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	cfg := webhook.Config{
		URL:          r.URL + "/s3cret-in-path/x?token=s3cret-in-query&other=unknown-secret",
		Headers:      map[string]string{"Authorization": "Bearer s3cret-in-header"},
		BodyTemplate: `{"key": "s3cret-in-body"}`, SigningSecret: observer.NewSecret(signingSecret),
		Redactor: observer.NewRedactor(observer.NewSecret("s3cret-in-path"), observer.NewSecret("s3cret-in-query"),
			observer.NewSecret("s3cret-in-header"), observer.NewSecret("s3cret-in-body")),
	}
	d := actiontest.NewDelivery(7, "shipped")
	first, second := deliver(t, r, cfg, d), deliver(t, r, cfg, d)
	if strings.Contains(string(d.Request), "secret") || strings.Contains(string(d.Request), "s3cret") || strings.Contains(string(d.Request), signingSecret) {
		t.Errorf("a secret was stored: %s", d.Request)
	}
	if first.Body != `{"key": "s3cret-in-body"}` || second.Body != first.Body || second.URI != first.URI {
		t.Errorf("sent %s %s, then %s %s", first.URI, first.Body, second.URI, second.Body)
	}
	want := `{"method":"POST","url":"` + r.URL + `/[redacted]/x","content_type":"application/json"}`
	if diff := cmp.Diff(want, string(d.Request)); diff != "" {
		t.Error(diff)
	}
}

// A secret of the environment that a URL cannot carry as it is stands in it
// escaped.
func TestStoredURLHoldsNoEscapedSecret(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	d := actiontest.NewDelivery(7, "shipped")
	deliver(t, r, webhook.Config{URL: r.URL + "/\u00e9/s3cr\u00e9t-key/x", Redactor: observer.NewRedactor(observer.NewSecret("s3cr\u00e9t-key"))}, d)
	if want := `"url":"` + r.URL + "/\u00e9/[redacted]/x\""; !strings.Contains(string(d.Request), want) {
		t.Errorf("stored %s, want %s", d.Request, want)
	}
}

func TestInvalidUTF8IsTheSameOnEveryAttempt(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	d := actiontest.NewDelivery(7, "shipped")
	d.Event.Data = json.RawMessage("{\"name\": \"caf\xe9\"}")
	first := deliver(t, r, webhook.Config{URL: r.URL}, d)
	second := deliver(t, r, webhook.Config{URL: r.URL}, d)
	if first.Body != second.Body || !strings.Contains(first.Body, "caf\uFFFD") {
		t.Errorf("sent %q, then %q", first.Body, second.Body)
	}
}

// An attempt is counted and paced by middleware, so net/http must not make
// further ones when a reused connection breaks.
func TestBrokenConnectionIsOneAttempt(t *testing.T) {
	t.Parallel()
	requests := make(chan struct{}, 10)
	url := cutSecondRequest(t, requests)
	a := newAction(t, webhook.Config{URL: url})
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(1, "shipped")); err != nil {
		t.Fatal(err)
	}
	_, err := a.Execute(t.Context(), actiontest.NewDelivery(2, "shipped"))
	if err == nil || !observer.Retryable(err) {
		t.Errorf("%v, want a transient error", err)
	}
	if n := len(requests); n != 2 {
		t.Errorf("%d requests arrived for 2 attempts", n)
	}
}

func TestRequestLineCannotBeSplit(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"x HTTP/1.1\r\nX-Admin: 1", "x\ny", "../../admin"} {
		d := actiontest.NewDelivery(7, status)
		r := actiontest.NewReceiver(t)
		_, err := newAction(t, webhook.Config{URL: r.URL + "/a/{{ data.status }}"}).Execute(t.Context(), d)
		for _, got := range r.Requests() {
			if strings.Contains(got.URI, " ") || got.Header.Get("X-Admin") != "" || strings.Contains(got.URI, "/../") {
				t.Errorf("%q arrived as %q", status, got.URI)
			}
		}
		if err != nil && observer.Retryable(err) {
			t.Errorf("%q: %v", status, err)
		}
	}
}
