package topology_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fraiseql/observer/config"
)

// Invariant 9: a condition that fails quotes itself, without the secrets in it.
func TestInvariant9ConditionTellsNoSecret(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
	text := "[[databases]]\nname = \"shop\"\nurl = \"sqlite:shop.db\"\n" + observerTo("o", r.URL+"/x", `condition = "data.missing == '${KEY}'"`)
	cfg, err := config.Parse(filepath.Join(s.dir, "o.toml"), []byte(text), func(name string) (string, bool) { return "canary", name == "KEY" })
	if err != nil {
		t.Fatal(err)
	}
	built := build(t, cfg)
	run(t, built)
	s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
	if dead := awaitDead(t, built.Store); strings.Contains(dead[0].Error, "canary") || !strings.Contains(dead[0].Error, "[redacted]") {
		t.Errorf("the error is %s", dead[0].Error)
	}
}
