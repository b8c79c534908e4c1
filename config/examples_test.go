package config_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
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
