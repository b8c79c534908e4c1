package topology_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
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
