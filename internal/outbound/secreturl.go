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
	// secretBytes is from where on the end of a path, and a value of the query, is
	// kept out of texts: what is shorter would redact common words.
	secretBytes = 8
	// partBytes is the same for the other parts of the path, which the providers
	// name themselves ("webhooks", "workflows").
	partBytes = 16
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
		redactor: redactor.With(secret).With(tokens(u)...),
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

// tokens are the parts of a URL that nobody is to know.
func tokens(u *url.URL) []observer.Secret {
	found := atLeast(secretBytes, u.RequestURI(), u.Path, u.EscapedPath(), path.Base(u.Path))
	found = append(found, atLeast(partBytes, strings.Split(u.Path, "/")...)...)
	for parameter := range strings.SplitSeq(u.RawQuery, "&") {
		_, raw, _ := strings.Cut(parameter, "=")
		found = append(found, atLeast(secretBytes, raw)...)
		if value, err := url.QueryUnescape(raw); err == nil {
			found = append(found, atLeast(secretBytes, value)...)
		}
	}
	return found
}

func atLeast(n int, texts ...string) []observer.Secret {
	var secrets []observer.Secret
	for _, text := range texts {
		if len(text) >= n {
			secrets = append(secrets, observer.NewSecret(text))
		}
	}
	return secrets
}
