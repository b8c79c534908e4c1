package push

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// maxKeyFile is the longest file that is read as a key, in bytes.
const maxKeyFile = 64 << 10

// account is a service account: who asks for tokens, and how that is proved.
type account struct {
	email    string
	keyID    string
	project  string
	key      *rsa.PrivateKey
	tokenURI *url.URL
	audience string // tokenURI as the document has it
	secrets  []observer.Secret
}

// parseAccount reads the key of a service account. Its errors repeat nothing of
// it.
func parseAccount(document string) (*account, error) {
	var file struct {
		Type        string `json:"type"`
		ProjectID   string `json:"project_id"`
		KeyID       string `json:"private_key_id"`
		PrivateKey  string `json:"private_key"`
		ClientEmail string `json:"client_email"`
		TokenURI    string `json:"token_uri"`
	}
	if json.Unmarshal([]byte(document), &file) != nil {
		return nil, errors.New("is not the JSON key of a service account")
	}
	if file.Type != "service_account" || file.ClientEmail == "" {
		return nil, errors.New(`is not the JSON key of a service account: "type" must be "service_account", with a "client_email"`)
	}
	key, err := parseKey(file.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf(`"private_key" %w`, err)
	}
	tokenURI, err := outbound.ParseBase(file.TokenURI)
	if err != nil {
		return nil, fmt.Errorf(`"token_uri" %w`, err)
	}
	return &account{
		email: file.ClientEmail, keyID: file.KeyID, project: file.ProjectID, key: key, tokenURI: tokenURI, audience: file.TokenURI,
		secrets: []observer.Secret{observer.NewSecret(document), observer.NewSecret(file.PrivateKey)},
	}, nil
}

// parseKey reads a PEM key: PKCS #8, as Google writes it, or PKCS #1.
func parseKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("is not a PEM key")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("is not an RSA key")
	}
	return key, nil
}

// readKeyFile reads a file that may be a mounted secret, and nothing that could
// block or have no end.
func readKeyFile(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", errors.New("must be an absolute path")
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", withoutPath(err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return "", fmt.Errorf("is not a file of at most %d bytes", maxKeyFile)
	}
	f, err := os.Open(path) //nolint:gosec // The configuration names the file.
	if err != nil {
		return "", withoutPath(err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return "", withoutPath(err)
	}
	return string(b), nil
}

// withoutPath keeps a path out of errors that came from the environment.
func withoutPath(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		err = p.Err
	}
	return fmt.Errorf("cannot be read: %w", err)
}
