package push

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

const (
	scope = "https://www.googleapis.com/auth/firebase.messaging"
	// skew is how far the clock here may be ahead: an assertion of the future is
	// refused.
	skew = 10 * time.Second
	// assertionTime is how long an assertion counts: no longer is allowed.
	assertionTime = time.Hour
)

// assertion is the signed statement that is exchanged for a token: a JWT with
// RS256 (RFC 7515, RFC 7523).
func (a *account) assertion(now time.Time) (string, error) {
	issued := now.Add(-skew)
	header, err := segment(map[string]string{"alg": "RS256", "typ": "JWT", "kid": a.keyID})
	if err != nil {
		return "", err
	}
	claims, err := segment(map[string]any{
		"iss": a.email, "scope": scope, "aud": a.audience,
		"iat": issued.Unix(), "exp": issued.Add(assertionTime).Unix(),
	})
	if err != nil {
		return "", err
	}
	signed := header + "." + claims
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign the request for a token: %w", err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func segment(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode the request for a token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}
