package natsclient

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// user is who a JWT speaks of, and the key that proves it.
type user struct {
	jwt     string
	key     nkeys.KeyPair
	subject string
	expires time.Time // zero when it never does
}

// jwtAndKey reads the JWT and the seed. Its error is an observer.FieldError, which names
// the file and has nothing of its content.
func (c Credentials) jwtAndKey() (user, error) {
	name, content := "it", []byte(c.JWT.Reveal())
	at := CredentialsField
	if c.JWTFile != "" {
		var err error
		if content, err = os.ReadFile(c.JWTFile); err != nil {
			return user{}, wrap(JWTFileField, err)
		}
		at, name = JWTFileField, c.JWTFile
	}
	u, err := parseUser(content)
	if err != nil {
		return user{}, wrap(at, fmt.Errorf("%s %w (the form is that of nsc generate creds)", name, err))
	}
	return u, nil
}

// parseUser never repeats what it reads. What it returns as JWT is one: the content
// of a file without one would be sent to the server, seed and all.
func parseUser(content []byte) (user, error) {
	text, err := nkeys.ParseDecoratedJWT(content)
	text = strings.TrimSpace(text)
	parts := strings.Split(text, ".")
	if err != nil || len(parts) != 3 || strings.ContainsFunc(text, unicode.IsSpace) {
		return user{}, errors.New("has no JWT")
	}
	var claims struct {
		Subject string `json:"sub"`
		Expires int64  `json:"exp"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return user{}, errors.New("has no JWT that can be read")
	}
	if !nkeys.IsValidPublicUserKey(claims.Subject) {
		return user{}, errors.New("has a JWT that is not one of a user")
	}
	key, err := nkeys.ParseDecoratedUserNKey(content)
	if err != nil {
		return user{}, errors.New("has no seed of a user")
	}
	u := user{jwt: text, key: key, subject: claims.Subject}
	if claims.Expires != 0 {
		u.expires = time.Unix(claims.Expires, 0)
	}
	return u, nil
}

// Explain says of an error of the server which credentials it is about, as far as
// that can be known: the server does not say why it refuses a login.
func (c Credentials) Explain(err error) error {
	way := c.way()
	switch {
	case way == "":
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("the account of %s: %w", way, err)
	case errors.Is(err, client.ErrAuthorization), errors.Is(err, client.ErrAuthExpired),
		errors.Is(err, client.ErrAuthRevoked), errors.Is(err, client.ErrAccountAuthExpired):
		return fmt.Errorf("the server refuses %s%s: %w", way, c.reason(), err)
	}
	return err
}

// way names the credentials without a secret, "" when there are none.
func (c Credentials) way() string {
	switch {
	case c.User != "":
		return UserField + " " + c.User + " with this " + PasswordField
	case !c.Token.IsZero():
		return "this " + TokenField
	case !c.Seed.IsZero():
		return "this " + SeedField
	case c.SeedFile != "":
		return SeedFileField + " " + c.SeedFile
	case c.JWTFile != "":
		return JWTFileField + " " + c.JWTFile
	case !c.JWT.IsZero():
		return "these " + CredentialsField
	}
	return ""
}

// reason is what can be seen from here of why a JWT is refused.
func (c Credentials) reason() string {
	if c.JWTFile == "" && c.JWT.IsZero() {
		return ""
	}
	u, err := c.jwtAndKey()
	if err != nil {
		return "" // it was replaced a moment ago
	}
	public, err := u.key.PublicKey()
	switch {
	case err != nil || public != u.subject:
		return ", whose seed is not that of its JWT"
	case !u.expires.IsZero() && !time.Now().Before(u.expires):
		return ", whose JWT expired at " + u.expires.UTC().Format(time.RFC3339)
	}
	return ", whose user may be revoked, or of an account that the server does not know"
}
