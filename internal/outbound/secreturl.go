package outbound

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/fraiseql/observer"
)

const (
	// tokenLength is from where on a part of a secret URL is kept secret by itself:
	// a shorter one would redact common text.
	tokenLength = 6
	// lastLength and wordLength are from where on the last and another part of its
	// path is no word that a provider chose, such as "invoke" and "workflows", even
	// without a digit in it.
	lastLength = 8
	wordLength = 16
)

// SecretURL is an address that is a secret as a whole: whoever knows it can post
// there. It is safe for concurrent use once it is made.
type SecretURL struct {
	to       *url.URL
	endpoint string
	redactor observer.Redactor
}

// ParseSecretURL reads the URL of an incoming webhook of a provider that the
// actions of type kind post to; redactor knows the secrets of the configuration.
// Its errors do not repeat the URL.
func ParseSecretURL(kind string, secret observer.Secret, redactor observer.Redactor) (*SecretURL, error) {
	if secret.IsZero() {
		return nil, errors.New("is required")
	}
	u, err := url.Parse(secret.Reveal())
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("is not the http(s) URL of an incoming webhook")
	}
	u.Fragment, u.RawFragment = "", ""
	return &SecretURL{
		to:       u,
		endpoint: Endpoint(redactor, kind, u.Host, u.RequestURI(), true),
		redactor: redactor.With(Forms(tokens(secret, u)...)...),
	}, nil
}

// Endpoint is the host and a hash of the whole: each such URL is a receiver of
// its own.
func (s *SecretURL) Endpoint() string { return s.endpoint }

// Redactor knows the URL and the parts of it that answers and network errors
// may name.
func (s *SecretURL) Redactor() observer.Redactor { return s.redactor }

// With is the same address with one more parameter in its query, or another
// value for one that is there.
func (s *SecretURL) With(name, value string) *SecretURL {
	other, to := *s, *s.to
	query := to.Query()
	query.Set(name, value)
	to.RawQuery = query.Encode()
	other.to = &to
	return &other
}

// PostJSON is a request that posts body there.
func (s *SecretURL) PostJSON(ctx context.Context, body []byte) (*http.Request, error) {
	return NewPost(ctx, s.to, TypeJSON, body)
}

// tokens are what answers and network errors may name of a secret URL: the whole,
// its path, the last part of that, where most providers have the token, the parts
// that look like one, where others have it, and the values of the query.
func tokens(whole observer.Secret, u *url.URL) []observer.Secret {
	parts := []string{u.RequestURI(), u.Path, u.EscapedPath(), u.RawQuery}
	if last := path.Base(u.Path); len(last) >= lastLength {
		parts = append(parts, last)
	}
	for part := range strings.SplitSeq(u.Path, "/") {
		if len(part) >= wordLength || strings.ContainsAny(part, "0123456789") {
			parts = append(parts, part)
		}
	}
	for parameter := range strings.SplitSeq(u.RawQuery, "&") {
		_, raw, _ := strings.Cut(parameter, "=")
		parts = append(parts, raw)
		if value, err := url.QueryUnescape(raw); err == nil {
			parts = append(parts, value)
		}
	}
	found := []observer.Secret{whole}
	for _, part := range parts {
		if len(part) >= tokenLength {
			found = append(found, observer.NewSecret(part))
		}
	}
	return found
}
