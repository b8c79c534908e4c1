package topology_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/topology"
)

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("observer.toml", []byte(text+"\n[network]\nallow = [\"127.0.0.0/8\"]\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestPostgresOnlyRefusesOtherConfigurations(t *testing.T) {
	t.Parallel()
	const first, second = "[[databases]]\nname = \"a\"\nurl = \"postgres://127.0.0.1:1/a\"\n", "[[databases]]\nname = \"b\"\nurl = \"postgres://127.0.0.1:1/b\"\n"
	for want, text := range map[string]string{
		"observer.toml has 2 databases":                first + second,
		"database shop is sqlite":                      "[[databases]]\nname = \"shop\"\nurl = \"sqlite:shop.db\"\n",
		"[state] url of observer.toml is sqlite":       first + "[state]\nurl = \"sqlite:state.db\"\n",
		"127.0.0.1:1 cannot be reached: connection re": first,
	} {
		built, err := topology.PostgresOnly(t.Context(), parsed(t, text), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
		if built != nil {
			t.Errorf("something was built: %v", built.Close())
		}
	}
}

// postgresOrders is the URL of a database with a captured table.
func postgresOrders(t *testing.T) string {
	t.Helper()
	url := testenv.Database(t)
	testenv.Exec(t, testenv.Connect(t, url), "CREATE TABLE orders (id int PRIMARY KEY, status text)")
	if _, err := capture.Add(t.Context(), url, capture.Capture{Table: "orders", Entity: "Order", BeforeImage: true}); err != nil {
		t.Fatal(err)
	}
	return url
}

// postgresShop is such a database, and the system on it.
func postgresShop(t *testing.T, more string) (*topology.Topology, string) {
	t.Helper()
	url := postgresOrders(t)
	cfg := parsed(t, "[[databases]]\nname = \"shop\"\nurl = '"+url+"'\n"+more)
	built, err := topology.PostgresOnly(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = built.Close() })
	return built, url
}

func TestPostgresOnlyFromCommitToAction(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(string) int { return http.StatusOK })
	built, url := postgresShop(t, observerTo("shipped", r.URL+"/shipped", `condition = "field_changed_to('status', 'shipped')"`))
	stop := run(t, built)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, "INSERT INTO orders VALUES (1, 'new')")
	testenv.Exec(t, conn, "UPDATE orders SET status = 'shipped'")
	r.await(t, "/shipped")
	stop()
	if got := r.bodies["/shipped"]; len(got) != 1 || !strings.Contains(got[0], `"changes":{"status":{"old":"new","new":"shipped"}}`) {
		t.Errorf("bodies %v", got)
	}
}

// A source that has to go back raises the global alert.
func TestSequenceThatMovedBackRaisesTheAlert(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(string) int { return http.StatusOK })
	built, url := postgresShop(t, observerTo("all", r.URL+"/all", "")+fmt.Sprintf("[alert]\ntype = \"webhook\"\nurl = %q\n", r.URL+"/alert"))
	run(t, built)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, "INSERT INTO orders VALUES (1, 'new')")
	r.await(t, "/all")
	testenv.Exec(t, conn, "DELETE FROM core.tb_entity_change_log")
	testenv.Exec(t, conn, "SELECT setval(pg_get_serial_sequence('core.tb_entity_change_log', 'pk_entity_change_log'), 1, false)")
	testenv.Exec(t, conn, "INSERT INTO orders VALUES (2, 'new')")
	r.await(t, "/alert")
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := r.bodies["/alert"]; !strings.Contains(got[0], `"observer":"database shop"`) || !strings.Contains(got[0], `"reason":"rewound"`) {
		t.Errorf("alerts %v", got)
	}
}

// Beginning now saves the place once: what is there already is left alone.
func TestBeginKeepsACheckpoint(t *testing.T) {
	t.Parallel()
	built, url := postgresShop(t, "start = \"now\"\n")
	load := func() observer.Position {
		t.Helper()
		if err := built.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		cp, err := built.Store.LoadCheckpoint(t.Context(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		return cp.Position
	}
	first := load()
	testenv.Exec(t, testenv.Connect(t, url), "INSERT INTO orders VALUES (1, 'new')")
	if again := load(); again != first {
		t.Errorf("the place moved from %s to %s", first, again)
	}
}

// Databases are asked at once: one that does not answer keeps no other waiting.
func TestBeginAsksTheDatabasesAtOnce(t *testing.T) {
	t.Parallel()
	s, text := newShop(t), []string{"[state]\nurl = \"sqlite:state.db\""}
	var asked, givenUp [2]chan struct{}
	both := make(chan struct{})
	for i := range asked {
		asked[i], givenUp[i] = make(chan struct{}, 100), make(chan struct{}, 100)
		// It takes connections, and answers nothing until both have one.
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = silent.Close() })
		go func() {
			for {
				conn, err := silent.Accept()
				if err != nil {
					return
				}
				asked[i] <- struct{}{}
				go func() {
					if _, err := io.Copy(io.Discard, conn); err == nil {
						givenUp[i] <- struct{}{}
					}
				}()
				go func() { <-both; _ = conn.Close() }()
			}
		}()
		text = append(text, fmt.Sprintf("[[databases]]\nname = \"db%d\"\nurl = \"postgres://%s/x?sslmode=disable\"\nstart = \"now\"", i, silent.Addr()))
	}
	cfg, err := config.Parse(filepath.Join(s.dir, "observer.toml"), []byte(strings.Join(text, "\n")), nil)
	if err != nil {
		t.Fatal(err)
	}
	built, ended := build(t, cfg), make(chan error, 1)
	go func() { ended <- built.Begin(t.Context()) }()
	for i := range asked {
		<-asked[i]
	}
	select {
	case <-givenUp[0]:
		t.Error("the second database was asked when the first had been given up")
	default:
	}
	close(both)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
