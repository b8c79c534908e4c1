package config_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fraiseql/observer/config"
)

// serviceAccount is a key as Google gives it out.
func serviceAccount(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "shop", "client_email": "observer@shop.example", "token_uri": "https://oauth2.googleapis.com/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(document)
}

// TestExamplesOfActions: what docs/actions.md shows of each action is a valid
// configuration.
func TestExamplesOfActions(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../docs/actions.md")
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{
		"HOOK_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "HOOK_TOKEN": "hook-token", "SLACK_WEBHOOK": "https://hooks.slack.com/x",
		"SMTP_PASSWORD": "smtp-password", "TWILIO_AUTH_TOKEN": "auth-token", "FIREBASE_KEY": serviceAccount(t),
		"TEAMS_WEBHOOK": "https://teams.example.com/x", "DISCORD_WEBHOOK": "https://discord.com/api/webhooks/1/x",
		"WAREHOUSE_URL": "postgres://observer@warehouse.example.com/shop", "REDIS_URL": "rediss://redis.example.com",
		"NATS_URL": "tls://nats.example.com", "SEARCH_PASSWORD": "search-password",
	}
	kinds := map[string]bool{}
	for _, block := range regexp.MustCompile(`(?m)(^ {4}.*\n|^\n)+`).FindAllString(string(document), -1) {
		smtp, action, ok := strings.Cut(block, "[[observers.actions]]")
		if !ok {
			continue
		}
		c, err := config.Parse("observer.toml", []byte(minimal+action+"\n"+smtp), environ(vars))
		if err != nil {
			t.Errorf("%v in\n%s", err, block)
			continue
		}
		actions := c.Observers[0].Actions
		kinds[actions[len(actions)-1].Type] = true
	}
	for _, kind := range config.ActionTypes() {
		if !kinds[kind] {
			t.Errorf("docs/actions.md has no example of %s", kind)
		}
	}
}

// TestExampleFiles: every file in examples is valid, and has no key without an
// effect. They take their addresses from the environment.
func TestExampleFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../examples/*/*.toml")
	if err != nil || len(files) < 8 {
		t.Fatalf("found %q (%v)", files, err)
	}
	vars := environ(map[string]string{
		"SHOP_URL": "postgres://me@localhost/shop", "STATE_URL": "postgres://me@localhost/observer",
		"REDIS_URL": "redis://127.0.0.1:6379/0", "NATS_URL": "nats://127.0.0.1:4222", "HOOK_URL": "http://127.0.0.1:8080/shipped",
	})
	for _, file := range files {
		lookup := vars
		if strings.Contains(file, "embedded-library") {
			lookup = environ(map[string]string{"DATABASE_URL": "postgres://me@localhost/shop"})
		}
		c, err := config.Load(file, lookup)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, warning := range c.Warnings() {
			t.Errorf("%s: %s", file, warning)
		}
	}
}
