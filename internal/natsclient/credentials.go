package natsclient

import (
	"strings"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/fraiseql/observer"
)

// Credentials are ways to say who one is, beside the URL.
type Credentials struct {
	User     string
	Password observer.Secret
	Token    observer.Secret
	// Seed is the seed of an NKey; SeedFile is a file with one.
	Seed     observer.Secret
	SeedFile string
	// JWT is the content of a credentials file (JWT and seed); JWTFile is its path.
	JWT     observer.Secret
	JWTFile string
	// Unreadable, if any, is told when a JWT cannot be read while the client connects:
	// one that connects again tells nobody else. It must not call the client.
	Unreadable func(error)
}

// Names of the keys that [Credentials] come from, for errors.
const (
	UserField        = "user"
	PasswordField    = "password"
	TokenField       = "token"
	SeedField        = "nkey_seed"
	SeedFileField    = "nkey_seed_file"
	CredentialsField = "credentials"
	JWTFileField     = "credentials_file"
)

// Option is the option of the client, nil without credentials. The error is an
// [observer.FieldError].
func (c Credentials) Option() (client.Option, error) {
	var given []string
	for _, way := range []struct {
		field string
		set   bool
	}{
		{UserField, c.User != ""}, {TokenField, !c.Token.IsZero()}, {SeedField, !c.Seed.IsZero()}, {SeedFileField, c.SeedFile != ""},
		{CredentialsField, !c.JWT.IsZero()}, {JWTFileField, c.JWTFile != ""},
	} {
		if way.set {
			given = append(given, way.field)
		}
	}
	if len(given) > 1 {
		return nil, field(given[1], "is another way to log in than "+given[0]+"; set one of them")
	}
	switch {
	case c.User == "" && !c.Password.IsZero():
		return nil, field(PasswordField, "needs user")
	case len(given) == 0:
		return nil, nil
	case c.User != "":
		return client.UserInfo(c.User, c.Password.Reveal()), nil
	case !c.Token.IsZero():
		return client.Token(c.Token.Reveal()), nil
	case !c.Seed.IsZero():
		return c.seed()
	case c.SeedFile != "":
		option, err := client.NkeyOptionFromSeed(c.SeedFile)
		return option, wrap(SeedFileField, err)
	}
	// The file is read when it is needed, so that one that was replaced counts from
	// the next connection on.
	if _, err := c.jwtAndKey(); err != nil {
		return nil, err
	}
	return client.UserJWT(func() (string, error) {
		u, err := c.jwtAndKey()
		if err != nil && c.Unreadable != nil {
			c.Unreadable(err)
		}
		return u.jwt, err
	}, func(nonce []byte) ([]byte, error) {
		u, err := c.jwtAndKey()
		if err != nil {
			return nil, err
		}
		return u.key.Sign(nonce)
	}), nil
}

func (c Credentials) seed() (client.Option, error) {
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(c.Seed.Reveal())))
	if err != nil {
		return nil, field(SeedField, "is not the seed of an NKey")
	}
	public, err := pair.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return nil, field(SeedField, "is not the seed of a user")
	}
	return client.Nkey(public, pair.Sign), nil
}
