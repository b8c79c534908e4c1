package nats

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
)

// operator is who signs the accounts of a server, and an account signs its users.
type operator struct {
	key    nkeys.KeyPair
	public string
}

type account struct {
	key    nkeys.KeyPair
	claims *jwt.AccountClaims
}

// created is a new key with its name.
func created(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	key, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}

func newOperator(t *testing.T) operator {
	t.Helper()
	key, public := created(t, nkeys.CreateOperator)
	return operator{key, public}
}

func newAccount(t *testing.T) account {
	t.Helper()
	key, public := created(t, nkeys.CreateAccount)
	return account{key, jwt.NewAccountClaims(public)}
}

// withJetStream lets the account store what it wants.
func (a account) withJetStream() account {
	a.claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	return a
}

// settings are those of a server that knows the accounts, of which the first is
// that of the system.
func (o operator) settings(t *testing.T, accounts ...account) string {
	t.Helper()
	claims := jwt.NewOperatorClaims(o.public)
	claims.SystemAccount = accounts[0].claims.Subject
	text, err := claims.Encode(o.key)
	if err != nil {
		t.Fatal(err)
	}
	var settings strings.Builder
	fmt.Fprintf(&settings, "operator: %q\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n", text, claims.SystemAccount)
	for _, a := range accounts {
		text, err := a.claims.Encode(o.key)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&settings, "%s: %q\n", a.claims.Subject, text)
	}
	return settings.String() + "}"
}

// badge is what a user logs in with.
type badge struct{ public, jwt, seed string }

// user is a new user of the account; expires is zero for one who never does.
func (a account) user(t *testing.T, expires time.Time) badge {
	t.Helper()
	key, public := created(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(public)
	if !expires.IsZero() {
		claims.Expires = expires.Unix()
	}
	text, err := claims.Encode(a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return badge{public, text, string(secret)}
}

// content is that of a credentials file.
func (b badge) content(t *testing.T) string {
	t.Helper()
	content, err := jwt.FormatUserConfig(b.jwt, []byte(b.seed))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func (b badge) file(t *testing.T) string {
	t.Helper()
	return credentialsFile(t, b.content(t))
}

func credentialsFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "$user.creds") // which is no variable
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secretsOf are pieces that no error may have: seeds, and parts of JWTs.
func (b badge) secretsOf() []string {
	parts := strings.Split(b.jwt, ".")
	return []string{b.seed, b.seed[:20], parts[0], parts[1][:20], parts[1], parts[2][:20]}
}

func wantNoSecret(t *testing.T, text string, badges ...badge) {
	t.Helper()
	for _, b := range badges {
		for _, secret := range b.secretsOf() {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %s", secret, text)
			}
		}
	}
}

// journal keeps what is logged, for several goroutines.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func TestJWTLogin(t *testing.T) {
	t.Parallel()
	o, system, acme := newOperator(t), newAccount(t), newAccount(t).withJetStream()
	good := acme.user(t, time.Now().Add(time.Hour))
	server := testenv.PrivateNATS(t, testenv.NATSOptions{Settings: o.settings(t, system, acme)})
	for name, cfg := range map[string]Config{
		"a file":      {CredentialsFile: good.file(t)},
		"its content": {Credentials: observer.NewSecret(good.content(t))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log journal
			cfg.URL, cfg.Logger = observer.NewSecret(server.URL()), slog.New(slog.NewTextHandler(&log, nil))
			conn, err := Connect(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			word := strings.ReplaceAll(name, " ", "_") // each has a stream of its own
			s := ensured(t, conn, StreamConfig{Name: word, SubjectPrefix: word, Partitions: 1})
			publish(t, newPublisher(t, s), events(1, 5))
			if got := len(stored(t, s, "shop")); got != 5 {
				t.Errorf("%d messages are stored, want 5", got)
			}
			source, err := NewSource(s, SourceConfig{Consumer: "workers", Logger: cfg.Logger})
			if err != nil {
				t.Fatal(err)
			}
			stream, err := source.Open(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stream.Close(context.WithoutCancel(t.Context())) }()
			for i := range 5 {
				if _, err := stream.Next(t.Context()); err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
			}
			wantNoSecret(t, log.String(), good)
		})
	}
}

func TestJWTLoginIsRefused(t *testing.T) {
	t.Parallel()
	o, system, acme, poor := newOperator(t), newAccount(t), newAccount(t).withJetStream(), newAccount(t)
	good, revoked := acme.user(t, time.Time{}), acme.user(t, time.Time{})
	acme.claims.RevokeAt(revoked.public, time.Now().Add(time.Hour))
	expired := acme.user(t, time.Now().Add(-time.Hour))
	unknown := newAccount(t).user(t, time.Time{})
	unstored := poor.user(t, time.Time{})
	server := testenv.PrivateNATS(t, testenv.NATSOptions{Settings: o.settings(t, system, acme, poor)})
	missing := credentialsFile(t, "") + "-missing"
	header, _, _ := strings.Cut(good.jwt, ".")
	tests := map[string]struct {
		file, want string
		permanent  bool
	}{
		"revoked":                {revoked.file(t), "user may be revoked", false},
		"another account":        {unknown.file(t), "an account that the server does not know", false},
		"expired":                {expired.file(t), "JWT expired at", false},
		"another seed":           {credentialsFile(t, strings.Replace(good.content(t), good.seed, revoked.seed, 1)), "seed is not that of its JWT", false},
		"an account that stores": {unstored.file(t), "JetStream is not enabled for this account", false},
		"no file":                {missing, "no such file", true},
		"an empty file":          {credentialsFile(t, ""), "has no JWT", true},
		"a seed alone":           {credentialsFile(t, good.seed+"\n"), "has no JWT", true},
		"a bare JWT and seed":    {credentialsFile(t, good.jwt+"\n"+good.seed+"\n"), "has no JWT", true},
		"a JWT alone":            {credentialsFile(t, good.jwt), "has no seed", true},
		"half a seed":            {credentialsFile(t, strings.Replace(good.content(t), good.seed, good.seed[:30], 1)), "has no seed", true},
		"half a JWT":             {credentialsFile(t, strings.Replace(good.content(t), good.jwt, header+".eyJ.x", 1)), "has no JWT that can be read", true},
		"a JWT of nobody":        {credentialsFile(t, strings.Replace(good.content(t), good.jwt, header+".e30.x", 1)), "is not one of a user", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log journal
			conn, err := Connect(t.Context(), Config{
				URL: observer.NewSecret(server.URL()), CredentialsFile: tt.file, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err == nil {
				defer func() { _ = conn.Close() }()
				err = newStream(t, conn, StreamConfig{}).Ensure(t.Context())
			}
			if err == nil {
				t.Fatal("the login is not refused")
			}
			if text := err.Error(); !strings.Contains(text, tt.want) || !strings.Contains(text, "credentials_file") || !strings.Contains(text, tt.file) {
				t.Errorf("%v, want %q, and credentials_file %s", err, tt.want, tt.file)
			}
			if observer.Retryable(err) == tt.permanent {
				t.Errorf("%v, want that it is permanent: %v", err, tt.permanent)
			}
			wantNoSecret(t, fmt.Sprint(err, log.String()), good, revoked, expired, unknown, unstored)
		})
	}
	t.Run("a content that is broken", func(t *testing.T) {
		t.Parallel()
		_, err := Connect(t.Context(), Config{URL: observer.NewSecret(server.URL()), Credentials: observer.NewSecret(good.jwt + "\n" + good.seed)})
		if err == nil || !strings.Contains(err.Error(), "credentials: it has no JWT") {
			t.Errorf("%v, want that the credentials have no JWT", err)
		}
		wantNoSecret(t, fmt.Sprint(err), good)
	})
}

// A file that is replaced counts when the client connects again, and one that is
// broken then is named in the log until it is mended.
func TestCredentialsFileIsReadAgain(t *testing.T) {
	t.Parallel()
	o, system, acme := newOperator(t), newAccount(t), newAccount(t).withJetStream()
	first, second := acme.user(t, time.Time{}), acme.user(t, time.Time{})
	server := testenv.PrivateNATS(t, testenv.NATSOptions{Settings: o.settings(t, system, acme)})
	file := first.file(t)
	var log journal
	conn, err := Connect(t.Context(), Config{URL: observer.NewSecret(server.URL()), CredentialsFile: file, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); !done(); wait(t.Context(), 20*time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited for %s:\n%s", what, log.String())
			}
		}
	}
	replace := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(second.seed)
	server.Restart(t)
	until("a warning", func() bool { return strings.Contains(log.String(), "cannot log in to NATS") })
	if text := log.String(); !strings.Contains(text, file+" has no JWT") {
		t.Errorf("the file is not named in %s", text)
	}
	replace(second.content(t))
	until("the connection", conn.nc.IsConnected)
	ensured(t, conn, StreamConfig{})
	wantNoSecret(t, log.String(), first, second)
}
