package push_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

const email = "observer@shop-1.iam.gserviceaccount.com"

// google is the token service and the messaging service of one project, as their
// documentation describes them.
type google struct {
	tokenURL, apiURL string
	key              *rsa.PrivateKey

	mu       sync.Mutex
	issued   int    // tokens so far
	valid    string // the last of them, "" after it was withdrawn
	lifetime int    // of tokens, in seconds
	refuse   func(w http.ResponseWriter) bool
	status   int // of the answer to a message, 0 to accept it
	answer   string
	header   http.Header
	messages []string
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newGoogle(t *testing.T, key *rsa.PrivateKey) *google {
	t.Helper()
	g := &google{key: key, lifetime: 3599}
	tokens := httptest.NewServer(http.HandlerFunc(g.token))
	t.Cleanup(tokens.Close)
	messages := httptest.NewServer(http.HandlerFunc(g.message))
	t.Cleanup(messages.Close)
	g.tokenURL, g.apiURL = tokens.URL+"/token", messages.URL
	return g
}

// credentials are the key of a service account as Google gives it out.
func (g *google) credentials(t *testing.T) observer.Secret {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(g.key)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "shop-1", "private_key_id": "key-1", "client_email": email, "client_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "token_uri": g.tokenURL,
	})
	if err != nil {
		t.Fatal(err)
	}
	return observer.NewSecret(string(document))
}

func (g *google) token(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse != nil && g.refuse(w) {
		return
	}
	if err := g.verify(r); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"error": "invalid_grant", "error_description": %q}`, err)
		return
	}
	g.issued++
	g.valid = fmt.Sprintf("ya29.access-token-%d", g.issued)
	_, _ = fmt.Fprintf(w, `{"access_token": %q, "expires_in": %d, "token_type": "Bearer"}`, g.valid, g.lifetime)
}

// verify is what RFC 7523 and Google's documentation ask of the assertion.
func (g *google) verify(r *http.Request) error {
	if r.Method != http.MethodPost || r.PostFormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return errors.New("not a request for a token")
	}
	parts := strings.Split(r.PostFormValue("assertion"), ".")
	if len(parts) != 3 {
		return errors.New("not a JWT")
	}
	if err := g.verifySignature(parts); err != nil {
		return err
	}
	var header struct{ Alg, Typ, Kid string }
	var said claims
	for i, into := range []any{&header, &said} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(text, into) != nil {
			return errors.New("not a JWT")
		}
	}
	if header.Alg != "RS256" || header.Typ != "JWT" || header.Kid != "key-1" {
		return fmt.Errorf("header %+v", header)
	}
	return g.verifyClaims(said)
}

type claims struct {
	Iss, Scope, Aud string
	Iat, Exp        int64
}

func (g *google) verifyClaims(said claims) error {
	if said.Iss != email || said.Scope != "https://www.googleapis.com/auth/firebase.messaging" || said.Aud != g.tokenURL {
		return fmt.Errorf("claims %+v", said)
	}
	now := time.Now().Unix()
	if said.Iat > now || said.Iat < now-60 || said.Exp <= now || said.Exp > said.Iat+3600 {
		return errors.New("must be a short-lived token (60 minutes) and in a reasonable timeframe")
	}
	return nil
}

func (g *google) verifySignature(parts []string) error {
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPKCS1v15(&g.key.PublicKey, crypto.SHA256, sum[:], signature) != nil {
		return errors.New("invalid JWT signature")
	}
	return nil
}

func (g *google) message(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	g.mu.Lock()
	defer g.mu.Unlock()
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	switch {
	case g.valid == "" || r.Header.Get("Authorization") != "Bearer "+g.valid:
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"error": {"code": 401, "message": "invalid authentication credentials: %s", "status": "UNAUTHENTICATED"}}`, r.Header.Get("Authorization"))
	case g.status != 0:
		for name := range g.header {
			w.Header().Set(name, g.header.Get(name))
		}
		w.WriteHeader(g.status)
		_, _ = io.WriteString(w, g.answer)
	case r.Method != http.MethodPost || r.RequestURI != "/v1/projects/shop-1/messages:send":
		w.WriteHeader(http.StatusNotFound)
	default:
		g.messages = append(g.messages, string(body))
		_, _ = fmt.Fprintf(w, `{"name": "projects/shop-1/messages/%d"}`, len(g.messages))
	}
}

// set changes what the services do.
func (g *google) set(change func(*google)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(g)
}

func (g *google) tokensIssued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.issued
}

func (g *google) sent() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.messages...)
}
