package webhook_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/webhook"
)

// documented gives the nth program in a language of docs/receiving.md.
func documented(t *testing.T, language string, n int) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/receiving.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) <= n {
		t.Fatalf("docs/receiving.md has %d programs in %s", len(blocks), language)
	}
	return blocks[n][1]
}

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// receive starts a receiver, which gets its port and one more variable, and
// gives the URL of its hook once it listens.
func receive(t *testing.T, variable string, command ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "PORT="+port, variable)
	cmd.WaitDelay = time.Second
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Cancel()
		if _ = cmd.Wait(); t.Failed() {
			t.Logf("the receiver said:\n%s", said.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
			return "http://" + address + "/hook"
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the receiver does not listen: %v", err)
		}
	}
}

// goReceiver builds a program of the document.
func goReceiver(t *testing.T, text string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "receiver")
	build := exec.CommandContext(t.Context(), program(t, "go"), "build", "-o", binary, write(t, "main.go", text))
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return binary
}

// accepts delivers with a configuration and reports whether the receiver took
// it; any failure but 401 is one of the test.
func accepts(t *testing.T, cfg webhook.Config) bool {
	t.Helper()
	result, err := newAction(t, cfg).Execute(t.Context(), actiontest.NewDelivery(7, "shipped é <>& \u2028"))
	if err != nil && result.Status != http.StatusUnauthorized {
		t.Fatalf("%+v, %v", result, err)
	}
	return err == nil
}

// A receiver of the documents accepts what its secret signed, during a rotation
// too, and nothing else.
func checkReceiver(t *testing.T, url string) {
	t.Helper()
	secret := observer.NewSecret
	for name, tt := range map[string]struct {
		secrets []observer.Secret
		want    bool
	}{
		"its secret":         {[]observer.Secret{secret(signingSecret)}, true},
		"new and old":        {[]observer.Secret{secret(otherSecret), secret(signingSecret)}, true},
		"old and new":        {[]observer.Secret{secret(signingSecret), secret(otherSecret)}, true},
		"beside a key pair":  {[]observer.Secret{secret(privateKey), secret(signingSecret)}, true},
		"another secret":     {[]observer.Secret{secret(otherSecret)}, false},
		"a key pair instead": {[]observer.Secret{secret(privateKey)}, false},
		"no secret":          {nil, false},
	} {
		if got := accepts(t, webhook.Config{URL: url, SigningSecrets: tt.secrets}); got != tt.want {
			t.Errorf("with %s: accepted %t, want %t", name, got, tt.want)
		}
	}
}

func TestDocumentedReceiverInGo(t *testing.T) {
	t.Parallel()
	checkReceiver(t, receive(t, "HOOK_SECRET="+signingSecret, goReceiver(t, documented(t, "go", 0))))
}

func TestDocumentedReceiverInPython(t *testing.T) {
	t.Parallel()
	python := program(t, "python3")
	// The library of the same module, so that nothing has to be installed.
	list := exec.CommandContext(t.Context(), program(t, "go"), "list", "-m", "-f", "{{.Dir}}", "github.com/standard-webhooks/standard-webhooks/libraries")
	dir, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	library := filepath.Join(strings.TrimSpace(string(dir)), "python")
	script := "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, " + `"` + library + `"` + ")\n" + documented(t, "python", 0)
	checkReceiver(t, receive(t, "HOOK_SECRET="+signingSecret, python, "-u", write(t, "receiver.py", script)))
}

// The library for TypeScript comes from npm; NODE_MODULES names a node_modules
// directory that has it.
func TestDocumentedReceiverInTypeScript(t *testing.T) {
	t.Parallel()
	node, modules := program(t, "node"), os.Getenv("NODE_MODULES")
	if modules == "" {
		t.Skip("NODE_MODULES does not say where the package standardwebhooks is")
	}
	script := write(t, "receiver.mjs", documented(t, "typescript", 0)) // it needs no types written out
	if err := os.Symlink(modules, filepath.Join(filepath.Dir(script), "node_modules")); err != nil {
		t.Fatal(err)
	}
	checkReceiver(t, receive(t, "HOOK_SECRET="+signingSecret, node, script))
}

// checkKeyReceiver is checkReceiver for one with a public key.
func checkKeyReceiver(t *testing.T, url string) {
	t.Helper()
	secret := observer.NewSecret
	for name, tt := range map[string]struct {
		secrets []observer.Secret
		want    bool
	}{
		"its key":          {[]observer.Secret{secret(privateKey)}, true},
		"its key, whole":   {[]observer.Secret{secret(wholeKey)}, true},
		"beside a secret":  {[]observer.Secret{secret(signingSecret), secret(privateKey)}, true},
		"new and old":      {[]observer.Secret{secret(otherKey), secret(privateKey)}, true},
		"another key":      {[]observer.Secret{secret(otherKey)}, false},
		"a secret instead": {[]observer.Secret{secret(signingSecret)}, false},
	} {
		if got := accepts(t, webhook.Config{URL: url, SigningSecrets: tt.secrets}); got != tt.want {
			t.Errorf("with %s: accepted %t, want %t", name, got, tt.want)
		}
	}
}

const goKeyReceiver = `package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	http.HandleFunc("POST /hook", func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || !verify(os.Getenv("HOOK_PUBLIC_KEY"), r.Header, body) {
			http.Error(w, "bad signature", http.StatusUnauthorized)
		}
	})
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}

`

func TestDocumentedKeyReceiverInGo(t *testing.T) {
	t.Parallel()
	checkKeyReceiver(t, receive(t, "HOOK_PUBLIC_KEY="+publicKey, goReceiver(t, goKeyReceiver+documented(t, "go", 1))))
}

func TestDocumentedKeyReceiverInPython(t *testing.T) {
	t.Parallel()
	python := program(t, "python3")
	if exec.CommandContext(t.Context(), python, "-c", "import cryptography").Run() != nil {
		t.Skip("the Python package cryptography is not installed")
	}
	script := documented(t, "python", 1) + `

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        ok = self.headers["webhook-signature"] and verify(os.environ["HOOK_PUBLIC_KEY"], self.headers, body)
        self.send_response(204 if ok else 401)
        self.end_headers()


ThreadingHTTPServer(("", int(os.environ["PORT"])), Receiver).serve_forever()
`
	checkKeyReceiver(t, receive(t, "HOOK_PUBLIC_KEY="+publicKey, python, "-u", write(t, "receiver.py", script)))
}

func TestDocumentedKeyReceiverInTypeScript(t *testing.T) {
	t.Parallel()
	node := program(t, "node")
	script := `import { createServer } from "node:http";
createServer(async (req, res) => {
  let body = "";
  req.setEncoding("utf8");
  for await (const chunk of req) body += chunk;
  const h = req.headers;
  res.writeHead(verify(h["webhook-id"], h["webhook-timestamp"], h["webhook-signature"], body) ? 204 : 401).end();
}).listen(Number(process.env.PORT));
` + strings.Replace(documented(t, "typescript", 1), "): boolean {", ") {", 1) // node before 22 does not know types
	checkKeyReceiver(t, receive(t, "HOOK_PUBLIC_KEY="+publicKey, node, write(t, "receiver.mjs", script)))
}

// Old and new at once, as the reference library sees it.
func TestReferenceLibraryAcceptsOldAndNewDuringARotation(t *testing.T) {
	t.Parallel()
	r := actiontest.NewReceiver(t)
	secret := observer.NewSecret
	steps := []struct {
		secrets  []observer.Secret
		old, new bool
	}{
		{[]observer.Secret{secret(signingSecret)}, true, false},
		{[]observer.Secret{secret(otherSecret), secret(signingSecret)}, true, true},
		{[]observer.Secret{secret(otherSecret), secret(privateKey), secret(signingSecret)}, true, true},
		{[]observer.Secret{secret(otherSecret)}, false, true},
	}
	for i, step := range steps {
		got := deliver(t, r, webhook.Config{URL: r.URL, SigningSecrets: step.secrets}, actiontest.NewDelivery(i, "shipped"))
		for text, want := range map[string]bool{signingSecret: step.old, otherSecret: step.new} {
			receiver, err := standardwebhooks.NewWebhook(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := receiver.Verify([]byte(got.Body), got.Header); (err == nil) != want {
				t.Errorf("step %d: %v, want verified %t", i, err, want)
			}
		}
	}
}
