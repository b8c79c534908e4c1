//go:build unix

package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fraiseql/observer"
)

// parrot is a receiver that fails and repeats everything it was told, as
// debugging proxies and careless error pages do.
type parrot struct {
	mu   sync.Mutex
	said strings.Builder
}

func (p *parrot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var answer bytes.Buffer
	fmt.Fprintf(&answer, "cannot %s %s %q\n", r.Method, r.URL, body)
	_ = r.Header.Write(&answer)
	p.mu.Lock()
	p.said.Write(answer.Bytes())
	p.mu.Unlock()
	status := http.StatusUnprocessableEntity
	if strings.HasPrefix(r.URL.Path, "/busy") {
		w.Header().Set("Retry-After", "3600")
		status = http.StatusServiceUnavailable
	}
	if strings.HasPrefix(r.URL.Path, "/moved") {
		w.Header().Set("Location", "http://"+r.Host+r.URL.RequestURI())
		status = http.StatusFound
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer.Bytes())
}

// TestInvariant9NoSecretAnywhere gives every place that takes a secret one,
// lets everything fail in front of receivers that repeat what they were told,
// and looks for the values in all that the program leaves or prints.
func TestInvariant9NoSecretAnywhere(t *testing.T) {
	t.Parallel()
	p := &parrot{}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	const key = "bm90LXRoZS1yZWFsLXNlY3JldC0wMTIzNDU2Nzg5"
	secrets := map[string]string{
		"E2E_SIGNING":     "whsec_" + key,
		"E2E_QUERY_TOKEN": "query-token-7f3e9a1c",
		"E2E_PATH_TOKEN":  "path-token-55d0c2b8",
		"E2E_BEARER":      "bearer-4b6e8d0f2a4c",
		"E2E_BODY_TOKEN":  "body-token-90ab12cd",
		"E2E_LOG_TOKEN":   "log-token-3c3c77ee",
		"E2E_SLACK":       server.URL + "/services/T0001/B0002/slack-9z8y7x6w5v",
		"E2E_DOWN":        "http://127.0.0.1:1/hook?down-token-00112233",
	}
	hidden := map[string]string{"signing key": key, "slack path": "slack-9z8y7x6w5v", "down query": "down-token-00112233"}
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	hidden["decoded signing key"] = string(raw)
	text := secretive(server.URL)
	s := newSite(t, text)
	for name, value := range secrets {
		s.env = append(s.env, name+"="+value)
		if name != "E2E_SLACK" && name != "E2E_DOWN" { // their hosts are no secret
			hidden[name] = value
		}
	}
	shop := newShop(s)
	shop.put(1)
	s.start()
	eventually(t, "every action has failed", func() bool {
		return len(s.stored(observer.Dead)) >= 3 && len(s.stored("")) >= 5
	})
	printed := s.everythingPrinted()
	s.stop()
	// A file that is refused is quoted in the error.
	s.configure(text + "\n[[observers]]\nname = \"bad\"\nentity = \"Item\"\n[[observers.actions]]\ntype = \"webhook\"\nurl = \"ftp://${E2E_QUERY_TOKEN}/${E2E_BEARER}\"\n")
	printed += s.printed("validate-config", s.config())

	p.mu.Lock()
	told := p.said.String()
	p.mu.Unlock()
	for _, name := range []string{"E2E_QUERY_TOKEN", "E2E_PATH_TOKEN", "E2E_BEARER", "E2E_BODY_TOKEN"} {
		if !strings.Contains(told, secrets[name]) {
			t.Errorf("the receiver never saw %s, so the test shows nothing about it", name)
		}
	}
	found := s.files()
	found["what the commands print"] = printed
	for where, content := range found {
		for name, value := range hidden {
			if i := strings.Index(content, value); i >= 0 {
				t.Errorf("%s is in %s: ...%q...", name, where, content[max(0, i-80):min(len(content), i+len(value)+20)])
			}
		}
	}
	if !strings.Contains(printed, "cannot POST") {
		t.Error("no answer of the receiver is shown, so the test shows nothing about them")
	}
}

// secretive is a configuration with a secret in every place that takes one.
func secretive(url string) string {
	var text strings.Builder
	text.WriteString("[log]\nlevel = \"debug\"\n")
	for _, path := range []string{"failing", "busy", "moved"} {
		fmt.Fprintf(&text, `
[[observers]]
name = %q
entity = "Item"
[[observers.actions]]
type = "webhook"
url = "%s/%s/${E2E_PATH_TOKEN}?token=${E2E_QUERY_TOKEN}"
headers = { Authorization = "Bearer ${E2E_BEARER}" }
body_template = '{"token": "${E2E_BODY_TOKEN}", "id": {{ data.id }}}'
signing_secret_env = "E2E_SIGNING"
`, path, url, path)
	}
	text.WriteString(`
[[observers]]
name = "chat"
entity = "Item"
[[observers.actions]]
type = "slack"
webhook_url_env = "E2E_SLACK"
message_template = "item {{ data.id }}"
[[observers.actions]]
type = "webhook"
url_env = "E2E_DOWN"
[[observers.actions]]
type = "log"
message_template = "item {{ data.id }} ${E2E_LOG_TOKEN}"
`)
	return text.String()
}

// everythingPrinted runs the commands that show state.
func (s *site) everythingPrinted() string {
	s.t.Helper()
	var b strings.Builder
	show := func(args ...string) { b.WriteString(s.printed(append(args, "--config", s.config())...)) }
	dead := s.stored(observer.Dead)
	for _, d := range dead {
		show("dlq", "show", d.Key, "--format", "json")
	}
	show("dlq", "show", dead[0].Key)
	for _, args := range [][]string{{"status"}, {"status", "--format", "json"}, {"dlq", "list"}, {"dlq", "list", "--format", "json"}, {"dlq", "stats", "--format", "json"}, {"endpoints", "list"}, {"endpoints", "list", "--format", "json"}, {"dlq", "retry-all"}} {
		show(args...)
	}
	return b.String()
}

func (s *site) printed(args ...string) string {
	s.t.Helper()
	stdout, stderr, _ := commandWith(s.t, s.dir, s.env, args...)
	return stdout + stderr
}

// files are the contents of all that the daemon left behind, the log included.
func (s *site) files() map[string]string {
	s.t.Helper()
	found := map[string]string{}
	list, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range list {
		if strings.HasSuffix(f.Name(), ".toml") || f.IsDir() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(s.dir, f.Name()))
		if err != nil {
			s.t.Fatal(err)
		}
		found[f.Name()] = string(content)
	}
	if len(found["daemon.log"]) == 0 || len(found["state.db"]) == 0 {
		s.t.Fatalf("the log or the state is missing: %d files", len(found))
	}
	return found
}
