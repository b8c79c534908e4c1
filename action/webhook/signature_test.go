package webhook_test

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/webhook"
)

const (
	signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	secondSecret  = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD6Zld7Kt1NYs="
	otherSecret   = "whsec_9HmQVnlPZOxwqUIHQ1bU6IqUO3jfWqv3Q9bVgqv5xqo="

	// The first two keys of RFC 8032; one as its seed, and with its public key.
	privateKey = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
	wholeKey   = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg=="
	publicKey  = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	otherKey   = "whsk_TM0Imyj/ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U+4pvs="
)

func verify(t *testing.T, secret string, r actiontest.Received) error {
	t.Helper()
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	return wh.Verify([]byte(r.Body), r.Header)
}

func TestSignatureVerifiesWithEachSecret(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	d := actiontest.NewDelivery(7, "shipped é <>&")
	cfg := webhook.Config{
		URL: r.URL, SigningSecret: observer.NewSecret(signingSecret),
		SigningSecrets: []observer.Secret{observer.NewSecret(secondSecret)},
	}
	for range 2 { // a first attempt and one with the stored body
		got := deliver(t, r, cfg, d)
		for _, secret := range []string{signingSecret, secondSecret} {
			if err := verify(t, secret, got); err != nil {
				t.Errorf("with %s: %v", secret, err)
			}
		}
		if verify(t, otherSecret, got) == nil {
			t.Error("it verifies with a secret that is not configured")
		}
		if n := len(strings.Split(got.Header.Get("webhook-signature"), " ")); n != 2 {
			t.Errorf("%d signatures, want 2", n)
		}
		got.Body += " "
		if verify(t, signingSecret, got) == nil {
			t.Error("a changed body verifies")
		}
	}
}

func TestIdentityIsTheSameOnEveryAttempt(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	d := actiontest.NewDelivery(7, "shipped")
	before := time.Now().Unix()
	for range 2 { // unsigned
		got := deliver(t, r, webhook.Config{URL: r.URL}, d)
		if id, key := got.Header.Get("webhook-id"), got.Header.Get("Idempotency-Key"); id != d.Key || key != d.Key {
			t.Errorf("webhook-id %q, Idempotency-Key %q, want %q", id, key, d.Key)
		}
		at, err := strconv.ParseInt(got.Header.Get("webhook-timestamp"), 10, 64)
		if err != nil || at < before || at > time.Now().Unix() {
			t.Errorf("webhook-timestamp %q is not the time of the attempt", got.Header.Get("webhook-timestamp"))
		}
		if got.Header.Get("webhook-signature") != "" {
			t.Error("a signature without a secret")
		}
	}
}

func TestAnyKeyTravelsInHeaders(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	ids := map[string]string{}
	for _, name := range []string{"a.b", "a%2Eb", "a b", "a\r\nX-Admin: 1", "größe", "a\x00b", "a/b", "A_b-9"} {
		d := actiontest.NewDelivery(7, "shipped")
		d.Key = observer.DeliveryKey(d.Event.ID, name, 0)
		got := deliver(t, r, webhook.Config{URL: r.URL, SigningSecret: observer.NewSecret(signingSecret)}, d)
		id := got.Header.Get("webhook-id")
		if strings.ContainsAny(id, ". \r\n") || got.Header.Get("X-Admin") != "" {
			t.Errorf("key %q travels as %q", d.Key, id)
		}
		if other, taken := ids[id]; taken {
			t.Errorf("%q and %q travel as the same %q", name, other, id)
		}
		ids[id] = name
		if err := verify(t, signingSecret, got); err != nil {
			t.Errorf("key %q: %v", d.Key, err)
		}
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	short := "whsec_" + base64.StdEncoding.EncodeToString([]byte("s3cret-too-short"))
	tests := []struct {
		name string
		cfg  webhook.Config
		want []string
	}{
		{"empty", webhook.Config{}, []string{"url"}},
		{"no scheme", webhook.Config{URL: "example.com/s3cret"}, []string{"url"}},
		{"no host", webhook.Config{URL: "https:///s3cret"}, []string{"url"}},
		{"other scheme", webhook.Config{URL: "ftp://example.com/s3cret"}, []string{"url"}},
		{"credentials", webhook.Config{URL: "https://user:s3cret@example.com/"}, []string{"url"}},
		{"method", webhook.Config{URL: "https://example.com", Method: "FETCH"}, []string{"method"}},
		{"CONNECT", webhook.Config{URL: "https://example.com", Method: "CONNECT"}, []string{"method"}},
		{"not a JSON body", webhook.Config{URL: "https://example.com", BodyTemplate: `{"a": }`}, []string{"body_template"}},
		{"cap", webhook.Config{URL: "https://example.com", MaxBodyBytes: -1}, []string{"max_body_bytes"}},
		{"short secret", webhook.Config{URL: "https://example.com", SigningSecret: observer.NewSecret(short)}, []string{"signing_secret"}},
		{"short key", webhook.Config{URL: "https://example.com", SigningSecret: observer.NewSecret("whsk_" + short[6:])}, []string{"signing_secret"}},
		{"key that is none", webhook.Config{URL: "https://example.com", SigningSecret: observer.NewSecret("whsk_s3cret!")}, []string{"signing_secret"}},
		{"public key", webhook.Config{URL: "https://example.com", SigningSecret: observer.NewSecret(publicKey)}, []string{"signing_secret"}},
		{"halves of two keys", webhook.Config{URL: "https://example.com",
			SigningSecrets: []observer.Secret{observer.NewSecret("whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A9QBfD6EOJWpK3CqdNG368nJgszy7ElozAzVXxKvRmDA==")}}, []string{"signing_secrets"}},
		{"bad secrets", webhook.Config{URL: "https://example.com",
			SigningSecrets: []observer.Secret{observer.NewSecret("s3cret!"), observer.NewSecret("")}}, []string{"signing_secrets", "signing_secrets"}},
		{"headers", webhook.Config{URL: "https://example.com", Headers: map[string]string{
			"host": "a", "Content-Length": "1", "Connection": "close", "Transfer-Encoding": "chunked", "TE": "trailers",
			"Proxy-Authorization": "x", "Webhook-Id": "1", "webhook-signature": "x", "idempotency-key": "x",
		}}, []string{
			"headers.Connection", "headers.Content-Length", "headers.Proxy-Authorization", "headers.TE", "headers.Transfer-Encoding",
			"headers.Webhook-Id", "headers.host", "headers.idempotency-key", "headers.webhook-signature",
		}},
		{"header names", webhook.Config{URL: "https://example.com", Headers: map[string]string{"": "a", "a b": "b", "a:": "c", "é": "d"}},
			[]string{"headers.", "headers.a b", "headers.a:", "headers.é"}},
		{"header twice", webhook.Config{URL: "https://example.com", Headers: map[string]string{"X-A": "1", "x-a": "2"}}, []string{"headers.x-a"}},
		{"header value", webhook.Config{URL: "https://example.com", Headers: map[string]string{"X-A": "a\nb"}}, []string{"headers.X-A"}},
		{"content type", webhook.Config{URL: "https://example.com", Headers: map[string]string{"Content-Type": "{{ data.a }}"}}, []string{"headers.Content-Type"}},
		{"all at once", webhook.Config{URL: "nope", Method: "NOPE", BodyTemplate: "{{ nope }}", MaxBodyBytes: -1},
			[]string{"url", "method", "max_body_bytes", "body_template"}},
	}
	for _, tt := range tests {
		_, err := webhook.New(tt.cfg, actiontest.Client(t))
		if diff := cmp.Diff(tt.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %v\n%s", tt.name, err, diff)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the value shows in %q", tt.name, err)
		}
	}
}
