package webhook

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fraiseql/observer"
)

const (
	secretPrefix     = "whsec_"
	privateKeyPrefix = "whsk_"
	minSecretBytes   = 24 // the least that Standard Webhooks asks for
)

// bare is a secret without its prefix.
func bare(s observer.Secret) string {
	return strings.TrimPrefix(strings.TrimPrefix(s.Reveal(), secretPrefix), privateKeyPrefix)
}

// signer makes one signature of a request, as it stands in its header.
type signer interface {
	Sign(id string, at time.Time, body []byte) (string, error)
}

// newSigner reads a secret: one that the receiver knows too, or a private key of
// which the receiver has the public one. Its prefix says which.
func newSigner(s observer.Secret) (signer, error) {
	if text, ok := strings.CutPrefix(s.Reveal(), privateKeyPrefix); ok {
		return newKeySigner(text)
	}
	if strings.HasPrefix(s.Reveal(), "whpk_") {
		return nil, errors.New(`is a public key, which is for the receiver: the private one begins with "whsk_"`)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Reveal(), secretPrefix))
	if err != nil {
		return nil, errors.New(`must be "whsec_" and base64, as in: echo "whsec_$(openssl rand -base64 32)"`)
	}
	if len(key) < minSecretBytes {
		return nil, fmt.Errorf("holds %d bytes, at least %d are needed", len(key), minSecretBytes)
	}
	return standardwebhooks.NewWebhookRaw(key)
}

// keySigner signs by ed25519, which the reference library does not.
type keySigner struct{ key ed25519.PrivateKey }

// newKeySigner takes a private key as its seed, or as seed and public key.
func newKeySigner(text string) (signer, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err != nil:
		return nil, errors.New(`must be "whsk_" and base64 of an ed25519 private key`)
	case len(b) == ed25519.SeedSize:
		return keySigner{ed25519.NewKeyFromSeed(b)}, nil
	case len(b) != ed25519.PrivateKeySize:
		return nil, fmt.Errorf("holds %d bytes; an ed25519 private key has %d, or %d with its public key", len(b), ed25519.SeedSize, ed25519.PrivateKeySize)
	}
	key := ed25519.NewKeyFromSeed(b[:ed25519.SeedSize])
	if !key.Equal(ed25519.PrivateKey(b)) {
		return nil, errors.New("ends with the public key of another private key")
	}
	return keySigner{key}, nil
}

// Sign signs what Standard Webhooks says: id, Unix time and body with full stops
// between.
func (s keySigner) Sign(id string, at time.Time, body []byte) (string, error) {
	message := append([]byte(id+"."+strconv.FormatInt(at.Unix(), 10)+"."), body...)
	return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(s.key, message)), nil
}
