package config_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/webhook"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/tlstest"
)

const onlyDatabase = "[[databases]]\nname = \"a\"\nurl = \"sqlite:a.db\"\n"

func TestProfileAllowsThisMachineAndSaysSo(t *testing.T) {
	t.Parallel()
	for profile, want := range map[string]bool{"": false, "profile = \"production\"\n": false, "profile = \"development\"\n": true} {
		c := parse(t, onlyDatabase+"[network]\n"+profile, nil)
		network := c.Network.Outbound()
		for _, host := range []string{"127.0.0.1", "127.8.8.8", "::1", "localhost"} {
			if err := network.Check(host, "8080"); (err == nil) != want {
				t.Errorf("with %q, %s: %v, want allowed %t", profile, host, err, want)
			}
		}
		for _, host := range []string{"10.0.0.1", "169.254.169.254", "192.168.0.1", "::ffff:10.0.0.1", "fd00::1", "0.0.0.0"} {
			if network.Check(host, "8080") == nil {
				t.Errorf("with %q, %s is allowed", profile, host)
			}
		}
		said := slices.ContainsFunc(c.Warnings(), func(w string) bool { return strings.Contains(w, `network.profile is "development"`) })
		if said != want {
			t.Errorf("with %q the warnings are %q", profile, c.Warnings())
		}
	}
}

func TestPortsOfTheNetwork(t *testing.T) {
	t.Parallel()
	one := parse(t, onlyDatabase+"[network]\nports = 8443\n", nil)
	list := parse(t, onlyDatabase+"[network]\nports = [443, 587]\n", nil)
	variable := parse(t, onlyDatabase, map[string]string{"FRAISEQL_NETWORK_PORTS": "443, 25"})
	equal(t, "one", one.Network.Ports, []int{8443})
	equal(t, "list", list.Network.Ports, []int{443, 587})
	equal(t, "variable", variable.Network.Ports, []int{443, 25})
	network := list.Network.Outbound()
	for port, want := range map[string]bool{"443": true, "587": true, "80": false, "65536": false} {
		if err := network.Check("example.com", port); (err == nil) != want {
			t.Errorf("port %s: %v", port, err)
		}
	}
	if err := parse(t, onlyDatabase, nil).Network.Outbound().Check("example.com", "22"); err != nil {
		t.Errorf("without ports: %v", err)
	}
}

func TestProxyIsASecret(t *testing.T) {
	t.Parallel()
	c := parse(t, onlyDatabase+"[network]\nproxy_env = \"PROXY\"\n", map[string]string{"PROXY": "http://ann:hunter2@proxy.example.com:3128"})
	if c.Network.Proxy.Reveal() == "" || strings.Contains(c.Network.Proxy.String(), "hunter2") {
		t.Errorf("the proxy is %v", c.Network.Proxy)
	}
	other := parse(t, onlyDatabase+"[network]\nproxy = \"http://proxy.example.com\"\n", nil)
	if diff := c.Diff(other); !slices.Contains(diff, "network") {
		t.Errorf("another proxy changes %q", diff)
	}
}

// What can be seen to be refused is said before anything fails.
func TestWarningsNameReceiversThatWillBeRefused(t *testing.T) {
	t.Parallel()
	action := func(keys string) string {
		return onlyDatabase + "[[observers]]\nname = \"o\"\nentity = \"Order\"\n[[observers.actions]]\n" + keys
	}
	const webhookTo = "type = \"webhook\"\nurl = "
	tests := map[string]struct{ text, want string }{
		"this machine":    {action(webhookTo + `"http://localhost:8080/x"`), "observers[0].actions[0].url: no request will be sent: address refused: 127.0.0.1 is loopback"},
		"private":         {action(webhookTo + `"http://10.0.0.5/{{ data.id }}"`), "10.0.0.5 is private"},
		"a short address": {action(webhookTo + `"http://127.1/"`), `"127.1" is neither a name nor an address`},
		"slack":           {action("type = \"slack\"\nwebhook_url = \"https://192.168.0.9/s3cret\"\nmessage_template = \"x\""), "webhook_url: no request will be sent: address refused: 192.168.0.9"},
		"port":            {action(webhookTo+`"https://example.com:8443/"`) + "\n[network]\nports = [443]\n", "port 8443 of example.com is not one of [network] ports"},
		"mail server":     {onlyDatabase + "[smtp]\nhost = \"10.0.0.25\"\n", "smtp: no message will be sent: address refused: 10.0.0.25 is private"},
		"mail port":       {onlyDatabase + "[smtp]\nhost = \"mail.example.com\"\n[network]\nports = [443]\n", "port 587 of mail.example.com"},
		"allowed":         {action(webhookTo+`"http://10.0.0.5/"`) + "\n[network]\nallow = \"10.0.0.5\"\n", ""},
		"public":          {action(webhookTo + `"https://example.com/"`), ""},
		"of the event":    {action(webhookTo + `"https://{{ data.host }}/"`), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			warnings := strings.Join(parse(t, tt.text, nil).Warnings(), "\n")
			if tt.want == "" && strings.Contains(warnings, "refused") || !strings.Contains(warnings, tt.want) || strings.Contains(warnings, "s3cret") {
				t.Errorf("%q, want %q in it", warnings, tt.want)
			}
		})
	}
}

// Actions that people point at servers of their own reach one that wants a
// certificate of an authority that nobody else knows.
func TestActionsOfServersThatWantACertificate(t *testing.T) {
	t.Parallel()
	a := tlstest.New(t)
	server := a.Server(a.Issue("receiver.test", time.Hour, tlstest.Loopback()), a.Pool())
	dir := t.TempDir()
	a.Files(dir, a.Issue("shop", time.Hour))
	for kind, keys := range map[string]string{
		"webhook": "url = \"" + server + "\"\n",
		"slack":   "webhook_url = \"" + server + "/hooks/x\"\nmessage_template = \"hi\"\n",
		"search":  "url = \"" + server + "\"\nindex = \"orders\"\n",
	} {
		for table, works := range map[string]bool{
			"":                          false,
			"tls = { ca = \"ca.pem\" }": false,
			"tls = { ca = \"ca.pem\", cert = \"cert.pem\", key = \"key.pem\" }": true,
		} {
			text := onlyDatabase + "[network]\nallow = [\"127.0.0.0/8\"]\n[[observers]]\nname = \"o\"\nentity = \"Order\"\n[[observers.actions]]\ntype = \"" + kind + "\"\n" + keys + table
			c, err := config.Parse(filepath.Join(dir, "observer.toml"), []byte(text), nil)
			if err != nil {
				t.Fatal(err)
			}
			network := c.Network.Outbound()
			t.Cleanup(network.HTTPClient().CloseIdleConnections)
			action, err := c.Observers[0].Actions[0].Build(config.Deps{Network: network, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			result, err := action.Execute(t.Context(), actiontest.NewDelivery(7, "shipped"))
			if known := result.Detail == "shop"; (err == nil) != works || known != works {
				t.Errorf("%s with %q: %+v, %v", kind, table, result, err)
			}
		}
	}
}

func TestTLSFilesStandBesideTheConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := onlyDatabase + "[[observers]]\nname = \"o\"\nentity = \"Order\"\n[[observers.actions]]\ntype = \"webhook\"\n" +
		"url = \"https://example.com\"\ntls = { ca = \"tls/ca.pem\" }\n"
	if _, err := config.Parse(filepath.Join(dir, "observer.toml"), []byte(text), nil); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "tls", "ca.pem")) {
		t.Errorf("%v, want that the file is missing", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile("testdata/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tls", "ca.pem"), authority, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse(filepath.Join(dir, "observer.toml"), []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	hook, ok := c.Observers[0].Actions[0].Config.(*webhook.Config)
	if !ok || hook.TLS.CA != filepath.Join(dir, "tls", "ca.pem") {
		t.Error(cmp.Diff(filepath.Join(dir, "tls", "ca.pem"), hook.TLS.CA))
	}
}
