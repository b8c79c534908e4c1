package outbound

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/fraiseql/observer"
)

// userAgent is how requests introduce themselves.
const userAgent = "FraiseQL-Observer"

// The content types of [NewPost].
const (
	TypeJSON = "application/json; charset=utf-8"
	TypeForm = "application/x-www-form-urlencoded"
)

// NewPost is a POST of body.
func NewPost(ctx context.Context, to *url.URL, contentType string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	target := *to
	req.URL, req.Host = &target, target.Host
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", userAgent)
	return req, nil
}

// EncodeJSON is payload as JSON in which < > and & stand as they are: receivers
// count bytes.
func EncodeJSON(payload any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(payload); err != nil {
		return nil, observer.Permanent(observer.ReasonTemplate, fmt.Errorf("encode message: %w", err))
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}

// ParseBase reads the address of an API that requests with credentials go to:
// https, or http to the loopback interface, so that nobody on the way reads them.
// Its path begins with a slash.
func ParseBase(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("is not a valid URL")
	case u.Hostname() == "":
		return nil, errors.New("must begin with https:// and name a host")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, errors.New("must begin with https://; http:// is for the loopback interface only, because credentials are sent there")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("must not contain credentials, a query or a fragment")
	}
	if u.Path == "" {
		u.Path = "/" // what is joined to none would be relative
	}
	return u, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// Invalid is err as one of the key field of a configuration; nil stays nil.
func Invalid(field string, err error) error {
	if err == nil {
		return nil
	}
	return &observer.FieldError{Field: field, Err: err}
}

// Text is a rendered template without spaces around it, which must not be empty.
func Text(ctx context.Context, t Renderer, e *observer.Event) (string, error) {
	text, err := t.Render(ctx, e)
	if err != nil {
		return "", err
	}
	if text = strings.TrimSpace(Clean(text)); text == "" {
		return "", observer.Permanent(observer.ReasonTemplate, errors.New("the value is empty"))
	}
	return text, nil
}
