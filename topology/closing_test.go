package topology_test

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/topology"
)

// TestReplacedActionsLeaveNoConnections: what an action keeps open ends with its
// configuration, and with the process.
func TestReplacedActionsLeaveNoConnections(t *testing.T) {
	t.Parallel()
	redis := testenv.PrivateRedis(t, testenv.RedisOptions{})
	text := func(key string) string {
		return fmt.Sprintf("[[observers]]\nname = \"o\"\nentity = \"Order\"\n[[observers.actions]]\ntype = \"cache\"\nurl = %q\nkey_pattern = %q\n", redis.URL(), key)
	}
	s := newShop(t)
	built := build(t, s.parse(t, text("first")))
	handled := 0
	handle := func() {
		t.Helper()
		handled++
		if err := built.Executor.Handle(t.Context(), &observer.Event{
			ID: strconv.Itoa(handled), Operation: observer.Insert, EntityType: "Order", EntityID: "1", Data: []byte(`{"id":1}`),
		}); err != nil {
			t.Fatal(err)
		}
	}
	clients := func() []string {
		var ids []string
		for line := range strings.Lines(fmt.Sprint(redis.Command(t, "CLIENT", "LIST"))) {
			if strings.Contains(line, "name=fraiseql-observer") {
				id, _, _ := strings.Cut(line, " ")
				ids = append(ids, id)
			}
		}
		return ids
	}
	handle()
	before := clients()
	if len(before) == 0 {
		t.Fatal("the action has no connection")
	}
	if err := built.Reload(s.parse(t, text("second"))); err != nil {
		t.Fatal(err)
	}
	handle()
	awaitTrue(t, "the connections of the replaced action end", func() bool {
		now := strings.Join(clients(), " ") + " "
		for _, id := range before {
			if strings.Contains(now, id+" ") {
				return false
			}
		}
		return now != " "
	})
	if err := built.Close(); err != nil {
		t.Fatal(err)
	}
	awaitTrue(t, "all connections end", func() bool { return len(clients()) == 0 })
}

func awaitTrue(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

// TestBuildWhoseActionsFail: what was there when the configuration was read may
// be gone by now. Then everything that is open already is closed, with an error.
func TestBuildWhoseActionsFail(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, testCertificate(t), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := s.parse(t, fmt.Sprintf("[[observers]]\nname = \"o\"\nentity = \"Order\"\n[[observers.actions]]\ntype = \"webhook\"\nurl = \"https://example.com\"\ntls = { ca = %q }\n", authority))
	if err := os.Remove(authority); err != nil {
		t.Fatal(err)
	}
	built, err := topology.Build(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if built != nil || err == nil || !strings.Contains(err.Error(), authority) {
		t.Errorf("built %v, %v", built, err)
	}
}

// testCertificate is that of an authority, PEM.
func testCertificate(t *testing.T) []byte {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// TestPausedEndpointIsKnownFromTheStart: a lane may be faster than the worker,
// which looks at the endpoints all the time.
func TestPausedEndpointIsKnownFromTheStart(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newReceiver(t, ok)
	built := build(t, s.parse(t, "[[observers]]\nname = \"o\"\nentity = \"Order\"\n[[observers.actions]]\ntype = \"webhook\"\nurl = \""+r.URL+"/a\"\n"))
	if err := delivery.Pause(t.Context(), built.Store, "webhook "+r.URL+"/a"); err != nil {
		t.Fatal(err)
	}
	if err := built.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	handle(t, built, "e", "paid")
	if n := r.calls("/a"); n != 0 {
		t.Errorf("%d calls of a receiver that a person has paused", n)
	}
}
