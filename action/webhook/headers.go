package webhook

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/template"
)

const (
	userAgent = "FraiseQL-Observer"
	// idempotencyHeader is deliberately not in canonical form. net/http sends a
	// request again by itself when a reused connection breaks and the header
	// map has an Idempotency-Key; attempts are counted and paced by others.
	idempotencyHeader = "idempotency-key"
)

// header is a configured header.
type header struct {
	name  string
	value *template.Template
}

func (a *Action) setHeaders(ctx context.Context, req *http.Request, e *observer.Event, contentType string) error {
	req.Header.Set("User-Agent", userAgent)
	if !a.bodiless {
		req.Header.Set("Content-Type", contentType)
	}
	for _, h := range a.headers {
		value, err := h.value.Render(ctx, e)
		if err != nil {
			return fmt.Errorf("headers.%s: %w", h.name, err)
		}
		if !validHeaderValue(value) {
			return observer.Permanent(observer.ReasonTemplate,
				fmt.Errorf("headers.%s: the value contains a line break or control character", h.name))
		}
		req.Header.Set(h.name, value)
	}
	return nil
}

// identify adds the key of the delivery, which is the same on every attempt,
// and a signature by each active secret.
func (a *Action) identify(req *http.Request, key, body string) error {
	id, now := headerKey(key), time.Now()
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header[idempotencyHeader] = []string{id}
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	signatures := make([]string, 0, len(a.signers))
	for _, s := range a.signers {
		signature, err := s.Sign(id, now, []byte(body))
		if err != nil {
			return fmt.Errorf("sign request: %w", err)
		}
		signatures = append(signatures, signature)
	}
	if len(signatures) > 0 {
		req.Header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	}
	return nil
}

// headerKey is a delivery key as it travels in headers: letters, digits and
// / _ - as they are, every other byte percent-encoded. That covers what a header
// cannot carry, and the full stop: a signature covers "id.timestamp.body", which
// is unambiguous only when the id has none.
func headerKey(key string) string {
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; isAlphanumeric(c) || strings.IndexByte("/_-", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// validHeaderValue is the rule of RFC 9110: no control character but the tab.
func validHeaderValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
