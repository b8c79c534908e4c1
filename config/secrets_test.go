package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fraiseql/observer/action/email"
	"github.com/fraiseql/observer/action/slack"
	"github.com/fraiseql/observer/action/webhook"
	"github.com/fraiseql/observer/config"
)

const secretFile = `
[[databases]]
name = "shop"
url = "sqlite:${S1}.db"
[state]
url_env = "S2"
[transport]
transport = "nats"
[transport.nats]
url = "tls://literal-canary.example.com"
user = "${S13}"
password_env = "S14"
consumer_name = "${S15}"
[transport.bridge]
transport_name = "${S16}"
[smtp]
host = "mail.example.com"
username_env = "S3"
password = "literal-canary"
from = "a@example.com"
[alert]
type = "slack"
webhook_url = "https://hooks.slack.com/${S4}"
message_template = "x"
[[observers]]
name = "o"
entity = "${S5}"
condition = "data.key == '${S6}'"
[[observers.actions]]
type = "webhook"
url = "https://example.com/${S7}"
headers = { Authorization = "Bearer ${S8}", X-Other_env = "S9" }
signing_secret = "whsec_bGl0ZXJhbC1jYW5hcnktbGl0ZXJhbC1jYW5hcnk="
[[observers.actions]]
type = "email"
to = ["${S10}@example.com"]
subject = "x"
body_template_env = "S11"
[[observers.actions]]
type = "log"
[[observers.actions]]
type = "slack"
webhook_url_env = "S12"
message_template = "x"
`

func secretEnvironment() map[string]string {
	vars := map[string]string{}
	for i := 1; i <= 16; i++ {
		vars[fmt.Sprintf("S%d", i)] = fmt.Sprintf("canary%d", i)
	}
	vars["S2"] = "sqlite:canary2.db"
	vars["S12"] = "https://hooks.slack.com/canary12"
	vars["FRAISEQL_OBSERVERS_0_ACTIONS_2_MESSAGE_TEMPLATE"] = "canary13"
	return vars
}

// TestNothingPrintsSecrets: Invariant 9.
func TestNothingPrintsSecrets(t *testing.T) {
	t.Parallel()
	c := parse(t, secretFile, secretEnvironment())
	// That the secrets arrived is what makes their absence below mean something.
	equal(t, "url", c.Observers[0].Actions[0].Config.(*webhook.Config).URL, "https://example.com/canary7")
	equal(t, "entity", c.Observers[0].Entity, "canary5")
	equal(t, "user", c.Transport.NATS.User, "canary13")
	values := map[string]any{
		"config": c, "config value": *c, "databases": c.Databases, "database": c.Databases[0], "state": c.State,
		"alert": c.Alert, "alert value": *c.Alert, "observers": c.Observers, "observer": &c.Observers[0],
		"actions": c.Observers[0].Actions, "action": c.Observers[0].Actions[0], "smtp password": c.SMTP.Password,
		"transport": c.Transport, "nats": &c.Transport.NATS, "nats value": c.Transport.NATS,
	}
	for name, v := range values {
		for _, text := range printed(t, v) {
			if strings.Contains(text, "canary") || strings.Contains(text, "whsec_b") {
				t.Errorf("%s prints a secret: %s", name, text)
			}
		}
	}
}

// printed is v as programs print values.
func printed(t *testing.T, v any) []string {
	t.Helper()
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, v))
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("json", "value", v)
	slog.New(slog.NewTextHandler(&log, nil)).Info("text", "value", v)
	return append(texts, string(encoded), log.String())
}

func TestRedactorsKnowTheSecretsOfTheirTable(t *testing.T) {
	t.Parallel()
	c := parse(t, secretFile, secretEnvironment())
	hook := c.Observers[0].Actions[0].Config.(*webhook.Config)
	mail := c.Observers[0].Actions[1].Config.(*email.Config)
	alert := c.Alert.Action.Config.(*slack.Config)
	for name, knows := range map[string]bool{
		"url":                   hook.Redactor.Contains("... canary7 ..."),
		"header":                hook.Redactor.Contains("canary8"),
		"header by name":        hook.Redactor.Contains("canary9"),
		"literal secret":        hook.Redactor.Contains("whsec_bGl0ZXJhbC1jYW5hcnktbGl0ZXJhbC1jYW5hcnk="),
		"element of a list":     mail.Redactor.Contains("canary10"),
		"body by name":          mail.Redactor.Contains("canary11"),
		"url of the alert":      alert.Redactor.Contains("canary4"),
		"nothing but secrets":   !hook.Redactor.Contains("https://example.com/ POST Authorization"),
		"nothing of the others": !mail.Redactor.Contains("canary7"),
	} {
		if !knows {
			t.Errorf("%s: the redactor does not", name)
		}
	}
}

// TestErrorsShowNoSecrets puts a secret into every kind of value that something
// complains about and looks for it, and for its parts, in the complaint.
func TestErrorsShowNoSecrets(t *testing.T) {
	t.Parallel()
	const secret = `https://user:hunter2hunter2@host:badport"\/` + "\t`{{ dta.hunter2hunter2 }} ${"
	vars := map[string]string{"SECRET": secret}
	for name, text := range map[string]string{
		"database url":     "[[databases]]\nname = \"a\"\nurl = \"${SECRET}\"\n",
		"database url env": "[[databases]]\nname = \"a\"\nurl_env = \"SECRET\"\n",
		"database name":    "[[databases]]\nname = \"${SECRET}\"\nurl = \"sqlite:a.db\"\n",
		"duration":         "[[databases]]\nname = \"a\"\nurl = \"sqlite:a.db\"\npoll_interval = \"${SECRET}\"\n",
		"choice":           "[log]\nformat = \"${SECRET}\"\n",
		"level":            "[log]\nlevel = \"${SECRET}\"\n",
		"range":            "[network]\nallow = [\"${SECRET}\"]\n",
		"action type":      minimal + "type = \"${SECRET}\"\n",
		"webhook url":      minimal + "type = \"webhook\"\nurl = \"${SECRET}\"\n",
		"webhook url env":  minimal + "type = \"webhook\"\nurl_env = \"SECRET\"\n",
		"part of a url":    minimal + "type = \"webhook\"\nurl = \"gopher://x/${SECRET}\"\n",
		"method":           minimal + "type = \"webhook\"\nurl = \"https://x.example\"\nmethod = \"${SECRET}\"\n",
		"header":           minimal + "type = \"webhook\"\nurl = \"https://x.example\"\nheaders = { Content-Type = \"${SECRET}\" }\n",
		"signing secret":   minimal + "type = \"webhook\"\nurl = \"https://x.example\"\nsigning_secrets = [\"${SECRET}\"]\n",
		"body":             minimal + "type = \"webhook\"\nurl = \"https://x.example\"\nbody_template = '{\"a\": ${SECRET}'\n",
		"log level":        minimal + "type = \"log\"\nlevel = \"${SECRET}\"\n",
		"slack":            minimal + "type = \"slack\"\nwebhook_url = \"${SECRET}\"\nmessage_template = \"x\"\n",
		"nats url":         onlyDatabase + "[transport.nats]\nurl = \"${SECRET}\"\n",
		"nats url env":     onlyDatabase + "[transport.nats]\nurl_env = \"SECRET\"\n",
		"nats in a path":   onlyDatabase + "[transport]\ntransport = \"nats\"\nnats.url = \"nats://hunter2/x@host\"\n",
		"nats in a query":  onlyDatabase + "[transport]\ntransport = \"nats\"\nnats.url = \"nats://hunter2?x@host\"\n",
		"nats in a list":   onlyDatabase + "[transport]\ntransport = \"nats\"\nnats.url = \"nats://hunter2,x@host\"\n",
		"nats plaintext":   onlyDatabase + "[transport]\ntransport = \"nats\"\nnats.url = \"nats://u:hunter2@host\"\n",
		"nkey seed":        onlyDatabase + "[transport.nats]\nnkey_seed = \"${SECRET}\"\n",
		"nats twice":       onlyDatabase + "[transport.nats]\ntoken = \"${SECRET}\"\nuser = \"${SECRET}\"\n",
		"nats password":    onlyDatabase + "[transport.nats]\npassword = \"${SECRET}\"\n",
		"nats prefix":      onlyDatabase + "[transport.nats]\nsubject_prefix = \"${SECRET}\"\n",
		"nats stream":      onlyDatabase + "[transport.nats]\nstream_name = \"${SECRET}\"\n",
		"nats tenants":     onlyDatabase + "[transport.nats]\ntenants = [\"${SECRET}\", \"${SECRET}\"]\n",
		"transport":        onlyDatabase + "[transport]\ntransport = \"${SECRET}\"\n",
		"bridge":           onlyDatabase + "[transport.bridge]\ntransport_name = \"${SECRET}\"\n",
		"email":            minimal + "type = \"email\"\nto = \"${SECRET}\"\nsubject = \"x\"\nbody_template = \"x\"\n[smtp]\ntls = \"${SECRET}\"\n",
		"condition":        "[[observers]]\nname = \"o\"\nentity = \"E\"\ncondition = \"${SECRET}\"\n",
		"part":             "[[observers]]\nname = \"o\"\nentity = \"E\"\ncondition = \"dta == '${SECRET}'\"\n",
		"event type":       "[[observers]]\nname = \"o\"\nentity = \"E\"\nevent_type = [\"${SECRET}\"]\n",
		"on_failure":       "[[observers]]\nname = \"o\"\nentity = \"E\"\non_failure = \"${SECRET}\"\n",
		"twins":            minimal + "type = \"webhook\"\nurl = \"${SECRET}\"\nurl_env = \"SECRET\"\n",
		"malformed":        minimal + "type = \"webhook\"\nurl = \"${SECRET} ${\"\n",
		"a secret as name": minimal + "type = \"webhook\"\nurl_env = \"https://hunter2hunter2\"\n",
	} {
		_, err := config.Parse("f.toml", []byte(text), environ(vars))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, part := range []string{"hunter2", "badport", "dta.h"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q is in the message:\n%v", name, part, err)
			}
		}
	}
}

// TestShortSecretsAreReplaced: a secret too short to be looked for in parts is
// replaced where it stands whole, also as Go quotes it.
func TestShortSecretsAreReplaced(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"zq7", `z"q`, "z\tq"} {
		_, err := config.Parse("f.toml", []byte(minimal+"type = \"log\"\nlevel = \"${SECRET}\"\n[log]\nformat = \"a ${SECRET}\"\n"),
			environ(map[string]string{"SECRET": secret}))
		quoted := strings.Trim(fmt.Sprintf("%q", secret), `"`)
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), quoted) {
			t.Errorf("%q: %v", secret, err)
		}
		if err != nil && strings.Count(err.Error(), "[redacted]") != 2 {
			t.Errorf("the rest of the message is gone: %v", err)
		}
	}
}
